//! Compressed streams: never more comes out than may, and an end is an end.

use std::io::Read;

use layer::{Codec, Decompress};

const LIMIT: u64 = 1 << 20;

/// What follows the magic of gzip.
pub fn gzip(data: &[u8]) {
    expand(&[b"\x1f\x8b", data].concat(), Codec::Gzip);
}

/// What follows the magic of gzip, read as a header that is to be written again.
pub fn gzip_header(data: &[u8]) {
    use deflate::gzip::{HEADER_MAX, Header, HeaderError, candidates};
    let bytes = [b"\x1f\x8b\x08", data].concat();
    match Header::parse(&bytes) {
        Ok(header) => {
            assert!(bytes.starts_with(header.raw()) && header.raw().len() <= HEADER_MAX);
            assert_eq!(Header::parse(header.raw()).as_ref(), Ok(&header));
            let _ = candidates(&header);
        }
        Err(error) => assert!(error != HeaderError::Short || bytes.len() < HEADER_MAX),
    }
}

/// What follows the magic of a zstd frame.
pub fn zstd(data: &[u8]) {
    expand(&[b"\x28\xb5\x2f\xfd", data].concat(), Codec::Zstd);
}

fn expand(bytes: &[u8], codec: Codec) {
    let Ok(mut decoder) = Decompress::new(bytes, LIMIT) else { return };
    assert_eq!(decoder.codec(), codec);
    let mut buffer = [0; 16 * 1024];
    let mut count = 0;
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => count += read as u64,
            Err(_) => return,
        }
        assert!(count <= LIMIT);
    }
    assert_eq!(decoder.read(&mut buffer).expect("the end stays the end"), 0);
}
