//! What the decoder accepts and refuses, one row per rule; archives are built byte by byte so that no
//! writer's kindness hides a hole.

mod common;

use common::{archive, edited, end, header, member, octal, padded, pax, record};
use layer::tar::{BLOCK, Decoder, Entry, Error, Kind, Limits, Reader, Step};

type Member = (Entry, Vec<u8>);

fn read(archive: &[u8]) -> Result<Vec<Member>, Error> {
    read_with(archive, Limits::default())
}

fn read_with(archive: &[u8], limits: Limits) -> Result<Vec<Member>, Error> {
    let mut reader = Reader::new(archive, limits);
    let mut out = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.copy_data(entry.size, &mut data)?;
        out.push((*entry, data));
    }
    Ok(out)
}

fn names(archive: &[u8]) -> Vec<String> {
    read(archive).unwrap().iter().map(|(entry, _)| entry.display_path()).collect()
}

fn refused(what: &str, parts: &[Vec<u8>]) {
    let bytes = archive(parts);
    assert!(read(&bytes).is_err(), "{what} was accepted");
    // The error must not depend on how the bytes arrive.
    let mut decoder = Decoder::new(Limits::default());
    let mut failed = false;
    for byte in &bytes {
        let mut input = std::slice::from_ref(byte);
        while !failed {
            match decoder.step(input) {
                Ok((taken, step)) => {
                    input = &input[taken..];
                    if input.is_empty() && matches!(step, Step::More | Step::Data { .. } | Step::End) {
                        break;
                    }
                }
                Err(_) => failed = true,
            }
        }
    }
    assert!(failed || decoder.finish().is_err(), "{what} was accepted byte by byte");
}

#[test]
fn paths_out_of_the_archive() {
    for path in ["../x", "a/../../x", "..", "/..", "a/..", "./../x"] {
        refused(path, &[member(path, b'0', b"x")]);
        refused(path, &[pax(&[("path", path)]), member("ok", b'0', b"x")]);
        refused(path, &[member("l", b'L', format!("{path}\0").as_bytes()), member("ok", b'0', b"x")]);
        refused(
            path,
            &[edited("link", b'1', 0, |block| block[157..157 + path.len()].copy_from_slice(path.as_bytes()))],
        );
    }
    let (entry, _) = &read(&archive(&[member("/etc//./x", b'0', b"x")])).unwrap()[0];
    assert_eq!(entry.components().collect::<Vec<_>>(), [&b"etc"[..], b"x"], "absolute is in-root");
    refused("file at the root", &[member("./", b'1', b"")]);
    refused("empty path", &[member("", b'0', b"")]);
    refused("long component", &[pax(&[("path", &"x".repeat(256))]), member("ok", b'0', b"")]);
    refused("long path", &[pax(&[("path", &"x/".repeat(2048))]), member("ok", b'5', b"")]);
    assert_eq!(names(&archive(&[pax(&[("path", &"y".repeat(255))]), member("ok", b'0', b"")])), ["y".repeat(255)]);
}

#[test]
fn pax_size_decides() {
    // The header says 0, the record 512: what follows is data, not a member.
    let hidden = member("hidden", b'0', b"");
    let bytes = archive(&[pax(&[("size", "512")]), header("outer", b'0', 0).to_vec(), hidden.clone()]);
    let members = read(&bytes).unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].1, hidden);
    // The header says 512, the record 0: what follows is a member.
    let bytes = archive(&[pax(&[("size", "0")]), header("outer", b'0', 512).to_vec(), hidden]);
    assert_eq!(names(&bytes), ["outer", "hidden"]);
    for size in ["-1", "9223372036854775808", "18446744073709551616", "1e3", "0x10", " 5", "+5"] {
        refused(size, &[pax(&[("size", size)]), member("outer", b'0', b"")]);
    }
}

#[test]
fn malformed_pax() {
    for data in ["11 path=a\n", "9 path=a ", "path=a\n", "8 path=\0\n", "0 \n", "99999999999 path=a\n"] {
        refused(data, &[member("pax", b'x', data.as_bytes()), member("ok", b'0', b"")]);
    }
    refused("two extended headers", &[pax(&[("path", "a")]), pax(&[("path", "b")]), member("ok", b'0', b"")]);
    refused("extended header at the end", &[pax(&[("path", "a")])]);
    refused("huge header", &[header("pax", b'x', 1 << 30).to_vec()]);
    refused("global path", &[member("g", b'g', &record("path", "a")), member("ok", b'0', b"")]);
    refused("global size", &[member("g", b'g', &record("size", "0")), member("ok", b'0', b"")]);
    let comment = [member("g", b'g', &record("comment", "0123")), member("ok", b'0', b"")];
    assert_eq!(names(&archive(&comment)), ["ok"]);
    refused("GNU and pax path", &[pax(&[("path", "a")]), member("l", b'L', b"b\0"), member("ok", b'0', b"")]);
    refused("empty path", &[pax(&[("path", "")]), member("ok", b'0', b"")]);
}

