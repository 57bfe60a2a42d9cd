//! libFuzzer's way into [`fuzz::erofs_index`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::erofs_index(data));
