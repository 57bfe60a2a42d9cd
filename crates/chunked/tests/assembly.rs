//! Archives come together byte for byte, whatever is here of them; and blobs that lie give an error and no panic.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Cursor, Read};

use base64::prelude::{BASE64_STANDARD, Engine};
use chunked::{Assembly, Part, Place, Plan, Split, Toc};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use types::Digest;

fn sha256(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}

/// A blob as `containers/storage` writes them, and what it is of.
struct Blob {
    bytes: Vec<u8>,
    place: Place,
    archive: Vec<u8>,
    files: HashMap<String, Vec<u8>>,
}

/// `files` have a head and padding around their content, as in a tar; those that are long have several chunks, and chunks
/// of zeros are left out.
fn blob(files: &[Vec<u8>]) -> Blob {
    let (mut bytes, mut archive, mut entries, mut split) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    let mut contents = HashMap::new();
    for (number, content) in files.iter().enumerate() {
        let name = format!("dir/{number}");
        let head = format!("<head of {name}>");
        bytes.extend(zstd::encode_all(head.as_bytes(), 1).unwrap());
        archive.extend(head.as_bytes());
        let _ = writeln!(split, r#"{{"type":2,"payload":"{}"}}"#, BASE64_STANDARD.encode(&head));
        let _ = writeln!(split, r#"{{"type":1,"name":"{name}","size":{}}}"#, content.len());
        let mut at = 0;
        let mut own = Vec::new();
        for chunk in content.chunks(500) {
            let zeros = chunk.iter().all(|byte| *byte == 0);
            let kind = if at == 0 { "reg" } else { "chunk" };
            own.push(format!(
                r#""type":"{kind}","name":"{name}","offset":{},"chunkSize":{},"chunkOffset":{at},"chunkType":"{}""#,
                bytes.len(),
                chunk.len(),
                if zeros { "zeros" } else { "" },
            ));
            if !zeros {
                bytes.extend(zstd::encode_all(chunk, 1).unwrap());
            }
            at += chunk.len();
        }
        if let Some(first) = own.first_mut() {
            let digest = sha256(content);
            let _ = write!(first, r#","size":{},"digest":"{digest}","endOffset":{}"#, content.len(), bytes.len());
        }
        entries.extend(own.into_iter().map(|entry| format!("{{{entry}}}")));
        archive.extend(content);
        contents.insert(name, content.clone());
    }
    let split_plain = split.into_bytes();
    let split = zstd::encode_all(&split_plain[..], 1).unwrap();
    let entries = entries.join(",");
    let toc_plain = format!(r#"{{"version":1,"entries":[{entries}],"tarSplitDigest":"{}"}}"#, sha256(&split));
    let toc = zstd::encode_all(toc_plain.as_bytes(), 1).unwrap();
    let part = |offset: usize, compressed: &[u8], plain: &[u8]| Part {
        offset: offset as u64,
        length: compressed.len() as u64,
        uncompressed: plain.len() as u64,
    };
    let place = Place {
        toc: part(bytes.len() + 8, &toc, toc_plain.as_bytes()),
        toc_digest: sha256(&toc),
        split: part(bytes.len() + 8 + toc.len() + 8, &split, &split_plain),
    };
    for document in [toc, split] {
        bytes.extend([0x50, 0x2a, 0x4d, 0x18]);
        bytes.extend(u32::try_from(document.len()).unwrap().to_le_bytes());
        bytes.extend(document);
    }
    Blob { bytes, place, archive, files: contents }
}

impl Blob {
    fn part(&self, range: std::ops::Range<u64>) -> &[u8] {
        &self.bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
    }

    /// Puts it together with the files that `here` says are here; gives the archive and the bytes fetched.
    fn assemble(&self, here: impl Fn(usize) -> bool) -> Result<(Vec<u8>, u64), Box<dyn std::error::Error>> {
        let toc = Toc::parse(self.part(self.place.toc.range()), &self.place)?;
        let split = Split::open(self.part(self.place.split.range()).to_vec(), &self.place, &toc)?;
        let mut number = 0..;
        let plan = Plan::new(toc, |_| number.next().filter(|number| here(*number)));
        let fetched: Vec<u8> = plan.ranges().iter().flat_map(|range| self.part(range.clone())).copied().collect();
        let bytes = plan.bytes();
        assert_eq!(bytes, fetched.len() as u64);
        let open = |_: usize, file: &chunked::File| Ok(Cursor::new(self.files[&*file.name].clone()));
        let mut archive = Vec::new();
        Assembly::new(plan, split, open, &fetched[..]).read_to_end(&mut archive)?;
        Ok((archive, bytes))
    }
}

/// Content that does not shrink.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |state: &mut u64| {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*state >> 33) as u8
    };
    (0..length).map(|_| next(&mut state)).collect()
}

#[test]
fn only_what_is_missing_is_fetched() {
    let files: Vec<Vec<u8>> = (0..1000).map(|number| noise(number, 2000 + number as usize)).collect();
    let blob = blob(&files);
    let all = blob.bytes.len() as u64;
    let (archive, bytes) = blob.assemble(|_| false).unwrap();
    assert!(archive == blob.archive && bytes > all * 95 / 100, "{bytes} of {all}");
    let (archive, bytes) = blob.assemble(|_| true).unwrap();
    assert!(archive == blob.archive && bytes == 0);
    let (archive, bytes) = blob.assemble(|number| number % 10 != 0).unwrap();
    assert!(archive == blob.archive && bytes < all * 13 / 100, "{bytes} of {all}");
}

#[test]
fn files_that_are_not_what_was_told_are_an_error() {
    let files: Vec<Vec<u8>> = (0..3).map(|number| noise(number, 700)).collect();
    let mut changed = blob(&files);
    changed.files.insert("dir/1".to_owned(), vec![7; 10]);
    assert!(changed.assemble(|_| true).unwrap_err().to_string().contains("shorter"));
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        (any::<u64>(), 1usize..3000).prop_map(|(seed, length)| noise(seed, length)),
        (0usize..2000, 0usize..2000)
            .prop_map(|(zeros, more)| [vec![0; zeros], noise(3, more), vec![0; zeros]].concat()),
    ]
}

proptest! {
    #[test]
    fn any_archive_comes_together(files in prop::collection::vec(content(), 0..40), mask in any::<u64>()) {
        let blob = blob(&files);
        let (archive, _) = blob.assemble(|number| mask >> (number % 64) & 1 == 1).unwrap();
        prop_assert!(archive == blob.archive);
    }

    #[test]
    fn a_damaged_blob_is_an_error_or_another_archive(
        files in prop::collection::vec(content(), 1..10),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut blob = blob(&files);
        let end = usize::try_from(blob.place.toc.offset).unwrap() - 8;
        for (at, byte) in damage.iter().filter(|_| end > 0) {
            blob.bytes[at.index(end)] = *byte;
        }
        let _ = blob.assemble(|number| number % 3 == 0);
    }
}
