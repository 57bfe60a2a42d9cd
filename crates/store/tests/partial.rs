//! Blobs that come in part: gone on with where they broke off, and not believed.

mod common;

use std::io::{self, Read};

use common::*;
use store::Error;

/// Gives bytes and then breaks off, as a connection does.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset by the other side")),
            read => Ok(read),
        }
    }
}

fn compressed() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(1_000_000).collect();
    zstd::encode_all(&tar().dir("usr").file("usr/a", &bytes).file("b", b"b").bytes()[..], 1).unwrap()
}

fn unfinished(scratch: &Scratch) -> Vec<u64> {
    let dir = scratch.dir.path().join("data/content/partial");
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect()
}

#[test]
fn a_broken_layer_is_gone_on_with() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let bytes = compressed();
    let (digest, size) = (sha256(&bytes), bytes.len() as u64);
    let expected = (&digest, size);
    let mut there = 0;
    for cut in [0, 1, 1000, bytes.len() / 2, bytes.len() - 1] {
        let ingest = scratch.store.ingest();
        let partial = ingest.partial(&digest, size).unwrap().unwrap();
        assert_eq!(partial.offset(), there);
        assert!(ingest.partial(&digest, size).unwrap().is_none(), "one at a time");
        let rest = Broken(&bytes[usize::try_from(there).unwrap()..cut]);
        ingest.rest_of_layer(partial, rest, expected, None).unwrap_err();
        there = cut as u64;
        assert_eq!(unfinished(&scratch), [there]);
    }
    // Whole, but its image does not come about: it stays for the next try.
    let ingest = scratch.store.ingest();
    let partial = ingest.partial(&digest, size).unwrap().unwrap();
    ingest.rest_of_layer(partial, &bytes[bytes.len() - 1..], expected, None).unwrap();
    assert!(ingest.partial(&digest, size).unwrap().is_none(), "until it has its name");
    drop(ingest);
    assert_eq!(unfinished(&scratch), [size]);
    let ingest = scratch.store.ingest();
    let partial = ingest.partial(&digest, size).unwrap().unwrap();
    assert_eq!(partial.offset(), size);
    let info = ingest.rest_of_layer(partial, io::empty(), expected, None).unwrap();
    ingest.commit().unwrap();
    assert_eq!(unfinished(&scratch), [0; 0]);
    assert_eq!(scratch.store.blobs().read(&digest, size).unwrap(), bytes);
    assert!(scratch.store.layers().has(&info.diff_id));
}

#[test]
fn what_is_left_is_not_believed() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let bytes = compressed();
    let (digest, size) = (sha256(&bytes), bytes.len() as u64);
    let file = scratch.dir.path().join("data/content/partial").join(digest.hex());
    let mut flipped = bytes[..2000].to_vec();
    flipped[1500] ^= 1;
    // Another content, other bytes in the middle, more than there can be, a hole as a crash leaves it.
    for (wrong, offset) in [(vec![1; 500], 500), (flipped, 2000), (vec![0; 4000], 4000)] {
        std::fs::write(&file, wrong).unwrap();
        let ingest = scratch.store.ingest();
        let partial = ingest.partial(&digest, size).unwrap().unwrap();
        assert_eq!(partial.offset(), offset);
        let rest = &bytes[usize::try_from(offset).unwrap()..];
        let error = ingest.rest_of_layer(partial, rest, (&digest, size), None).unwrap_err();
        assert_eq!(error.kind(), types::Kind::Invalid, "{error}");
        assert_eq!(unfinished(&scratch), [0; 0], "it is not tried again");
    }
    std::fs::write(&file, vec![1; bytes.len() + 1]).unwrap();
    let ingest = scratch.store.ingest();
    let partial = ingest.partial(&digest, size).unwrap().unwrap();
    assert_eq!(partial.offset(), 0);
    // A source that ends well but early has not broken off: it sent another blob.
    let error = ingest.rest_of_layer(partial, &bytes[..10], (&digest, size), None).unwrap_err();
    assert!(!matches!(error, Error::NoBlob(_)), "{error}");
    assert_eq!(unfinished(&scratch), [0; 0]);
}

#[test]
fn old_and_unwanted_ones_are_removed() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let dir = scratch.dir.path().join("data/content/partial");
    let name = |byte: u8| sha256(&[byte]).hex();
    std::fs::write(dir.join(name(1)), "new").unwrap();
    std::fs::write(dir.join(name(2)), "old").unwrap();
    let week = std::time::Duration::from_secs(8 * 24 * 3600);
    let old = std::fs::File::options().write(true).open(dir.join(name(2))).unwrap();
    old.set_modified(std::time::SystemTime::now() - week).unwrap();
    let Scratch { dir: kept, store } = scratch;
    drop(store);
    let store = open(kept.path().join("data")).unwrap();
    let scratch = Scratch { dir: kept, store };
    assert_eq!(unfinished(&scratch), [3]);
    let ingest = scratch.store.ingest();
    let held = ingest.partial(&sha256(&[1]), 100).unwrap().unwrap();
    assert_eq!(scratch.store.remove_partials().unwrap(), 0, "somebody goes on with it");
    drop(held);
    std::fs::write(dir.join(name(3)), "three").unwrap();
    assert_eq!(scratch.store.remove_partials().unwrap(), 5);
    assert_eq!(unfinished(&scratch), [0; 0]);
}
