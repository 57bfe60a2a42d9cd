//! Layers and copies that try to get out of their tree, or to break the engine.

mod common;

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use common::{Canary, Tar, names, open, root, tar};
use layer::tar::Kind;
use store::Error;
use store::tree::{ExtractOptions, archive_path, copy_tree, extract, stat_path};
use sys::path::Root;
use types::Kind as ErrorKind;

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