#[test]
fn gnu_long_names() {
    let long = "n/".repeat(500) + "end";
    let with_nul = format!("{long}\0");
    assert_eq!(names(&archive(&[member("l", b'L', with_nul.as_bytes()), member("short", b'0', b"")]))[0], long);
    refused("unterminated", &[member("l", b'L', long.as_bytes()), member("short", b'0', b"")]);
    refused("nested", &[member("l", b'L', b"a\0"), member("l", b'L', b"b\0"), member("short", b'0', b"")]);
    refused("2 GiB", &[header("l", b'L', 2 << 30).to_vec()]);
    let link = [member("l", b'K', with_nul.as_bytes()), member("link", b'2', b"")];
    assert_eq!(read(&archive(&link)).unwrap()[0].0.link, long.as_bytes());
}

#[test]
fn header_numbers() {
    let base256 = |range: std::ops::Range<usize>, value: u64| {
        edited("f", b'0', 0, |block| {
            block[range.clone()].fill(0);
            block[range.start] = 0x80;
            block[range.end - 8 + usize::from(range.len() == 8)..range.end]
                .copy_from_slice(&value.to_be_bytes()[usize::from(range.len() == 8)..]);
        })
    };
    let uid = |value| read(&archive(&[base256(108..116, value)])).map(|members| members[0].0.uid);
    assert_eq!(uid(4_000_000_000).unwrap(), 4_000_000_000);
    assert!(uid(u64::from(u32::MAX)).is_err() && uid(1 << 32).is_err());
    refused("negative uid", &[edited("f", b'0', 0, |block| block[108..116].fill(0xff))]);
    refused("negative size", &[edited("f", b'0', 0, |block| block[124..136].fill(0xff))]);
    refused("size with text", &[edited("f", b'0', 0, |block| block[124..136].copy_from_slice(b"0000000001x\0"))]);
    let mut wrong = header("f", b'0', 0).to_vec();
    wrong[0] ^= 1;
    refused("checksum", &[wrong]);
    refused("pax uid", &[pax(&[("uid", "4294967296")]), member("f", b'0', b"")]);
    let old = edited("f", b'0', 0, |block| block[136..148].fill(0xff));
    assert_eq!(read(&archive(&[old])).unwrap()[0].0.mtime.clamped().secs, 0, "-1 is clamped");
    let mode = edited("f", b'0', 0, |block| octal(&mut block[100..108], 0o104_755));
    assert_eq!(read(&archive(&[mode])).unwrap()[0].0.mode, 0o4755, "setuid kept, type bits dropped");
}

#[test]
fn member_types() {
    for kind in *b"XDMVN89" {
        refused("type", &[member("f", kind, b"")]);
    }
    refused("device without magic", &[edited("d", b'3', 0, |block| block[257..265].fill(0))]);
    for (kind, path) in [(b'0', "f/"), (b'7', "f/"), (0, "f")] {
        refused("file with a slash", &[pax(&[("path", path)]), member("f/", kind, b"")]);
    }
    for kind in *b"012346" {
        refused("slash at the end", &[edited("f/", kind, 0, |block| block[157] = b't')]);
    }
    assert_eq!(read(&archive(&[member("d/", 0, b"")])).unwrap()[0].0.kind, Kind::Directory);
    let kinds: Vec<Kind> = [b'0', 0, b'7', b'2', b'5', b'6']
        .iter()
        .map(|kind| {
            let link = edited("f", *kind, 0, |block| block[157] = b't');
            read(&archive(&[link])).unwrap()[0].0.kind
        })
        .collect();
    assert_eq!(kinds, [Kind::File, Kind::File, Kind::File, Kind::Symlink, Kind::Directory, Kind::Fifo]);
    refused("symlink without target", &[member("f", b'2', b"")]);
    refused("hard link without target", &[member("f", b'1', b"")]);
    refused("data in a directory by slash", &[member("f/", b'0', b"x")]);
    let device = |major, minor| {
        edited("d", b'3', 0, |block| {
            octal(&mut block[329..337], major);
            octal(&mut block[337..345], minor);
        })
    };
    let (entry, _) = read(&archive(&[device(4095, 1_048_575)])).unwrap().remove(0);
    assert_eq!((entry.major, entry.minor), (4095, 1_048_575));
    refused("major", &[device(4096, 0)]);
    refused("minor", &[device(0, 1_048_576)]);
    // Some writers give hard links and directories a size; it does not move the next member. Behind the others
    // GNU tar looks for data.
    for kind in *b"15" {
        let sized = edited("f", kind, 512, |block| block[157] = b't');
        assert_eq!(names(&archive(&[sized.clone(), member("next", b'0', b"")])), ["f", "next"]);
        refused("a size in a record", &[pax(&[("size", "512")]), sized]);
    }
    for kind in *b"2346" {
        refused("size without data", &[edited("f", kind, 512, |block| block[157] = b't'), member("next", b'0', b"")]);
    }
}

