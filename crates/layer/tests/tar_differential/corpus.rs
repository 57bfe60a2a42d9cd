//! The archives that are mutated: every format and extension the readers know, put together byte by byte, and the ones
//! GNU tar itself writes.

use std::path::Path;
use std::process::Command;

use layer::tar::{Entry, Kind, Writer};

use crate::common::{BLOCK, archive, edited, end, header, member, octal, padded, pax, record, seal};

/// All of them.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut out = vec![plain(), v7(), extended(), attributes(), long_names(), numbers(), our_writer(), devices()];
    out.extend(sparse());
    out.extend(ends());
    out.extend(gnu_tar());
    out
}

fn link(name: &str, kind: u8, target: &str) -> Vec<u8> {
    edited(name, kind, 0, |block| block[157..157 + target.len()].copy_from_slice(target.as_bytes()))
}

fn gnu(name: &str, kind: u8, size: u64, edit: impl FnOnce(&mut [u8; 512])) -> Vec<u8> {
    edited(name, kind, size, |block| {
        block[257..265].copy_from_slice(b"ustar  \0");
        edit(block);
    })
}

fn plain() -> Vec<u8> {
    archive(&[
        member("dir/", b'5', b""),
        member("dir/file", b'0', b"some data"),
        member("empty", b'0', b""),
        link("dir/soft", b'2', "file"),
        link("hard", b'1', "dir/file"),
        member("pipe", b'6', b""),
        edited("name", b'0', 0, |block| block[345..351].copy_from_slice(b"prefix")),
        member("block", b'0', &[7; 512]),
    ])
}

fn v7() -> Vec<u8> {
    let old = |name: &str, kind: u8, data: &[u8]| {
        let head = edited(name, kind, data.len() as u64, |block| block[257..265].fill(0));
        [head, padded(data)].concat()
    };
    archive(&[old("old/", 0, b""), old("old/file", 0, b"data"), old("zero", b'0', b"x"), old("contiguous", b'7', b"y")])
}

fn extended() -> Vec<u8> {
    let long = "long/".repeat(30) + "name";
    archive(&[
        member("global", b'g', &record("comment", "of the archive")),
        pax(&[("path", long.as_str()), ("mtime", "1000000000.5"), ("uid", "3000000"), ("gid", "4000000")]),
        member("short", b'0', b"one"),
        pax(&[("size", "5"), ("comment", "none"), ("ctime", "1"), ("uname", "u")]),
        [header("sized", b'0', 0).to_vec(), padded(b"12345")].concat(),
        pax(&[("linkpath", long.as_str())]),
        link("soft", b'2', "t"),
        pax(&[("path", "d/")]),
        member("directory", b'5', b""),
    ])
}

fn attributes() -> Vec<u8> {
    archive(&[
        pax(&[("SCHILY.xattr.user.a", "value"), ("SCHILY.xattr.user.b", ""), ("LIBARCHIVE.creationtime", "1")]),
        member("file", b'0', b"data"),
        pax(&[(&b"SCHILY.xattr.security.capability"[..], &[1_u8, 0, 0, 2, 0, 0x20, 0, 0, 0, 0][..])]),
        member("capable", b'0', b"data"),
    ])
}

fn long_names() -> Vec<u8> {
    let name = "n/".repeat(90) + "end\0";
    let head = |kind: u8, size: usize| gnu("././@LongLink", kind, size as u64, |_| {});
    archive(&[
        [head(b'L', name.len()), padded(name.as_bytes())].concat(),
        [gnu("n/n", b'0', 4, |_| {}), padded(b"data")].concat(),
        [head(b'K', name.len()), padded(name.as_bytes())].concat(),
        gnu("soft", b'2', 0, |block| block[157..160].copy_from_slice(b"n/n")),
        [head(b'K', name.len()), padded(name.as_bytes())].concat(),
        [head(b'L', name.len()), padded(name.as_bytes())].concat(),
        gnu("hard", b'1', 0, |block| block[157..160].copy_from_slice(b"n/n")),
    ])
}

fn numbers() -> Vec<u8> {
    let base256 = |field: &mut [u8], value: u64| {
        field.fill(0);
        let at = field.len().saturating_sub(8).max(1);
        let bytes = value.to_be_bytes();
        let take = field.len() - at;
        field[at..].copy_from_slice(&bytes[8 - take..]);
        field[0] = 0x80;
    };
    archive(&[
        [gnu("a", b'0', 3, |block| base256(&mut block[124..136], 3)), padded(b"abc")].concat(),
        gnu("b", b'0', 0, |block| {
            base256(&mut block[108..116], 4_000_000_000);
            base256(&mut block[116..124], 3_000_000_000);
            base256(&mut block[136..148], 1 << 33);
        }),
        gnu("c", b'0', 0, |block| block[136..148].fill(0xff)),
        edited("d", b'0', 0, |block| block[108..116].copy_from_slice(b"   755 \0")),
        edited("e", b'0', 0, |block| block[116..124].copy_from_slice(b"0000755 ")),
    ])
}

fn devices() -> Vec<u8> {
    let node = |kind: u8, major: u64, minor: u64| {
        edited("node", kind, 0, |block| {
            octal(&mut block[329..337], major);
            octal(&mut block[337..345], minor);
        })
    };
    archive(&[node(b'3', 1, 3), node(b'4', 259, 1000), node(b'3', 4095, 1_048_575)])
}

