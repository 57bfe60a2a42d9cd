//! Layers and copies that try to get out of their tree, or to break the engine.

mod common;

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use common::{Tar, layer_path, lower_path, names, open, root, scratch, tar};
use layer::tar::{Entry, Kind, Limits};
use store::tree::{ExtractOptions, archive_path, copy_tree, extract, stat_path};
use store::{Error, LayerInfo, Store};
use sys::path::Root;
use types::Kind as ErrorKind;

/// A directory outside of every tree that must not change.
struct Canary {
    dir: tempfile::TempDir,
}

impl Canary {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "untouched").unwrap();
        Self { dir }
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn check(&self, what: &str) {
        let names: Vec<_> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"], "{what}");
        let meta = std::fs::metadata(self.dir.path().join("file")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.nlink(), meta.uid()), (0o644, 1, 0), "{what}");
        assert_eq!(std::fs::read_to_string(self.dir.path().join("file")).unwrap(), "untouched", "{what}");
    }
}

fn unpack(store: &std::sync::Arc<Store>, tar: &Tar) -> Result<(LayerInfo, PathBuf), Error> {
    let ingest = store.ingest();
    let info = ingest.layer(&tar.bytes()[..], None, None)?;
    ingest.commit()?;
    Ok((info, layer_path(store, &info.diff_id)))
}

#[test]
fn hard_links_to_the_top() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let layer = tar().file("f", b"x").link("d/g", Kind::HardLink, "f").link("h", Kind::HardLink, "/f");
    let (_, path) = unpack(&scratch.store, &layer).unwrap();
    assert_eq!(std::fs::metadata(path.join("d/g")).unwrap().nlink(), 3);
    assert_eq!(std::fs::read(path.join("h")).unwrap(), b"x");
}

#[test]
fn refused_layers() {
    if !root() {
        return;
    }
    let (scratch, canary) = (scratch(), Canary::new());
    let outside = canary.path();
    let up = format!("../../../../../../../..{outside}/file");
    let mut whiteout = Entry::new("dev/x", Kind::CharDevice, 0o600);
    (whiteout.major, whiteout.minor) = (0, 0);
    let mut opaque = tar().dir("d");
    opaque = opaque.file("d/.wh..wh..opq", b"data");
    let rows: Vec<(&str, Tar)> = vec![
        ("hard link out", tar().link("l", Kind::HardLink, &up)),
        ("hard link to a missing file", tar().link("l", Kind::HardLink, "missing")),
        ("hard link to an absolute path", tar().link("l", Kind::HardLink, &format!("{outside}/file"))),
        ("hard link through a symlink", tar().link("d", Kind::Symlink, outside).link("l", Kind::HardLink, "d/file")),
        ("hard link to a later file", tar().link("l", Kind::HardLink, "f").file("f", b"x")),
        ("hard link to a directory", tar().dir("d").link("l", Kind::HardLink, "d")),
        ("hard link to itself", tar().file("f", b"x").link("f", Kind::HardLink, "./f")),
        ("hard link to a whiteout", tar().file(".wh.f", b"").link("g", Kind::HardLink, "f")),
        ("smuggled whiteout", tar().entry(whiteout)),
        ("opaque marker with data", opaque),
        ("opaque directory", tar().dir("d/.wh..wh..opq")),
        ("opaque link", tar().link("d/.wh..wh..opq", Kind::Symlink, outside)),
        ("whiteout of the parent", tar().file("d/.wh...", b"")),
        ("whiteout of itself", tar().file("d/.wh..", b"")),
        ("whiteout of nothing", tar().file("d/.wh.", b"")),
        ("whiteout of a whiteout", tar().file("d/.wh..wh.x", b"")),
        ("whiteout directory", tar().file(".wh.d/x", b"")),
        ("whiteout that is a directory", tar().dir(".wh.d")),
        ("file below a file", tar().file("f", b"x").file("f/g", b"y")),
    ];
    for (what, tar) in rows {
        assert!(unpack(&scratch.store, &tar).is_err(), "{what} was accepted");
        canary.check(what);
        assert_eq!(std::fs::read_dir(scratch.store.path().join("layers")).unwrap().count(), 1, "{what} left something");
    }
}

