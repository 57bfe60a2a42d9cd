//! libFuzzer's way into [`fuzz::image_config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::image_config(data));
