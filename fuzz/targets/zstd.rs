//! libFuzzer's way into [`fuzz::zstd`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::zstd(data));