#[test]
fn contained_layers() {
    if !root() {
        return;
    }
    let (scratch, canary) = (scratch(), Canary::new());
    let outside = canary.path();
    let relative = format!("../../../../../../../../../..{outside}");
    // Written through a link: lands below the layer's own root, where the link leads in there.
    for target in [outside, relative.as_str()] {
        let tar = tar().dir(outside).link("d", Kind::Symlink, target).file("d/new", b"x").file("d/.wh.file", b"");
        let (_, path) = unpack(&scratch.store, &tar).unwrap();
        canary.check(target);
        assert!(path.join(outside.trim_start_matches('/')).join("new").exists(), "{target}");
    }
    let looped = tar().link("a", Kind::Symlink, "b").link("b", Kind::Symlink, "a").file("a/x", b"x");
    assert!(unpack(&scratch.store, &looped).is_err(), "loop");
    // A member in the place of a link replaces it.
    let file = format!("{outside}/file");
    let mut mode = Entry::new("link", Kind::Directory, 0o777);
    mode.uid = 1000;
    let (_, path) = unpack(&scratch.store, &tar().link("link", Kind::Symlink, outside).entry(mode)).unwrap();
    assert!(std::fs::symlink_metadata(path.join("link")).unwrap().is_dir());
    canary.check("directory over a link");
    let tar_ = tar().file("f", b"1").link("f", Kind::Symlink, &file).file("f", b"last").dir("f2").link(
        "f2",
        Kind::Symlink,
        outside,
    );
    let (_, path) = unpack(&scratch.store, &tar_).unwrap();
    assert_eq!(std::fs::read_to_string(path.join("f")).unwrap(), "last");
    canary.check("file over a link");
    // A link that names its own way.
    let tar_ = tar().link("l", Kind::Symlink, ".").file("l/l", b"x").file("y", b"y");
    let (_, path) = unpack(&scratch.store, &tar_).unwrap();
    assert_eq!(
        (std::fs::read(path.join("l")).unwrap(), std::fs::read(path.join("y")).unwrap()),
        (b"x".to_vec(), b"y".to_vec())
    );
    // Attributes of a symlink stay with the symlink.
    let mut link = Entry::new("s", Kind::Symlink, 0o777);
    link.link = file.clone().into_bytes();
    (link.uid, link.xattrs) = (1234, vec![(b"user.x".to_vec(), b"y".to_vec())]);
    let (_, path) = unpack(&scratch.store, &tar().entry(link)).unwrap();
    assert_eq!(std::fs::symlink_metadata(path.join("s")).unwrap().uid(), 1234);
    canary.check("attributes");
}

#[test]
fn whiteouts_take_overlay_form() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let xattr = |path: &Path, name: &str| {
        Root::open(path).unwrap().dir().unwrap().xattr(name.as_ref(), "trusted.overlay.opaque".as_ref()).unwrap()
    };
    let tar_ = tar()
        .file("etc/.wh.gone", b"")
        .dir("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/kept", b"x")
        .dir("both")
        .file("both/x", b"x")
        .file(".wh.both", b"")
        .file(".wh.again", b"")
        .dir("again")
        .file(".wh.file", b"")
        .file("file", b"x")
        .file("present", b"x")
        .file(".wh.present", b"");
    let (info, path) = unpack(&scratch.store, &tar_).unwrap();
    let gone = std::fs::symlink_metadata(path.join("etc/gone")).unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    for name in ["opaque", "both", "again"] {
        assert_eq!(xattr(&path, name), Some(b"y".to_vec()), "{name}");
    }
    assert!(path.join("opaque/kept").exists() && path.join("both/x").exists());
    for name in ["file", "present"] {
        assert_eq!(std::fs::read_to_string(path.join(name)).unwrap(), "x");
    }
    // A whole layer that hides those below.
    let (below, _) = unpack(&scratch.store, &tar().file("below", b"x")).unwrap();
    let (opaque, _) = unpack(&scratch.store, &tar().file(".wh..wh..opq", b"").file("alone", b"x")).unwrap();
    let lowers = scratch.store.layers().lowers(&[below.diff_id, opaque.diff_id, info.diff_id]).unwrap();
    let lowers: Vec<_> = lowers.iter().map(lower_path).collect();
    assert_eq!(lowers, [layer_path(&scratch.store, &info.diff_id), layer_path(&scratch.store, &opaque.diff_id)]);
}

