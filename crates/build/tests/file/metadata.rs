//! What files have besides their data, archives, and owners by name.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, lchown, symlink};
use std::process::Command;

use build::file::{self, ModeChange};
use rustix::fs::{FileType, Mode, XattrFlags};

use crate::{Trees, chmod, meta, plain};

#[test]
fn everything_a_file_has_comes_along() {
    let trees = Trees::new();
    trees.files(&["d/one", "d/suid"]);
    fs::hard_link(trees.src("d/one"), trees.src("d/two")).unwrap();
    symlink("/nowhere", trees.src("d/link")).unwrap();
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(rustix::fs::CWD, trees.src(name), kind, Mode::RUSR, device).unwrap();
    };
    make("d/fifo", FileType::Fifo, 0);
    make("d/null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    std::os::unix::net::UnixListener::bind(trees.src("d/socket")).unwrap();
    let sparse = fs::File::create(trees.src("d/sparse")).unwrap();
    sparse.write_at(b"end", 1 << 40).unwrap();
    let odd = OsStr::from_bytes(b"\xff\xfe");
    fs::write(trees.src("d").join(odd), "odd").unwrap();
    for name in ["d/one", "d/suid", "d/link", "d/fifo"] {
        lchown(trees.src(name), Some(1234), Some(5678)).unwrap();
    }
    chmod(trees.src("d/suid"), 0o4755);
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let set = |key: &str, value: &[u8]| rustix::fs::setxattr(trees.src("d/suid"), key, value, XattrFlags::empty());
    let (capable, noted) = (set("security.capability", &capability).is_ok(), set("user.note", b"x").is_ok());

    trees.copy("d", "/t").unwrap();
    let (one, two) = (meta(trees.dst("t/one")), meta(trees.dst("t/two")));
    assert_eq!((one.ino(), one.nlink()), (two.ino(), 2));
    for name in ["one", "suid", "link", "fifo", "null", "sparse"] {
        let (before, after) = (meta(trees.src("d").join(name)), meta(trees.dst("t").join(name)));
        let all = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid(), m.size(), m.rdev(), m.mtime(), m.mtime_nsec());
        assert_eq!(all(&before), all(&after), "{name}");
    }
    assert_eq!(meta(trees.dst("t/suid")).mode() & 0o7777, 0o4755);
    assert!(meta(trees.dst("t/sparse")).blocks() < 1000, "holes stay holes");
    assert!(!trees.dst("t/socket").exists());
    assert_eq!(fs::read_to_string(trees.dst("t").join(odd)).unwrap(), "odd");
    let get = |key: &str| {
        let mut value = [0_u8; 64];
        rustix::fs::getxattr(trees.dst("t/suid"), key, &mut value[..]).map(|length| value[..length].to_vec())
    };
    assert_eq!(get("user.note").is_ok(), noted);
    if capable {
        assert_eq!(get("security.capability").unwrap(), capability);
    }
}

#[test]
fn owner_mode_and_time_can_be_given() {
    let trees = Trees::new();
    trees.files(&["d/f", "d/x"]);
    symlink("f", trees.src("d/link")).unwrap();
    chmod(trees.src("d/x"), 0o700);
    lchown(trees.src("d/f"), Some(77), Some(77)).unwrap();
    let mut action = plain("d", "/p/q/t");
    action.owner = Some((10, 20));
    action.mode = Some(ModeChange::parse("a=rX").unwrap());
    action.timestamp = Some(1_500_000_000_000_000_001);
    trees.copy_as(&action).unwrap();
    for name in ["p", "p/q", "p/q/t", "p/q/t/f", "p/q/t/x", "p/q/t/link"] {
        let found = meta(trees.dst(name));
        assert_eq!((found.uid(), found.gid()), (10, 20), "{name}");
        assert_eq!((found.mtime(), found.mtime_nsec()), (1_500_000_000, 1), "{name}");
    }
    assert_eq!(meta(trees.dst("p/q/t/f")).mode() & 0o7777, 0o444);
    assert_eq!(meta(trees.dst("p/q/t/x")).mode() & 0o7777, 0o555);
    assert_eq!(meta(trees.dst("p")).mode() & 0o7777, 0o755);
    action = plain("d/f", "/f");
    action.mode = Some(ModeChange::Bits(0o4711));
    trees.copy_as(&action).unwrap();
    let found = meta(trees.dst("f"));
    assert_eq!((found.mode() & 0o7777, found.uid()), (0o4711, 77));
}

