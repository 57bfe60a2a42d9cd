//! Our reader against independent ones on valid and mutated archives, and our writer against them.
//!
//! The law: an archive we accept is read by the others as the same members. Of the tar crate alone it is also enough
//! that it refuses.

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod mutate;
mod peers;
mod three;

use std::io::Read;

use layer::tar::{Entry, Kind, Limits, Mtime, Reader, Writer};
use proptest::prelude::*;

type Seen = (Vec<u8>, Vec<u8>);

fn ours(bytes: &[u8]) -> Option<Vec<Seen>> {
    let mut reader = Reader::new(bytes, Limits::default());
    let mut out = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => {
                let mut data = Vec::new();
                reader.copy_data(entry.size, &mut data).ok()?;
                out.push((entry.path, data));
            }
            Ok(None) => return Some(out),
            Err(_) => return None,
        }
    }
}

fn theirs(bytes: &[u8]) -> Option<Vec<Seen>> {
    let mut archive = tar::Archive::new(bytes);
    let mut out = Vec::new();
    for entry in archive.entries().ok()? {
        let mut entry = entry.ok()?;
        if entry.header().entry_type().is_pax_global_extensions() {
            continue;
        }
        let path = entry.path_bytes().into_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).ok()?;
        out.push((path, data));
    }
    Some(out)
}

fn written(members: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).nanoseconds(true);
    for (entry, data) in members {
        writer.entry(entry).unwrap();
        if entry.kind == Kind::File {
            writer.data(data).unwrap();
        }
    }
    writer.finish().unwrap()
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let plain = proptest::collection::vec(
        any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/' | b'\n') { b'x' } else { byte }),
        1..120,
    );
    proptest::collection::vec(plain, 1..6)
        .prop_map(|parts| parts.join(&b'/'))
        .prop_filter("no dots", |path| path.split(|byte| *byte == b'/').all(|part| part != b"." && part != b".."))
}

fn entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::Directory),
        Just(Kind::Symlink),
        Just(Kind::HardLink),
        Just(Kind::Fifo)
    ];
    let xattr = ("[a-z]{1,8}", proptest::collection::vec(any::<u8>().prop_map(|byte| byte.max(b' ')), 0..40));
    let data = proptest::collection::vec(any::<u8>(), 0..2000);
    (
        name(),
        kind,
        0_u32..0o10000,
        0..u32::MAX,
        0..u32::MAX,
        (-5_000_000_000_i64..20_000_000_000, 0_u32..1_000_000_000),
        name(),
        proptest::option::of(xattr),
        data,
    )
        .prop_map(|(path, kind, mode, uid, gid, (secs, nanos), link, xattr, data)| {
            let mut entry = Entry::new(path, kind, mode);
            (entry.uid, entry.gid, entry.mtime) = (uid, gid, Mtime { secs, nanos });
            entry.xattrs.extend(xattr.map(|(key, value)| (format!("user.{key}").into_bytes(), value)));
            match kind {
                Kind::File => entry.size = data.len() as u64,
                Kind::Directory => entry.path.push(b'/'),
                Kind::Symlink | Kind::HardLink => entry.link = link,
                _ => {}
            }
            let data = if kind == Kind::File { data } else { Vec::new() };
            (entry, data)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(members in proptest::collection::vec(entry(), 0..8)) {
        let bytes = written(&members);
        prop_assert_eq!(bytes.len() % 512, 0);
        let mut reader = Reader::new(&bytes[..], Limits::default());
        for (entry, data) in &members {
            let found = reader.next_entry().unwrap().unwrap();
            prop_assert_eq!(&*found, entry);
            let mut out = Vec::new();
            reader.copy_data(found.size, &mut out).unwrap();
            prop_assert_eq!(&out, data);
        }
        prop_assert!(reader.next_entry().unwrap().is_none());
        let seen: Vec<Seen> = members.iter().map(|(entry, data)| (entry.path.clone(), data.clone())).collect();
        prop_assert_eq!(theirs(&bytes), Some(seen));
    }

    #[test]
    fn mutated_archives_are_read_alike_or_refused(
        members in proptest::collection::vec(entry(), 1..4),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        reseal in any::<bool>(),
    ) {
        let mut bytes = written(&members);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            // The other reader wants an exact version after the magic, ours and Go's do not look at it.
            prop_assume!(!(262..265).contains(&(at % 512)));
            // The other reader takes every newline in a pax header for the end of a record.
            bytes[at] = if byte == b'\n' { 0 } else { byte };
            if reseal {
                // A right checksum lets the change reach the parser when the block is a header.
                let start = at / 512 * 512;
                let block = &mut bytes[start..start + 512];
                if block[257..262] == *b"ustar" {
                    block[148..156].fill(b' ');
                    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
                }
            }
        }
        if let (Some(ours), Some(theirs)) = (ours(&bytes), theirs(&bytes)) {
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = ours(&bytes);
    }
}

#[test]
fn archives_of_another_writer() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut expected = Vec::new();
    for (index, length) in [1_usize, 99, 100, 101, 155, 200, 255].into_iter().enumerate() {
        let path = format!("dir/{}", "n".repeat(length));
        let data = vec![index as u8; index * 300];
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, &path, &data[..]).unwrap();
        expected.push((path.into_bytes(), data));
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "link", "t".repeat(300)).unwrap();
    expected.push((b"link".to_vec(), Vec::new()));
    assert_eq!(ours(&builder.into_inner().unwrap()), Some(expected));
}
