//! The index of an archive, mounted by the kernel, against the same archive unpacked by the store.

mod common;

use common::{Members, archive, index, isolated};
use erofs::Error;
use layer::tar::{Entry, Kind};

fn file(path: &str, data: &[u8]) -> (Entry, Vec<u8>) {
    let mut entry = Entry::new(path, Kind::File, 0o644);
    entry.size = data.len() as u64;
    (entry.mtime.secs, entry.mtime.nanos) = (1_000_000_000, 123_456_789);
    (entry, data.to_vec())
}

fn node(path: &str, kind: Kind, mode: u32) -> (Entry, Vec<u8>) {
    let mut entry = Entry::new(path, kind, mode);
    (entry.mtime.secs, entry.mtime.nanos) = (1_100_000_000, 1);
    (entry, Vec::new())
}

fn dir(path: &str) -> (Entry, Vec<u8>) {
    node(path, Kind::Directory, 0o755)
}

fn link(path: &str, kind: Kind, target: &str) -> (Entry, Vec<u8>) {
    let (mut entry, data) = node(path, kind, 0o777);
    entry.link = target.into();
    (entry, data)
}

fn xattr(mut member: (Entry, Vec<u8>), key: &str, value: &[u8]) -> (Entry, Vec<u8>) {
    member.0.xattrs.push((key.into(), value.to_vec()));
    member
}

