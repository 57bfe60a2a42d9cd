//! Headers of archives: sizes that two readers would read differently, records that lie, long names, sparse maps,
//! checksums and ends.

use layer::tar::Limits;

use crate::budget::Budget;
use crate::common::tar;
use crate::frame::{Row, Tree, hold, layers, layers_within, refuse};
use crate::raw::{archive, edited, end, header, member, octal, padded, pax, record};

#[test]
fn sizes_in_two_places() {
    layers("headers::sizes_in_two_places", |_| {
        let hidden = member("hidden", b'0', b"");
        let mut rows: Vec<Row> = vec![
            hold(
                "0 in the header, 512 in the record",
                archive(&[pax(&[("size", "512")]), header("outer", b'0', 0).to_vec(), hidden.clone()]),
                |tree| {
                    assert!(tree.names() == ["outer"] && tree.meta("outer").len() == 512);
                },
            ),
            hold(
                "512 in the header, 0 in the record",
                archive(&[pax(&[("size", "0")]), header("outer", b'0', 512).to_vec(), hidden.clone()]),
                |tree| {
                    assert_eq!(tree.names(), ["hidden", "outer"]);
                },
            ),
            refuse(
                "on a link that has no data",
                "no data",
                archive(&[pax(&[("size", "512")]), edited("l", b'2', 0, |block| block[157] = b't'), hidden.clone()]),
            ),
            refuse(
                "in a global record",
                "global record",
                archive(&[member("g", b'g', &record("size", "512")), header("outer", b'0', 0).to_vec(), hidden]),
            ),
        ];
        for size in ["-1", "9223372036854775808", "18446744073709551616", "1e3", "0x10", " 5", "+5", ""] {
            rows.push(refuse(
                format!("size {size:?}"),
                "pax record",
                archive(&[pax(&[("size", size)]), member("outer", b'0', b"")]),
            ));
        }
        rows.push(refuse(
            "a size beyond all bounds",
            "bytes in all members",
            archive(&[pax(&[("size", "9223372036854775807")]), member("f", b'0', b"")]),
        ));
        rows
    });
}

#[test]
fn records_that_lie() {
    layers("headers::records_that_lie", |_| {
        let with = |data: &[u8]| archive(&[member("pax", b'x', data), member("ok", b'0', b"")]);
        let many = record("comment", "x").repeat(5000);
        let more = record("SCHILY.xattr.user.a", vec![b'v'; 900 << 10]);
        vec![
            refuse("a length too long", "beyond the header", with(b"99 path=a\n")),
            refuse("a length too short", "no newline", with(b"9 path=ab\n")),
            refuse("no newline", "no newline", with(b"9 path=a ")),
            refuse("no length", "length", with(b"path=a\n")),
            refuse("a length of 0", "beyond the header", with(b"0 \n")),
            refuse("a length of many digits", "no length", with(b"99999999999999 path=a\n")),
            refuse("no equals sign", "no '='", with(b"7 path\n")),
            refuse("a NUL in a value", "NUL", with(&record("path", "a\0b"))),
            refuse("a record of 1 GiB", "bytes of extension headers", header("pax", b'x', 1 << 30).to_vec()),
            refuse("a million records", "pax records", with(&many)),
            refuse("attributes without end", "extended attributes", with(&more)),
            refuse(
                "two headers",
                "two extended headers",
                archive(&[pax(&[("path", "a")]), pax(&[("path", "b")]), member("ok", b'0', b"")]),
            ),
            refuse("a header at the end", "without a member", archive(&[pax(&[("path", "a")])])),
            refuse(
                "a path in a global record",
                "global record",
                archive(&[member("g", b'g', &record("path", "a")), member("ok", b'0', b"")]),
            ),
            refuse(
                "an owner in a global record",
                "global record",
                archive(&[member("g", b'g', &record("uid", "0")), member("ok", b'0', b"")]),
            ),
            refuse(
                "a global header in between",
                "global header between",
                archive(&[pax(&[("path", "a")]), member("g", b'g', &record("comment", "a")), member("ok", b'0', b"")]),
            ),
            refuse("no path", "empty path", with(&record("path", ""))),
            refuse(
                "headers without end",
                "bytes of extension headers",
                member("p", b'L', &[b"n".repeat(600 << 10), vec![0]].concat()).repeat(2),
            ),
            hold("text that is no UTF-8", with(&record("path", b"\xff\xfe")), |tree| assert_eq!(tree.names().len(), 1)),
            hold("a path that the header has not", with(&record("path", "other/file")), |tree| {
                assert_eq!(tree.names(), ["other"])
            }),
        ]
    });
}