fn our_writer() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).nanoseconds(true);
    for (path, kind) in [("w/\u{e9}", Kind::File), ("w/d", Kind::Directory), ("w/l", Kind::Symlink)] {
        let mut entry = Entry::new(path, kind, 0o6751);
        entry.mtime = layer::tar::Mtime { secs: -5, nanos: 250_000_000 };
        entry.xattrs.push((b"user.x".to_vec(), b"y=z".to_vec()));
        if kind == Kind::Symlink {
            entry.link = "t".repeat(150).into();
        }
        writer.entry(&entry).unwrap();
    }
    writer.finish().unwrap()
}

/// The sparse formats, by hand.
pub fn sparse() -> Vec<Vec<u8>> {
    let old = |regions: &[(u64, u64)], more: bool, size: u64| {
        gnu("old", b'S', size, |block| {
            for (index, (offset, length)) in regions.iter().enumerate() {
                octal(&mut block[386 + index * 24..398 + index * 24], *offset);
                octal(&mut block[398 + index * 24..410 + index * 24], *length);
            }
            block[482] = u8::from(more);
            octal(&mut block[483..495], 5000);
        })
    };
    let mut extension = vec![0; 512];
    octal(&mut extension[..12], 4900);
    octal(&mut extension[12..24], 1);
    let four = [(0, 1), (1000, 1), (2000, 1), (3000, 1)];
    let one = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "one"),
        ("GNU.sparse.realsize", "5000"),
    ];
    let listed = [
        ("GNU.sparse.size", "5000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.name", "listed"),
        ("GNU.sparse.map", "1000,3,4000,2"),
    ];
    let zero = [
        ("GNU.sparse.size", "5000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "1000"),
        ("GNU.sparse.numbytes", "3"),
        ("GNU.sparse.offset", "4000"),
        ("GNU.sparse.numbytes", "2"),
    ];
    let front = [padded(b"2\n1000\n3\n4000\n2\n"), b"abcde".to_vec()].concat();
    let next = member("next", b'0', b"n");
    vec![
        archive(&[old(&[(1000, 3), (4000, 2), (5000, 0)], false, 5), padded(b"abcde"), next.clone()]),
        archive(&[old(&four, true, 5), extension, padded(b"abcde"), next.clone()]),
        archive(&[pax(&one), member("GNUSparseFile.0/one", b'0', &front), next.clone()]),
        archive(&[pax(&listed), member("x", b'0', b"abcde"), next.clone()]),
        archive(&[pax(&zero), member("zero", b'0', b"abcde"), next]),
    ]
}

fn ends() -> Vec<Vec<u8>> {
    let one = member("f", b'0', b"data");
    vec![
        one.clone(),
        [one.clone(), vec![0; 512]].concat(),
        [one.clone(), end(), b"behind the end".to_vec()].concat(),
        [one.clone(), end(), one].concat(),
        end(),
        Vec::new(),
    ]
}

/// What GNU tar writes of a small tree, in each of its formats.
fn gnu_tar() -> Vec<Vec<u8>> {
    let Ok(dir) = tempfile::tempdir() else { return Vec::new() };
    let tree = dir.path().join("tree");
    fill(&tree);
    let formats: [&[&str]; 7] = [
        &["--format=v7"],
        &["--format=oldgnu", "--sparse"],
        &["--format=gnu", "--sparse"],
        &["--format=ustar"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
    ];
    let written = formats.iter().filter_map(|format| {
        let mut tar = Command::new("tar");
        tar.args(["--create", "--sort=name", "--mtime=@1000000000", "--owner=0", "--group=0", "--blocking-factor=1"]);
        // Names too long for a format are left out with an error.
        if format.contains(&"--format=posix") {
            tar.arg("--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f");
        }
        tar.args(*format).arg("--directory").arg(dir.path()).arg("tree").stderr(std::process::Stdio::null());
        tar.output().ok().map(|output| without_pid(output.stdout)).filter(|bytes| !bytes.is_empty())
    });
    written.collect()
}

/// GNU tar names sparse members after its process: the archives are to be the same in every run.
fn without_pid(mut bytes: Vec<u8>) -> Vec<u8> {
    const BEFORE: &[u8] = b"/GNUSparseFile.";
    for block in bytes.chunks_exact_mut(BLOCK) {
        let Some(at) = block.windows(BEFORE.len()).position(|part| part == BEFORE) else { continue };
        for byte in block[at + BEFORE.len()..].iter_mut().take_while(|byte| byte.is_ascii_digit()) {
            *byte = b'0';
        }
        if let Ok(block) = block.try_into() {
            seal(block);
        }
    }
    bytes
}

fn fill(tree: &Path) {
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    std::fs::write(tree.join("file"), "data of a file").unwrap();
    std::fs::hard_link(tree.join("file"), tree.join("twin")).unwrap();
    std::os::unix::fs::symlink("file", tree.join("soft")).unwrap();
    std::fs::write(tree.join("sub").join("n".repeat(180)), "long").unwrap();
    let hole = std::fs::File::create(tree.join("hole")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&hole, b"end", 60_000).unwrap();
    hole.set_len(70_000).unwrap();
}