fn own(mut member: (Entry, Vec<u8>), uid: u32, gid: u32, mode: u32) -> (Entry, Vec<u8>) {
    (member.0.uid, member.0.gid, member.0.mode) = (uid, gid, mode);
    member
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&perm.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

#[test]
fn every_kind_of_member() {
    isolated(|place| {
        let mut device = node("dev/null", Kind::CharDevice, 0o666);
        (device.0.major, device.0.minor) = (1, 3);
        let mut disk = node("dev/disk", Kind::BlockDevice, 0o660);
        (disk.0.major, disk.0.minor, disk.0.gid) = (4095, 1_048_575, 6);
        let mut old = file("old", b"before 1970");
        old.0.mtime.secs = -5;
        let mut late = file("late", b"after 2446");
        late.0.mtime.secs = 1 << 40;
        let summary = place.check_members(&[
            own(dir("./"), 3, 4, 0o1771),
            dir("etc"),
            file("etc/one", b"x"),
            file("etc/block", &[7; 512]),
            file("etc/more", &[8; 513]),
            file("etc/large", &(0..1_000_000).map(|n| (n / 7) as u8).collect::<Vec<_>>()),
            file("etc/empty", b""),
            own(file("etc/owned", b"y"), 4_000_000_000, 70_000, 0o6755),
            file("implied/deep/file", b"z"),
            link("short", Kind::Symlink, "etc/one"),
            link("dangling", Kind::Symlink, "/no/such"),
            link("long", Kind::Symlink, &"l".repeat(447)),
            link("longer", Kind::Symlink, &"/m".repeat(400)),
            link("longest", Kind::Symlink, &"n".repeat(4095)),
            device,
            disk,
            node("pipe", Kind::Fifo, 0o4622),
            link("hard", Kind::HardLink, "etc/one"),
            link("etc/soft", Kind::HardLink, "short"),
            link("dev/also", Kind::HardLink, "dev/null"),
            old,
            late,
        ]);
        // The members, dev, implied, implied/deep, but one inode for two of the hard links each.
        assert_eq!(summary.inodes, 22 + 3 - 3);
        let empty = place.check_members(&[]);
        assert_eq!((empty.inodes, empty.entries), (1, 0));
    });
}

#[test]
fn later_members_win() {
    isolated(|place| {
        let rows: Vec<Members> = vec![
            vec![file("f", b"1"), file("f", b"22"), file("./f", b"333")],
            vec![file("f", b"1"), dir("f"), file("f/g", b"2")],
            vec![file("d/g", b"1"), file("d", b"2")],
            vec![file("f", b"1"), link("g", Kind::HardLink, "f"), file("f", b"2")],
            vec![file("f", b"1"), link("g", Kind::HardLink, "f"), link("g", Kind::HardLink, "f")],
            vec![file("a/f", b"1"), link("g", Kind::HardLink, "a/f"), file("a", b"2"), link("h", Kind::HardLink, "g")],
            vec![own(dir("d"), 1, 2, 0o700), file("d/f", b"1"), own(dir("d"), 3, 4, 0o2755), file("d/g/h", b"2")],
            vec![link("l", Kind::Symlink, "real"), dir("real"), file("l/f", b"1"), dir("l"), file("l/g", b"2")],
            vec![
                dir("real/x"),
                link("l", Kind::Symlink, "real"),
                file("l/x/y", b"1"),
                link("m", Kind::HardLink, "l/x/y"),
            ],
            vec![dir("a"), dir("b"), link("a/up", Kind::Symlink, "../../../b/./"), file("a/up/new/f", b"1")],
            vec![link("s", Kind::Symlink, "t"), node("s", Kind::Fifo, 0o600), link("s", Kind::Symlink, "u")],
            vec![own(dir("g"), 0, 7, 0o2775), file("g/new/er/f", b"1"), file("g/.wh.gone", b""), dir("g/own")],
        ];
        for members in rows {
            place.check_members(&members);
        }
    });
}

#[test]
fn whiteouts() {
    isolated(|place| {
        let rows: Vec<Members> = vec![
            vec![file("etc/.wh.gone", b""), file(".wh.top", b"ignored content"), link("x/.wh.y", Kind::HardLink, "z")],
            vec![dir("d"), file("d/f", b"1"), file("d/.wh..wh..opq", b"")],
            vec![file("new/.wh..wh..opq", b""), file("new/f", b"1")],
            vec![dir("d"), file(".wh.d", b"")],
            vec![file(".wh.d", b""), dir("d"), file("d/f", b"1")],
            vec![file(".wh.f", b""), file("f", b"1")],
            vec![file("f", b"1"), file(".wh.f", b"")],
            vec![file(".wh.f", b""), file(".wh.f", b"")],
        ];
        for members in rows {
            place.check_members(&members);
        }
        let top = place.check_members(&[file("f", b"1"), file(".wh..wh..opq", b""), file(".wh..wh.aufs", b"")]);
        assert!(top.opaque_root);
    });
}

#[test]
fn attributes() {
    isolated(|place| {
        let mut capability = 0x0200_0001_u32.to_le_bytes().to_vec();
        capability.extend_from_slice(&[0xff; 16]);
        let mut scoped = 0x0300_0001_u32.to_le_bytes().to_vec();
        scoped.extend_from_slice(&[1; 20]);
        let full = acl(&[(1, 7, 0), (2, 5, 1000), (4, 5, 0), (8, 6, 50), (0x10, 7, 0), (0x20, 1, 0)]);
        let short = acl(&[(1, 6, 9), (4, 4, 9), (0x20, 4, 9)]);
        let rows: Vec<Members> = vec![
            vec![
                xattr(file("f", b"1"), "user.note", b"value"),
                xattr(xattr(file("g", b"1"), "user.empty", b""), "user.binary", &[0, 1, 255]),
                xattr(file("caps", b"1"), "security.capability", &capability),
                xattr(link("caps-link", Kind::Symlink, "f"), "security.capability", &capability),
                xattr(node("caps-pipe", Kind::Fifo, 0o644), "security.capability", &scoped),
                xattr(link("l", Kind::Symlink, "f"), "user.none", b"on a symlink"),
                xattr(node("p", Kind::Fifo, 0o644), "user.none", b"on a pipe"),
                xattr(file("labels", b"1"), "security.selinux", b"label"),
                xattr(file("hidden", b"1"), "user.overlay.redirect", b"/etc"),
                xattr(dir("trusted"), "trusted.overlay.opaque", b"y"),
                xattr(file("version", b"1"), ACCESS, &[1, 0, 0, 0]),
                xattr(link("acl-link", Kind::Symlink, "f"), ACCESS, &full),
            ],
            vec![
                xattr(file("f", b"1"), ACCESS, &full),
                xattr(own(file("short", b"1"), 0, 0, 0o6777), ACCESS, &short),
                xattr(node("p", Kind::Fifo, 0o600), ACCESS, &full),
                xattr(xattr(dir("d"), DEFAULT, &full), ACCESS, &full),
                own(dir("d"), 0, 0, 0o750),
                xattr(dir("e"), DEFAULT, &full),
                file("e/f", b"1"),
                file("e/x/y/z", b"1"),
                dir("e/d"),
                xattr(dir("e/d"), DEFAULT, &[2, 0, 0, 0]),
                file("e/d/f", b"1"),
                xattr(dir("e/d"), ACCESS, b""),
                file("e/.wh.gone", b""),
                link("e/l", Kind::Symlink, "f"),
                xattr(dir("s"), DEFAULT, &short),
                file("s/implied/f", b"1"),
                file("s/.wh.gone", b""),
            ],
            vec![xattr(dir("./"), DEFAULT, &full), file("f", b"1"), file("d/f", b"1")],
            vec![xattr(dir("d"), "user.a", b"1"), xattr(dir("d"), "user.b", b"2"), xattr(dir("d"), "user.a", b"3")],
            vec![
                xattr(file("large", b"1"), "user.large", &[5; 65_535]),
                xattr(xattr(dir("larger"), "user.one", &[5; 65_535]), "user.two", &[6; 60_000]),
                xattr(xattr(file("larger/f", b"1"), "user.one", &[5; 65_535]), "user.two", &[6; 60_001]),
                (0..200).fold(file("many", b"1"), |member, n| xattr(member, &format!("user.{n}"), &vec![n; n.into()])),
                xattr(file("name", b"1"), &format!("user.{}", "n".repeat(250)), b"v"),
                (0..40).fold(link("l", Kind::Symlink, &"t".repeat(300)), |member, n| {
                    xattr(member, "security.capability", &capability[..20 - usize::from(n == 50)])
                }),
            ],
            (0..70)
                .map(|n| {
                    xattr(link(&format!("l{n}"), Kind::Symlink, &"x".repeat(7 * n)), "security.capability", &capability)
                })
                .skip(1)
                .collect(),
            (0..130).map(|n| xattr(dir(&format!("d{n}")), "user.pad", &vec![1; 4 * n])).collect(),
        ];
        for members in rows {
            place.check_members(&members);
        }
        let too_large = archive(&[xattr(file("f", b"1"), "user.x", &[0; 65_536])]);
        assert!(matches!(place.check(&too_large), Err(Error::Unsupported(_))));
    });
}

#[test]
fn many_and_deep() {
    isolated(|place| {
        let mut wide: Members = (0..10_000_u32)
            .map(|n| file(&format!("wide/{:x}", n.wrapping_mul(2_654_435_761)), n.to_string().as_bytes()))
            .collect();
        wide.extend((0..300).map(|n| file(&format!("long/{}{n}", "n".repeat(250)), b"1")));
        wide.extend((1..=255).map(|n| file(&format!("lengths/{}", "m".repeat(n)), b"1")));
        // What sorts before the dots.
        wide.extend(
            ["!", "+", "-", ".a", "..a", "...", "\u{1}", "~", "\u{ff}"].map(|name| file(&format!("odd/{name}"), b"1")),
        );
        wide.extend((0..100).map(|n| dir(&format!("wide/d{n}"))));
        place.check_members(&wide);
        let mut deep: Members = vec![file(&"d/".repeat(1000), b"")];
        deep[0].0.kind = Kind::Directory;
        // Twice as deep as a path can be, through a symlink.
        deep.push(link("l", Kind::Symlink, &"d/".repeat(1000)));
        deep.push(file(&format!("l/{}f", "e/".repeat(1000)), b"deep"));
        place.check_members(&deep);
        // Exactly at the end of a block of a directory.
        for last in 180..=255 {
            place.check_members(&[file(&"a".repeat(200), b"1"), file(&"b".repeat(last), b"2"), file("c", b"3")]);
        }
    });
}

#[test]
fn refused_alike() {
    isolated(|place| {
        let mut reserved = node("dev/x", Kind::CharDevice, 0o600);
        (reserved.0.major, reserved.0.minor) = (0, 0);
        let chain = |count: usize| {
            let mut members: Members = vec![dir("end")];
            members.extend((0..count).map(|n| {
                let target = if n == 0 { "end".to_owned() } else { format!("l{}", n - 1) };
                link(&format!("l{n}"), Kind::Symlink, &target)
            }));
            members.push(file(&format!("l{}/f", count - 1), b"1"));
            members
        };
        place.check_members(&chain(40));
        let mut short = acl(&[(1, 6, 0), (4, 4, 0)]);
        let rows: Vec<(&str, Members)> = vec![
            ("41 symlinks", chain(41)),
            ("loop", vec![link("l", Kind::Symlink, "l"), file("l/f", b"1")]),
            ("dangling parent", vec![link("l", Kind::Symlink, "no/such"), file("l/f", b"1")]),
            ("file as parent", vec![file("f", b"1"), file("f/g", b"2")]),
            ("file behind a symlink", vec![file("f", b"1"), link("l", Kind::Symlink, "f"), file("l/g", b"2")]),
            ("whiteout as parent", vec![file(".wh.f", b""), file("f/g", b"2")]),
            ("component of a link too long", vec![link("l", Kind::Symlink, &"n".repeat(256)), file("l/g", b"2")]),
            ("whiteout directory", vec![dir(".wh.d")]),
            ("reserved name", vec![file(".wh.", b"")]),
            ("below a reserved name", vec![file(".wh.a/b", b"")]),
            ("opaque with content", vec![file("d/.wh..wh..opq", b"x")]),
            ("device 0:0", vec![reserved]),
            ("missing target", vec![link("l", Kind::HardLink, "missing")]),
            ("missing parent of the target", vec![link("l", Kind::HardLink, "missing/f")]),
            ("file as parent of the target", vec![file("f", b"1"), link("l", Kind::HardLink, "f/g")]),
            ("link to a directory", vec![dir("d"), link("l", Kind::HardLink, "d")]),
            ("link to a whiteout", vec![file(".wh.f", b""), link("l", Kind::HardLink, "f")]),
            ("link to a marker", vec![link("l", Kind::HardLink, "d/.wh.f")]),
            ("link to itself", vec![file("f", b"1"), link("./f", Kind::HardLink, "f")]),
            ("link over its target", vec![file("d/f", b"1"), link("d", Kind::HardLink, "d/f")]),
            (
                "link to itself by another path",
                vec![file("d/f", b"1"), link("l", Kind::Symlink, "d"), link("l/f", Kind::HardLink, "d/f")],
            ),
            (
                "more implied directories than there may be",
                (0..2000).map(|n| file(&format!("{}x{n}/f", "d/".repeat(2000)), b"")).collect(),
            ),
            ("attribute without a name", vec![xattr(file("f", b"1"), "user.", b"1")]),
            ("name of an attribute", vec![xattr(file("f", b"1"), &format!("user.{}", "n".repeat(251)), b"1")]),
            ("value of an attribute", vec![xattr(link("l", Kind::Symlink, "f"), "user.x", &[0; 65_537])]),
            ("no capability", vec![xattr(file("f", b"1"), "security.capability", b"1")]),
            (
                "default list of a file",
                vec![xattr(file("f", b"1"), DEFAULT, &acl(&[(1, 6, 0), (4, 4, 0), (0x20, 4, 0)]))],
            ),
            ("no list", vec![xattr(link("l", Kind::Symlink, "f"), ACCESS, &[2, 0, 0])]),
            ("half a list", vec![xattr(dir("d"), ACCESS, &short)]),
            ("unknown entry", {
                short.extend_from_slice(&[3, 0, 7, 0, 0, 0, 0, 0]);
                vec![xattr(dir("d"), ACCESS, &short)]
            }),
        ];
        for (what, members) in rows {
            let error = place.check(&archive(&members)).expect_err(what);
            assert!(!matches!(error, Error::Unsupported(_)), "{what}: {error}");
        }
    });
}

#[test]
fn times_that_would_go_astray() {
    isolated(|place| {
        let rows: Vec<Members> = vec![
            vec![dir("d/e"), file("d", b"1")],
            vec![dir("a/d"), dir("b/d"), link("l", Kind::Symlink, "a"), dir("l/d"), link("l", Kind::Symlink, "b")],
            vec![dir("a/d"), link("l", Kind::Symlink, "a"), file("l/d", b"1")],
        ];
        for members in rows {
            let error = place.check(&archive(&members)).unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)), "{error}");
        }
        place.check_members(&[dir("d"), file("d", b"1")]);
    });
}