#[test]
fn long_names() {
    layers("headers::long_names", |_| {
        let file = member("short", b'0', b"");
        vec![
            refuse("2 GiB", "bytes of extension headers", header("l", b'L', 2 << 30).to_vec()),
            refuse("a link of 2 GiB", "bytes of extension headers", header("l", b'K', 2 << 30).to_vec()),
            refuse("unterminated", "without its NUL", archive(&[member("l", b'L', b"name"), file.clone()])),
            refuse(
                "twice",
                "two GNU long names",
                archive(&[member("l", b'L', b"a\0"), member("l", b'L', b"b\0"), file.clone()]),
            ),
            refuse(
                "beside a pax path",
                "both a pax and a GNU header",
                archive(&[pax(&[("path", "a")]), member("l", b'L', b"b\0"), file.clone()]),
            ),
            refuse("empty", "empty", archive(&[member("l", b'L', b"\0"), file.clone()])),
            refuse(
                "longer than a path",
                "longer than a path",
                archive(&[member("l", b'L', &[b"n/".repeat(3000), b"n\0".to_vec()].concat()), file.clone()]),
            ),
            hold("as it should be", archive(&[member("l", b'L', b"long/name\0"), file]), |tree| {
                assert!(tree.has("long/name"))
            }),
        ]
    });
}

/// A sparse member in GNU's old form.
fn old(regions: &[(u64, u64)], real: u64, stored: u64) -> Vec<u8> {
    edited("hole", b'S', stored, |block| {
        block[257..265].copy_from_slice(b"ustar  \0");
        for (index, (offset, length)) in regions.iter().enumerate() {
            octal(&mut block[386 + index * 24..398 + index * 24], *offset);
            octal(&mut block[398 + index * 24..410 + index * 24], *length);
        }
        octal(&mut block[483..495], real);
    })
}

