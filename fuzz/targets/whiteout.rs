//! libFuzzer's way into [`fuzz::whiteout`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::whiteout(data));