#[test]
fn holes() {
    isolated(|place| {
        // Data (offset, length) of files in the old GNU format, and whether an index can show it.
        type Regions = &'static [(u64, u64)];
        let rows: [(u64, Regions, bool); 10] = [
            (1 << 20, &[(4096, 4096), (65_536, 512)], true),
            (1_000_000, &[(0, 512), (999_936, 64)], true),
            (1_000_000, &[], true),
            (10_000, &[(0, 8192)], true),
            (10_000, &[(0, 10_000)], true),
            (10_000, &[(512, 1024), (1536, 512), (2048, 7952)], true),
            (0, &[], true),
            (10_000, &[(100, 512)], false),
            (10_000, &[(512, 100)], false),
            (1 << 39, &[(512, 512)], false),
        ];
        let mut all = Vec::new();
        for (number, (size, regions, shown)) in rows.into_iter().enumerate() {
            let member = sparse(&format!("f{number}"), size, regions);
            let tar = [&member[..], &archive(&[file("after", b"1")])].concat();
            match place.check(&tar) {
                Ok(_) => assert!(shown, "{size} {regions:?}"),
                Err(Error::Unsupported(_)) => assert!(!shown, "{size} {regions:?}"),
                Err(e) => panic!("{e}"),
            }
            if shown {
                all.extend_from_slice(&member);
            }
        }
        all.extend_from_slice(&archive(&[link("hard", Kind::HardLink, "f0")]));
        place.check(&all).unwrap();
    });
}

