//! Paths of members: out of the archive, absolute, long, deep, and names that only look like others.

use layer::tar::{Entry, Kind};

use crate::common::tar;
use crate::frame::{Row, hold, layers, refuse};
use crate::raw::{archive, edited, member, pax};

#[test]
fn paths_out() {
    layers("paths::paths_out", |canary| {
        let up = format!("{}{}/new", "../".repeat(20), canary.path().trim_start_matches('/'));
        let paths = ["../x", "a/../../x", "..", "/..", "a/..", "./../x", "a/b/../../../x", "//..//x", up.as_str()];
        let mut rows: Vec<Row> = Vec::new();
        for path in paths {
            let reason = "leads out of the archive";
            if path.len() <= 100 {
                rows.push(refuse(format!("file {path:?}"), reason, archive(&[member(path, b'0', b"x")])));
                rows.push(refuse(format!("directory {path:?}"), reason, archive(&[member(path, b'5', b"")])));
                let link = edited("l", b'1', 0, |block| block[157..157 + path.len()].copy_from_slice(path.as_bytes()));
                rows.push(refuse(format!("hard link to {path:?}"), reason, archive(&[link])));
            }
            let long = archive(&[pax(&[("path", path)]), member("ok", b'0', b"x")]);
            rows.push(refuse(format!("{path:?} in a pax header"), reason, long));
            let long = archive(&[member("l", b'L', format!("{path}\0").as_bytes()), member("ok", b'0', b"x")]);
            rows.push(refuse(format!("{path:?} in a GNU header"), reason, long));
        }
        rows
    });
}

#[test]
fn absolute_paths() {
    layers("paths::absolute_paths", |canary| {
        let file = format!("{}/file", canary.path());
        let (new, inside) = (format!("{}/new", canary.path()), file.clone());
        vec![
            hold(
                "files at absolute paths",
                tar().file("/etc/x", b"in").file(&file, b"in").file(&new, b"in"),
                move |tree| {
                    assert_eq!((tree.text("etc/x"), tree.text(&inside)), ("in".to_owned(), "in".to_owned()));
                },
            ),
            hold("slashes and dots", tar().file("///a//./b", b"in").dir("./"), |tree| {
                assert_eq!(tree.text("a/b"), "in");
            }),
            hold(
                "an absolute hard link",
                tar().file("f", b"x").link("d/g", Kind::HardLink, "f").link("h", Kind::HardLink, "/f"),
                |tree| {
                    use std::os::unix::fs::MetadataExt;
                    assert_eq!((tree.meta("d/g").nlink(), tree.text("h")), (3, "x".to_owned()));
                },
            ),
        ]
    });
}

#[test]
fn names_and_depths() {
    layers("paths::names_and_depths", |_| {
        let odd = ["A", "a", "\u{202e}gpj.sh", "new\nline", "-rf", "%2e%2e", "..\\..\\x", "...", ".. ", "\u{1b}[2J"];
        let twins = odd.iter().fold(tar(), |tar, name| tar.file(name, name.as_bytes()));
        let bytes = tar().entry(Entry::new(&b"\xff\xfe"[..], Kind::File, 0o644)).bytes();
        vec![
            hold("names that only look like others", twins, move |tree| {
                assert_eq!(tree.names().len(), odd.len());
                assert!(odd.iter().all(|name| tree.text(name) == **name));
            }),
            hold("a name that is no text", bytes, |tree| assert_eq!(tree.names().len(), 1)),
            hold("255 bytes of name", tar().file(&"n".repeat(255), b"x"), |tree| assert!(tree.has(&"n".repeat(255)))),
            refuse("256 bytes of name", "longer than a file name", tar().file(&"n".repeat(256), b"x")),
            hold("as deep as a path can name", tar().dir(&"d/".repeat(2047)), |tree| assert!(tree.is_dir("d"))),
            refuse("deeper than a path can name", "longer than a path", tar().dir(&"d/".repeat(2048))),
            refuse("the root as a file", "root of the archive", archive(&[member("./.", b'0', b"")])),
            refuse("no path", "empty", archive(&[member("", b'0', b"")])),
            refuse("a NUL in the path", "NUL", archive(&[pax(&[("path", "a\0b")]), member("ok", b'0', b"")])),
            refuse("a file below a file", "not a directory", tar().file("f", b"x").file("f/g", b"y")),
        ]
    });
}