#[test]
fn sparse_maps() {
    let budget = Budget { file: 16 << 30, ..Budget::default() };
    layers_within("headers::sparse_maps", budget, |_| {
        let data = padded(b"abcde");
        let listed = |map: &str, blocks: &str, size: &str| {
            let records = [
                ("GNU.sparse.size", size),
                ("GNU.sparse.numblocks", blocks),
                ("GNU.sparse.name", "hole"),
                ("GNU.sparse.map", map),
            ];
            archive(&[pax(&records), member("x", b'0', b"abcde")])
        };
        let front = |map: &str, size: &str| {
            let records = [
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.name", "hole"),
                ("GNU.sparse.realsize", size),
            ];
            archive(&[pax(&records), member("x", b'0', &[padded(map.as_bytes()), b"abcde".to_vec()].concat())])
        };
        let hole = |tree: &Tree| {
            use std::os::unix::fs::MetadataExt;
            let expected = [vec![0; 1000], b"abc".to_vec(), vec![0; 2997], b"de".to_vec(), vec![0; 998]].concat();
            assert_eq!(std::fs::read(tree.path.join("hole")).unwrap(), expected);
            assert!(tree.meta("hole").blocks() < 1000);
        };
        vec![
            hold("old, exact", archive(&[old(&[(1000, 3), (4000, 2)], 5000, 5), data.clone()]), hole),
            hold("in a record, exact", listed("1000,3,4000,2", "2", "5000"), hole),
            hold("at the front, exact", front("2\n1000\n3\n4000\n2\n", "5000"), hole),
            hold("a hole of 8 GiB", archive(&[old(&[(0, 5)], (8 << 30) - 1, 5), data.clone()]), |tree| {
                use std::os::unix::fs::MetadataExt;
                assert!(tree.meta("hole").len() == (8 << 30) - 1 && tree.meta("hole").blocks() < 1000);
            }),
            refuse("overlapping", "overlap", archive(&[old(&[(0, 3), (2, 2)], 5000, 5), data.clone()])),
            refuse(
                "backwards",
                "overlap or go backwards",
                archive(&[old(&[(4000, 3), (1000, 2)], 5000, 5), data.clone()]),
            ),
            refuse("past the end", "past the end", archive(&[old(&[(1000, 3), (4999, 2)], 5000, 5), data.clone()])),
            refuse("more data than regions", "add up", archive(&[old(&[(1000, 3)], 5000, 5), data])),
            refuse("an odd list", "odd count", listed("1000,3,4000", "2", "5000")),
            refuse("a list of text", "no decimal number", listed("1000,3,x,2", "2", "5000")),
            refuse("a count that is not the list's", "count", listed("1000,3,4000,2", "3", "5000")),
            refuse("a hole of 8 EiB", "bytes in all members", listed("0,5", "1", "9223372036854775807")),
            refuse("a hole past 2^63", "past the end of any file", listed("18446744073709551615,5", "1", "5000")),
            refuse("a map without end", "no decimal number", front("2", "5000")),
            refuse("a map of a billion regions", "regions", front("999999999\n", "5000")),
            refuse("a map of text", "no decimal number", front("-1\n", "5000")),
            refuse(
                "an unknown version",
                "unknown version",
                archive(&[pax(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")]), member("f", b'0', b"")]),
            ),
            refuse(
                "a record of two formats",
                "several",
                archive(&[
                    pax(&[
                        ("GNU.sparse.major", "1"),
                        ("GNU.sparse.minor", "0"),
                        ("GNU.sparse.realsize", "5"),
                        ("GNU.sparse.size", "5"),
                    ]),
                    member("f", b'0', b""),
                ]),
            ),
        ]
    });
}

#[test]
fn checksums_and_ends() {
    layers("headers::checksums_and_ends", |_| {
        let one = member("f", b'0', b"data");
        let has_f = |tree: &Tree| assert_eq!(tree.names(), ["f"]);
        let mut wrong = one.clone();
        wrong[0] ^= 1;
        let negative = edited("f", b'0', 0, |block| block[124..136].fill(0xff));
        let short = Limits { trailer_bytes: 4096, ..Limits::default() };
        let mut rows: Vec<Row> = vec![
            refuse("a wrong checksum", "wrong checksum", archive(&[wrong])),
            refuse("a negative size", "negative", archive(&[negative])),
            refuse(
                "a size beyond all bounds",
                "bytes in all members",
                archive(&[edited("f", b'0', 0, |block| {
                    block[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
                })]),
            ),
            refuse("a size that the archive has not", "unexpected eof", header("f", b'0', 1 << 30).to_vec()),
            refuse(
                "a member after one block of zeros",
                "after a block of zeros",
                [one.clone(), vec![0; 512], one.clone(), end()].concat(),
            ),
            refuse("no tar at all", "tar header", b"not a tar archive, whatever it was said to be. ".repeat(40)),
            hold("no end mark", one.clone(), has_f),
            hold("one block of zeros", [one.clone(), vec![0; 512]].concat(), has_f),
            hold("a member behind the end", [one.clone(), end(), member("g", b'0', b"")].concat(), has_f),
            refuse("too much behind the end", "bytes after the end mark", [one.clone(), end(), vec![7; 4097]].concat())
                .limits(short),
            hold("nothing", Vec::new(), |tree| assert!(tree.names().is_empty())),
            hold("an end alone", tar().bytes(), |tree| assert!(tree.names().is_empty())),
        ];
        for cut in [1, 511, 512, 515, 1023] {
            rows.push(refuse(format!("cut at {cut}"), "unexpected eof", one[..cut].to_vec()));
        }
        rows
    });
}