#[test]
fn ends() {
    let one = member("f", b'0', b"data");
    for tail in [vec![], vec![0; BLOCK], vec![0; 2 * BLOCK], vec![0; 20 * BLOCK], [end(), b"garbage".to_vec()].concat()]
    {
        assert_eq!(names(&[one.clone(), tail].concat()), ["f"]);
    }
    assert!(names(&[]).is_empty());
    assert!(read(&[one.clone(), vec![0; BLOCK], one.clone()].concat()).is_err(), "member after one zero block");
    for cut in 1..one.len() {
        assert!(matches!(read(&one[..cut]), Err(Error::UnexpectedEof)), "cut at {cut}");
    }
}

#[test]
fn limits() {
    let limits = Limits { entries: 3, total_bytes: 10, ..Limits::default() };
    let some = |count: usize| archive(&vec![member("f", b'0', b"x"); count]);
    assert_eq!(read_with(&some(3), limits).unwrap().len(), 3);
    assert!(matches!(read_with(&some(4), limits), Err(Error::Limit { what: "members", limit: 3 })));
    let big = archive(&[member("f", b'0', b"0123456789"), member("g", b'0', b"x")]);
    assert!(matches!(read_with(&big, limits), Err(Error::Limit { limit: 10, .. })));
    let value = "v".repeat(300 << 10);
    refused("xattrs", &[pax(&[("SCHILY.xattr.user.a", &value)]), member("f", b'0', b"")]);
}

#[test]
fn attributes() {
    let bytes = archive(&[
        pax(&[("SCHILY.xattr.user.a", "1"), ("SCHILY.xattr.user.b", "x=y"), ("SCHILY.xattr.user.a", "2")]),
        member("f", b'0', b""),
        member("g", b'0', b""),
    ]);
    let members = read(&bytes).unwrap();
    let expected = [(b"user.b".to_vec(), b"x=y".to_vec()), (b"user.a".to_vec(), b"2".to_vec())];
    assert_eq!(members[0].0.xattrs, expected);
    assert!(members[1].0.xattrs.is_empty(), "a pax header is of one member only");
}