#[test]
fn archives_are_unpacked() {
    let trees = Trees::new();
    trees.files(&["tree/in/file", "text"]);
    symlink("/etc", trees.src("tree/abs")).unwrap();
    lchown(trees.src("tree/in/file"), Some(7), Some(8)).unwrap();
    let mut action = plain("", "");
    action.attempt_unpack = true;
    for (flag, name) in [("-c", "a.tar"), ("-cz", "b.gz"), ("-cj", "c.bz2"), ("-cJ", "d.xz"), ("--zstd", "e.zst")] {
        let mut tar = Command::new("tar");
        tar.args((flag == "--zstd").then_some("-c")).arg(flag).arg("-f").arg(trees.src(name));
        if !tar.arg("-C").arg(trees.src("tree")).arg(".").output().unwrap().status.success() {
            // The program has not every compression at hand everywhere.
            assert!(!matches!(name, "a.tar" | "b.gz"));
            fs::remove_file(trees.src(name)).ok();
            continue;
        }
        action.selection.src = name.to_owned();
        action.dest = format!("/{name}.d");
        trees.copy_as(&action).unwrap();
        let file = trees.dst(&action.dest[1..]).join("in/file");
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), meta(&file).uid()), ("tree/in/file", 7), "{name}");
        action.owner = Some((1, 2));
        trees.copy_as(&action).unwrap();
        assert_eq!((meta(&file).uid(), meta(&file).gid()), (1, 2));
        action.owner = None;
    }
    // What is no archive is copied; a directory is.
    fs::write(trees.src("cut"), &fs::read(trees.src("b.gz")).unwrap()[..20]).unwrap();
    for src in ["text", "cut", "tree"] {
        action.selection.src = src.to_owned();
        action.dest = format!("/{src}.copy");
        trees.copy_as(&action).unwrap();
    }
    assert!(meta(trees.dst("text.copy")).is_file() && meta(trees.dst("cut.copy")).is_file());
    assert!(trees.dst("tree.copy/in/file").exists());
    trees.copy("a.tar", "/whole.tar").unwrap();
    assert!(meta(trees.dst("whole.tar")).is_file());
    // A whole first member and nothing after it: an archive, and a broken one.
    let text = fs::read(trees.src("a.tar")).unwrap();
    fs::write(trees.src("broken"), &text[..700]).unwrap();
    action.selection.src = "broken".to_owned();
    assert!(trees.copy_as(&action).unwrap_err().starts_with("cannot unpack /broken: "));
}

#[test]
fn owners_come_from_the_tree() {
    let trees = Trees::new();
    let owner = |user, group| {
        let mut unknown = Vec::new();
        let found = file::owner(&trees.to, user, group, |error| unknown.push(error.to_string()));
        match unknown.pop() {
            // Named, and taken for root.
            Some(text) => Err(format!("{text} {:?}", found.unwrap())),
            None => found.map_err(|e| e.to_string()),
        }
    };
    assert_eq!(owner(None, None), Ok((0, 0)));
    assert_eq!(owner(Some("55"), None), Ok((55, 55)));
    assert_eq!(owner(Some("55"), Some("66")), Ok((55, 66)));
    assert_eq!(
        owner(Some("web"), None).unwrap_err(),
        "unable to find user web: no matching entries in passwd file (0, 0)"
    );
    fs::create_dir_all(trees.dst("etc")).unwrap();
    fs::write(trees.dst("etc/passwd"), b"\xff\xff\nroot:x:0:0::/:\nweb:x:33:34:w:/:/bin/sh\nbad:x:no:1\n").unwrap();
    fs::write(trees.dst("real"), "web:x:44:\nstaff:x:50:a,b\n").unwrap();
    symlink("../../../real", trees.dst("etc/group")).unwrap();
    assert_eq!(owner(Some("web"), None), Ok((33, 34)));
    assert_eq!(owner(Some("web"), Some("staff")), Ok((33, 50)));
    assert_eq!(owner(Some("7"), Some("web")), Ok((7, 44)));
    assert_eq!(owner(None, Some("staff")), Ok((0, 50)));
    for (user, group) in [("bad", ""), ("nobody", ""), ("-1", ""), ("4294967295", ""), ("web", "99999999999")] {
        assert!(owner(Some(user), Some(group)).is_err(), "{user}");
    }
    let none = owner(Some("web"), Some("none")).unwrap_err();
    assert!(none.starts_with("unable to find group none") && none.ends_with("(33, 34)"), "{none}");
    fs::remove_file(trees.dst("etc/passwd")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, trees.dst("etc/passwd"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let error = owner(Some("web"), None).unwrap_err();
    assert!(error.starts_with("unable to find user web"), "and nobody waits for a writer: {error}");
}