/// A member of the old GNU sparse format.
fn sparse(name: &str, size: u64, regions: &[(u64, u64)]) -> Vec<u8> {
    let octal = |value: u64, len: usize| format!("{value:0len$o}").into_bytes();
    let mut header = [0_u8; 512];
    let mut put = |at: usize, value: &[u8]| header[at..at + value.len()].copy_from_slice(value);
    let stored: u64 = regions.iter().map(|(_, length)| length).sum();
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    put(124, &octal(stored, 11));
    put(136, &octal(1_000_000_000, 11));
    put(148, b"        S");
    put(257, b"ustar  \0");
    for (index, (offset, length)) in regions.iter().enumerate() {
        put(386 + 24 * index, &octal(*offset, 11));
        put(398 + 24 * index, &octal(*length, 11));
    }
    put(483, &octal(size, 11));
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..154].copy_from_slice(&octal(sum, 6));
    header[154] = 0;
    let mut out = header.to_vec();
    out.extend((0..stored).map(|at| (at / 512 + at % 251) as u8 | 1));
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

#[test]
fn damage_is_seen() {
    isolated(|place| {
        let tar = archive(&[file("f", b"1")]);
        let (mut image, _) = index(&tar).unwrap();
        assert!(place.accepted(&tar, &image));
        image[1024 + 130] ^= 1;
        assert!(!place.accepted(&tar, &image), "the checksum covers the table of devices");
    });
}