#[test]
fn sparse_formats() {
    let expected = [vec![0; 1000], b"abc".to_vec(), vec![0; 2997], b"de".to_vec(), vec![0; 998]].concat();
    let check = |what: &str, parts: &[Vec<u8>]| {
        let members = read(&archive(&[parts.concat(), member("next", b'0', b"n")])).unwrap();
        assert_eq!((members[0].0.display_path(), &members[0].1), ("f".to_owned(), &expected), "{what}");
        assert_eq!(members[0].0.sparse, Some(vec![(1000, 3), (4000, 2)]), "{what}");
        assert_eq!(members[1].1, b"n", "{what}");
    };
    let old = |regions: &[(u64, u64)], real: u64| {
        edited("f", b'S', 5, |block| {
            block[257..265].copy_from_slice(b"ustar  \0");
            for (index, (offset, length)) in regions.iter().enumerate() {
                octal(&mut block[386 + index * 24..398 + index * 24], *offset);
                octal(&mut block[398 + index * 24..410 + index * 24], *length);
            }
            octal(&mut block[483..495], real);
        })
    };
    check("old GNU", &[old(&[(1000, 3), (4000, 2), (5000, 0)], 5000), padded(b"abcde")]);
    let v1 = |map: &str, real: &str| {
        let data = [padded(map.as_bytes()), b"abcde".to_vec()].concat();
        let records = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "f"),
            ("GNU.sparse.realsize", real),
        ];
        [pax(&records), member("GNUSparseFile.0/f", b'0', &data)].concat()
    };
    check("pax 1.0", &[v1("2\n1000\n3\n4000\n2\n", "5000")]);
    let v01 = |map: &str, real: &str| {
        let records = [
            ("GNU.sparse.size", real),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.name", "f"),
            ("GNU.sparse.map", map),
        ];
        [pax(&records), member("x", b'0', b"abcde")].concat()
    };
    check("pax 0.1", &[v01("1000,3,4000,2", "5000")]);
    let v00 = [
        ("GNU.sparse.size", "5000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "1000"),
        ("GNU.sparse.numbytes", "3"),
        ("GNU.sparse.offset", "4000"),
        ("GNU.sparse.numbytes", "2"),
    ];
    check("pax 0.0", &[pax(&v00), member("f", b'0', b"abcde")]);

    refused("overlap", &[old(&[(0, 3), (2, 2)], 5000), padded(b"abcde")]);
    refused("backwards", &[old(&[(4000, 3), (1000, 2)], 5000), padded(b"abcde")]);
    refused("past the end", &[old(&[(1000, 3), (4999, 2)], 5000), padded(b"abcde")]);
    refused("too little data", &[old(&[(1000, 3)], 5000), padded(b"abcde")]);
    let slash = [("GNU.sparse.size", "5"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.name", "f/")];
    let slash = [&slash[..], &[("GNU.sparse.map", "0,5")]].concat();
    refused("name with a slash", &[pax(&slash), member("x", b'0', b"abcde")]);
    refused("map 0.1 odd", &[v01("1000,3,4000", "5000")]);
    refused("map 0.1 text", &[v01("1000,3,x,2", "5000")]);
    refused("map 1.0 lies", &[v1("3\n1000\n3\n4000\n2\n", "5000")]);
    refused("map 1.0 huge", &[v1("99999999\n", "5000")]);
    refused("map 1.0 text", &[v1("-1\n", "5000")]);
    refused("map 1.0 without end", &[v1("2", "5000")]);
    refused("8 EiB hole", &[v01("0,5", "9223372036854775807")]);
    refused("version", &[pax(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")]), member("f", b'0', b"")]);
}

#[test]
fn sparse_extension_blocks() {
    let head = edited("f", b'S', 6, |block| {
        block[257..265].copy_from_slice(b"ustar  \0");
        for index in 0..4_usize {
            octal(&mut block[386 + index * 24..398 + index * 24], index as u64 * 1000);
            octal(&mut block[398 + index * 24..410 + index * 24], 1);
        }
        block[482] = 1;
        octal(&mut block[483..495], 6000);
    });
    let mut more = vec![0; BLOCK];
    for index in 0..2_usize {
        octal(&mut more[index * 24..index * 24 + 12], 4000 + index as u64 * 1000);
        octal(&mut more[index * 24 + 12..index * 24 + 24], 1);
    }
    let members = read(&archive(&[head, more, padded(b"abcdef")])).unwrap();
    assert_eq!(members[0].1.len(), 6000);
    assert_eq!(
        members[0].1.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect::<Vec<_>>(),
        [0, 1000, 2000, 3000, 4000, 5000]
    );
}

#[test]
fn floods() {
    // Global headers are counted like members: they cost as much.
    let global = member("g", b'g', &record("comment", "x"));
    let few = Limits { entries: 10, ..Limits::default() };
    let flood = [global.repeat(11), end()].concat();
    assert!(matches!(read_with(&flood, few), Err(Error::Limit { what: "members", .. })));
    assert!(read_with(&[global.repeat(9), member("f", b'0', b""), end()].concat(), few).is_ok());
    refused("global header at the end", &[global]);
    // What follows the end mark is read for its digest, but not for ever.
    let short = Limits { trailer_bytes: 4096, ..Limits::default() };
    for (size, fits) in [(0, true), (4096, true), (4097, false), (1 << 20, false)] {
        let bytes = [member("f", b'0', b"x"), end(), vec![7; size]].concat();
        let mut reader = Reader::new(&bytes[..], short);
        assert_eq!(reader.drain().is_ok(), fits, "{size} bytes after the end");
    }
    // The last attribute of a name counts, in its place.
    let key = |name: &str| format!("SCHILY.xattr.{name}");
    let records = [("user.a", "1"), ("user.b", "2"), ("user.a", "3")].map(|(name, value)| (key(name), value));
    let records: Vec<(&str, &str)> = records.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let entries = read(&archive(&[pax(&records), member("f", b'0', b"")])).unwrap();
    let expected = [(b"user.b".to_vec(), b"2".to_vec()), (b"user.a".to_vec(), b"3".to_vec())];
    assert_eq!(entries[0].0.xattrs, expected);
}

/// What GNU tar, Go and Python read in different ways; the differential test found each of these.
#[test]
fn readers_disagree() {
    let file = member("f", b'0', b"");
    let magic = |name: &str, kind: u8, magic: &[u8; 8], edit: fn(&mut [u8; BLOCK])| {
        edited(name, kind, 0, |block| {
            block[257..265].copy_from_slice(magic);
            edit(block);
        })
    };
    let prefix = |block: &mut [u8; BLOCK]| block[345..351].copy_from_slice(b"prefix");
    refused("a prefix in GNU's format", &[magic("f", b'0', b"ustar  \0", prefix)]);
    refused("a prefix without magic", &[magic("f", b'0', &[0; 8], prefix)]);
    assert_eq!(names(&archive(&[magic("f", b'0', b"ustar\x0000", prefix)])), ["prefix/f"]);
    let star = |block: &mut [u8; BLOCK]| {
        block[345..476].fill(b'p');
        block[508..512].copy_from_slice(b"tar\0");
    };
    refused("a prefix as long as star's", &[magic("f", b'0', b"ustar\x0000", star)]);
    let records = [("mtime", "1")];
    refused("a pax header for a member without magic", &[pax(&records), magic("f", b'0', &[0; 8], |_| {})]);
    let global = member("g", b'g', &record("comment", "x"));
    refused("a global header in between", &[pax(&records), global.clone(), file.clone()]);
    assert_eq!(names(&archive(&[global, pax(&records), file.clone()])), ["f"]);
    for key in ["uid", "gid", "uname", "mtime", "atime", "hdrcharset", "SCHILY.xattr.user.a", "GNU.dumpdir"] {
        refused(key, &[member("g", b'g', &record(key, "1")), file.clone()]);
    }
    let fields: [(&str, usize, &[u8]); 8] = [
        ("a device number of text", 329, b"text\0\0\0\0"),
        ("a blank device number", 337, b"        "),
        ("a blank owner", 108, b"        "),
        ("base 256 beyond its marker", 108, b"\x81\0\0\0\0\0\0\x01"),
        ("a tab before a number", 100, b"\t644\0\0\0\0"),
        ("a time of text", 136, b"yesterday\0\0\0"),
        ("a mode of text", 100, b"rw-r--r--"),
        ("an owner that a record hides", 116, b"\x80\0\0\x01\0\0\0\0"),
    ];
    for (what, at, value) in fields {
        let odd = edited("f", b'0', 0, |block| block[at..at + value.len()].copy_from_slice(value));
        refused(what, &[pax(&[("gid", "1")]), odd]);
    }
    for (key, value) in [("linkpath", ""), ("uid", ""), ("atime", "x"), ("ctime", ""), ("hdrcharset", "KOI8-R")] {
        refused(key, &[pax(&[(key, value)]), file.clone()]);
    }
}

#[test]
fn sparse_members_are_written_as_they_are_read() {
    let mut entry = Entry::new(*b"d/file", Kind::File, 0o644);
    entry.size = 10_000;
    for regions in [vec![(1000, 3), (4000, 2)], vec![(0, 10_000)], Vec::new(), vec![(9_998, 2)]] {
        entry.sparse = Some(regions.clone());
        let mut writer = layer::tar::Writer::new(Vec::new());
        writer.entry(&entry).unwrap();
        let data: Vec<u8> = (0..writer.owed()).map(|at| at as u8 | 1).collect();
        writer.data(&data).unwrap();
        let members = read(&writer.finish().unwrap()).unwrap();
        assert_eq!((&members[0].0.path, members[0].0.size), (&entry.path, 10_000));
        assert_eq!(members[0].0.sparse.as_ref(), Some(&regions));
        let filled = members[0].1.iter().filter(|byte| **byte != 0).count() as u64;
        assert_eq!(filled, regions.iter().map(|(_, length)| length).sum::<u64>());
    }
    for regions in [vec![(0, 5), (3, 1)], vec![(9_999, 2)], vec![(u64::MAX, 2)], vec![(5, 1), (0, 1)]] {
        entry.sparse = Some(regions);
        assert!(layer::tar::Writer::new(Vec::new()).entry(&entry).is_err());
    }
    entry.kind = Kind::Directory;
    entry.sparse = Some(Vec::new());
    assert!(layer::tar::Writer::new(Vec::new()).entry(&entry).is_err());
}
