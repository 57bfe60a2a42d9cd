//! libFuzzer's way into [`fuzz::pax`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::pax(data));
