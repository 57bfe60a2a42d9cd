//! libFuzzer's way into [`fuzz::gzip_header`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::gzip_header(data));