#[test]
fn stacks_on_other_layers() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    isolated(|place| {
        let lower = place.trees().join("lower");
        for name in ["gone", "opaque/old", "kept/old", "replaced/old"] {
            std::fs::create_dir_all(lower.join(name)).unwrap();
        }
        let tar = archive(&[
            file(".wh.gone", b""),
            dir("opaque"),
            file("opaque/.wh..wh..opq", b""),
            file("opaque/new", b"1"),
            file("kept/new", b"2"),
            file(".wh.replaced", b""),
            dir("replaced"),
            file("replaced/new", b"3"),
        ]);
        let (image, _) = index(&tar).unwrap();
        let merged = place.trees().join("merged");
        std::fs::create_dir(&merged).unwrap();
        let names = place.mounted(&tar, &image, |upper| {
            let options = format!("lowerdir={}:{}", upper.display(), lower.display());
            let options = std::ffi::CString::new(options).unwrap();
            mount("overlay", &merged, "overlay", MountFlags::RDONLY, &*options).unwrap();
            let mut names = Vec::new();
            for top in std::fs::read_dir(&merged).unwrap().map(Result::unwrap) {
                for below in std::fs::read_dir(top.path()).unwrap().map(Result::unwrap) {
                    names.push(below.path().strip_prefix(&merged).unwrap().to_str().unwrap().to_owned());
                }
            }
            unmount(&merged, UnmountFlags::DETACH).unwrap();
            names.sort();
            names
        });
        assert_eq!(names, ["kept/new", "kept/old", "opaque/new", "replaced/new"]);
    });
}
