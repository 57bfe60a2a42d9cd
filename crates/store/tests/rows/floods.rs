//! Layers of very many members, directories or bytes: bounded by counts, and taken in with memory that does not depend
//! on them.

use layer::tar::{Kind, Limits};

use crate::budget::Budget;
use crate::common::tar;
use crate::frame::{hold, layers, layers_within, refuse};
use crate::raw::{archive, end, member};

#[test]
fn bounds() {
    layers("floods::bounds", |_| {
        let many = (0..200).fold(tar(), |tar, index| tar.file(&format!("f{index}"), b"0123456789")).bytes();
        let with = |entries, total_bytes| Limits { entries, total_bytes, ..Limits::default() };
        let global = member("g", b'g', b"9 a=bcde\n").repeat(300);
        vec![
            refuse("one member too many", "more than 199 members", many.clone()).limits(with(199, 1 << 20)),
            refuse("one byte too many", "more than", many.clone()).limits(with(200, 1999)),
            hold("as many as may be", many, |tree| assert_eq!(tree.names().len(), 200)).limits(with(200, 1 << 20)),
            refuse("global headers", "more than 200 members", [global, end()].concat()).limits(with(200, 1 << 20)),
            refuse("empty headers", "", archive(&[member("l", b'L', b"").repeat(3), member("f", b'0', b"")])),
        ]
    });
}

/// Two thousand directories for one header: neither all of them nor their times are kept in memory.
#[test]
fn implied_directories() {
    layers("floods::implied_directories", |_| {
        let deep = |index: usize| format!("{index}/{}f", "d/".repeat(1900));
        let some = (0..3).fold(tar(), |tar, index| tar.file(&deep(index), b"")).bytes();
        vec![hold("six thousand of them", some, |tree| assert_eq!(tree.names().len(), 3))]
    });
}

#[test]
fn very_many_members() {
    let budget = Budget { memory: 700 << 20, file: 512 << 20, ..Budget::default() };
    layers_within("floods::very_many_members", budget, |_| {
        let small = (0..5_000).fold(tar(), |tar, index| tar.file(&format!("{}/{index}", index % 100), b"x")).bytes();
        let same = tar().dir("d").bytes()[..512].repeat(50_000);
        let links =
            (0..5000).fold(tar().file("f", b"x"), |tar, index| tar.link(&format!("l{index}"), Kind::HardLink, "f"));
        vec![
            hold("small files", small, |tree| assert_eq!(tree.names().len(), 100)),
            hold("one directory again and again", same, |tree| assert_eq!(tree.names(), ["d"])),
            hold("names of one file", links, |tree| assert_eq!(tree.names().len(), 5001)),
        ]
    });
}