#[test]
fn limits_hold() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let many = (0..200).fold(tar(), |tar, index| tar.file(&format!("f{index}"), b"0123456789"));
    let refused = |limits: Limits| scratch.store.ingest().limits(limits).layer(&many.bytes()[..], None, None).is_err();
    assert!(refused(Limits { entries: 199, ..Limits::default() }));
    assert!(refused(Limits { total_bytes: 1999, ..Limits::default() }));
    assert!(!refused(Limits { entries: 200, total_bytes: 1 << 20, ..Limits::default() }));
    // Compressed zeros: stopped by what comes out, not by what comes in.
    let bomb = zstd::encode_all(std::io::repeat(0).take(64 << 20), 1).unwrap();
    let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
    let error = scratch.store.ingest().limits(limits).layer(&bomb[..], None, None).unwrap_err();
    assert!(error.to_string().contains("when decompressed"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    // As deep as a path can name.
    let deep = tar().dir(&"d/".repeat(2047));
    unpack(&scratch.store, &deep).unwrap();
    assert!(unpack(&scratch.store, &tar().dir(&"d/".repeat(2048))).is_err());
}

use std::io::Read;

/// A small file system that goes away with the test.
struct Small(PathBuf);

impl Small {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &path, "tmpfs", flags, c"size=2m,nr_inodes=200").unwrap();
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn full_disk_leaves_nothing() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let small = Small::new(dir.path().join("small"));
    let store = open(small.0.join("data")).unwrap();
    let used = || rustix::fs::statvfs(&small.0).unwrap();
    let before = (used().f_bfree, used().f_ffree);
    let bytes = tar().file("big", &vec![1; 1_500_000]).bytes();
    let error = store.ingest().layer(&bytes[..], None, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    let many = (0..300).fold(tar(), |tar, index| tar.file(&format!("f{index}"), b""));
    let error = store.ingest().layer(&many.bytes()[..], None, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert_eq!((used().f_bfree, used().f_ffree), before);
    drop(store);
}

fn container(dir: &Path) -> Root {
    std::fs::create_dir_all(dir.join("etc/sub")).unwrap();
    std::fs::create_dir_all(dir.join("tmp")).unwrap();
    std::fs::write(dir.join("etc/passwd"), "root").unwrap();
    std::fs::write(dir.join("etc/sub/deep"), "deep").unwrap();
    symlink("/etc", dir.join("link")).unwrap();
    symlink("passwd", dir.join("etc/alias")).unwrap();
    Root::open(dir).unwrap()
}

#[test]
fn copies_out() {
    let dir = tempfile::tempdir().unwrap();
    let root = container(dir.path());
    let copied = |path: &str| {
        let mut out = Vec::new();
        archive_path(&root, path, &mut out).map(|stat| (names(&out), stat))
    };
    let rows = [
        ("/etc/passwd", vec!["passwd"]),
        ("etc", vec!["etc/", "etc/alias", "etc/passwd", "etc/sub/", "etc/sub/deep"]),
        ("/etc/sub/.", vec!["./", "./deep"]),
        ("/etc/../etc/sub/", vec!["sub/", "sub/deep"]),
        ("/link", vec!["link"]),
        ("/link/", vec!["link/", "link/alias", "link/passwd", "link/sub/", "link/sub/deep"]),
        ("/../../etc/sub", vec!["sub/", "sub/deep"]),
    ];
    for (path, expected) in rows {
        assert_eq!(copied(path).unwrap().0, expected, "{path}");
    }
    assert_eq!(copied("/").unwrap().0[0], "/");
    let stat = stat_path(&root, "/link").unwrap();
    assert_eq!((stat.name.as_str(), stat.link_target.as_str(), stat.mode), ("link", "/etc", 1 << 27 | 0o777));
    let stat = stat_path(&root, "/link/").unwrap();
    assert_eq!((stat.name.as_str(), stat.link_target.as_str(), stat.mode >> 31), ("link", "", 1));
    assert_eq!(stat_path(&root, "/etc/passwd").unwrap().size, 4);
    let missing = stat_path(&root, "/no/such").unwrap_err();
    assert_eq!(
        (missing.kind(), missing.to_string().as_str()),
        (ErrorKind::NotFound, "Could not find the file /no/such in container")
    );
    assert!(stat_path(&root, "/etc/passwd/").is_err());
}

#[test]
fn copies_in() {
    if !root() {
        return;
    }
    let (dir, canary) = (tempfile::tempdir().unwrap(), Canary::new());
    let root = container(dir.path());
    symlink(canary.path(), dir.path().join("out")).unwrap();
    let options = ExtractOptions { no_overwrite_dir_non_dir: true, owner: None };
    let put = |path: &str, tar: &Tar| extract(&root, path, &tar.bytes()[..], options);
    put("/tmp", &tar().dir("./").file("f", b"data")).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("tmp/f")).unwrap(), "data");
    put("/link", &tar().file("through", b"x")).unwrap();
    assert!(dir.path().join("etc/through").exists());
    // Links in the archive and in the tree resolve in the tree.
    put("/tmp", &tar().link("d", Kind::Symlink, "/etc").file("d/inside", b"x")).unwrap();
    assert!(dir.path().join("etc/inside").exists());
    assert!(matches!(put("/out", &tar().file("f", b"x")), Err(Error::NoPath(_))), "the link leads nowhere in the tree");
    std::fs::create_dir_all(dir.path().join(canary.path().trim_start_matches('/'))).unwrap();
    put("/out", &tar().file("f", b"x")).unwrap();
    assert!(dir.path().join(canary.path().trim_start_matches('/')).join("f").exists());
    put("/tmp", &tar().file(".wh.f", b"x")).unwrap();
    assert!(dir.path().join("tmp/f").exists() && dir.path().join("tmp/.wh.f").exists(), "no whiteouts in a copy");
    assert!(put("/tmp", &tar().link("h", Kind::HardLink, &format!("{}/file", canary.path()))).is_err());
    canary.check("copy");
    assert!(matches!(put("/etc/passwd", &tar()), Err(Error::NotADirectory)));
    assert!(matches!(put("/none", &tar()), Err(Error::NoPath(_))));
    let error = put("/", &tar().file("etc", b"x")).unwrap_err();
    assert_eq!(error.to_string(), "cannot overwrite directory \"etc\" with non-directory \"/\"");
    let error = put("/etc", &tar().dir("passwd")).unwrap_err();
    assert_eq!(error.to_string(), "cannot overwrite non-directory \"passwd\" with directory \"/etc\"");
    let owned = ExtractOptions { owner: Some((12, 34)), ..options };
    let zipped = zstd::encode_all(&tar().file("mine", b"x").bytes()[..], 1).unwrap();
    extract(&root, "/tmp", &zipped[..], owned).unwrap();
    let mine = std::fs::metadata(dir.path().join("tmp/mine")).unwrap();
    assert_eq!((mine.uid(), mine.gid()), (12, 34));
}

#[test]
fn trees_are_copied() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let source = container(&from);
    std::fs::hard_link(from.join("etc/passwd"), from.join("etc/twin")).unwrap();
    std::os::unix::fs::chown(&from, Some(5), Some(6)).unwrap();
    std::fs::write(from.join("large"), vec![3; 3 << 20]).unwrap();
    std::fs::create_dir(&to).unwrap();
    copy_tree(&source, &Root::open(&to).unwrap()).unwrap();
    assert_eq!(std::fs::read(to.join("large")).unwrap(), vec![3; 3 << 20]);
    assert_eq!(std::fs::metadata(to.join("etc/twin")).unwrap().nlink(), 2);
    assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("/etc"));
    let meta = |path: &Path| (std::fs::metadata(path).unwrap().uid(), std::fs::metadata(path).unwrap().mtime());
    assert_eq!(meta(&to), meta(&from));
    // A target that cannot take it: its error, and no thread left waiting.
    let small = Small::new(dir.path().join("small"));
    let error = copy_tree(&source, &Root::open(&small.0).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
}
