//! Archives: read in one piece and in crumbs with the same outcome, every member within its bounds, and what was read
//! written and read again.

use layer::tar::{BLOCK, Decoder, Entry, Error, Kind, Limits, Reader, Step, Writer};

/// Bounds that let no input take long.
pub(crate) fn limits() -> Limits {
    Limits { total_bytes: 1 << 20, entries: 10_000, trailer_bytes: 1 << 20, ..Limits::default() }
}

/// An archive; checksums of its headers are made right first, as no mutation would get past them otherwise.
pub fn tar(data: &[u8]) {
    archive(&sealed(data));
}

/// The body of a pax header before a file.
pub fn pax(data: &[u8]) {
    let head = |kind: u8, name: &[u8], size: usize| {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name);
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        seal(&mut block);
        block
    };
    let padding = vec![0; data.len().next_multiple_of(BLOCK) - data.len()];
    let file = [&head(b'0', b"file", 4)[..], b"data", &[0; BLOCK - 4]].concat();
    let end = [0; 2 * BLOCK];
    archive(&[&head(b'x', b"pax", data.len())[..], data, &padding, &file, &end].concat());
}

/// Makes the checksum of a header right.
fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// The archive as the targets of this crate see it.
pub(crate) fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar").for_each(seal);
    bytes
}

type Member = (Entry, Vec<u8>);

fn archive(bytes: &[u8]) {
    let whole = read(bytes);
    let crumbs = [1, 511, 513].map(|size| decode(bytes, size));
    for crumbs in crumbs {
        assert_eq!(crumbs.is_ok(), whole.is_ok(), "pieces of another size change the verdict");
        if let (Ok(one), Ok(other)) = (&whole, &crumbs) {
            assert!(one.iter().map(|(entry, _)| entry).eq(other), "pieces of another size change the members");
        }
    }
    let Ok(members) = whole else { return };
    for (entry, data) in &members {
        check(entry);
        assert!(data.len() as u64 == entry.size);
    }
    again(&members);
}

fn check(entry: &Entry) {
    let limits = limits();
    let bounded = |path: &[u8]| path.len() < limits.path_bytes && !path.contains(&0);
    assert!(bounded(&entry.path) && bounded(&entry.link));
    assert!(entry.components().all(|part| part != b".." && part.len() <= limits.name_bytes));
    assert!(entry.kind == Kind::Symlink || entry.link_components().all(|part| part != b".."));
    assert!(entry.kind == Kind::Directory || entry.components().next().is_some());
    assert!(entry.kind == Kind::File || entry.size == 0);
    assert!(
        entry.uid != u32::MAX && entry.gid != u32::MAX && entry.mode <= 0o7777 && entry.mtime.nanos < 1_000_000_000
    );
    let bytes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(bytes <= limits.xattr_bytes);
    for regions in entry.sparse.iter().flat_map(|regions| regions.windows(2)) {
        assert!(regions[0].0 + regions[0].1 <= regions[1].0);
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Member>, Error> {
    let mut reader = Reader::new(bytes, limits());
    let mut out = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.copy_data(entry.size, &mut data)?;
        out.push((*entry, data));
    }
    reader.drain()?;
    Ok(out)
}

fn decode(bytes: &[u8], size: usize) -> Result<Vec<Entry>, Error> {
    let mut decoder = Decoder::new(limits());
    let mut out = Vec::new();
    for mut piece in bytes.chunks(size) {
        let mut idle = 0;
        loop {
            let (taken, step) = decoder.step(piece)?;
            piece = &piece[taken..];
            let due = matches!(step, Step::Entry(_) | Step::EntryEnd);
            if let Step::Entry(entry) = step {
                out.push(*entry);
            }
            if piece.is_empty() && !due {
                break;
            }
            idle = if taken > 0 || due { 0 } else { idle + 1 };
            assert!(idle < 3, "steps that take nothing and say nothing");
        }
    }
    // Ends of members that are due.
    while matches!(decoder.step(&[])?, (_, Step::EntryEnd)) {}
    decoder.finish()?;
    Ok(out)
}

/// What was read can be written, unless the writer says why not, and is then read as the same.
fn again(members: &[Member]) {
    let mut writer = Writer::new(Vec::new()).nanoseconds(true);
    for (entry, data) in members {
        let mut entry = entry.clone();
        entry.sparse = None;
        match writer.entry(&entry) {
            Ok(()) if entry.kind == Kind::File => writer.data(data).expect("as many bytes as were said"),
            Ok(()) => {}
            Err(Error::Unwritable { .. } | Error::Io(_)) => return,
            Err(other) => panic!("{other}"),
        }
    }
    let bytes = writer.finish().expect("every member is whole");
    let read = read(&bytes).expect("what was written can be read");
    assert_eq!(read.len(), members.len());
    for ((one, data), (other, same)) in read.iter().zip(members) {
        let components = |entry: &Entry| entry.components().map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!((components(one), one.kind, one.mtime), (components(other), other.kind, other.mtime));
        assert_eq!((&one.link, one.uid, one.gid, one.mode), (&other.link, other.uid, other.gid, other.mode));
        assert!(one.xattrs == other.xattrs && data == same);
    }
}
