//! Directories, files and links that are made, and paths that are removed.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use build::file::{self, Mkdir, Mkfile, Rm, Symlink};

use crate::{Trees, chmod, meta};

#[test]
fn directories_are_made() {
    let trees = Trees::new();
    let mkdir = |path: &str, make_parents| {
        let (owner, timestamp) = (Some((3, 4)), Some(-1_500_000_000));
        let action = Mkdir { path: path.into(), mode: 0o1710, make_parents, owner, timestamp };
        file::mkdir(&trees.to, &action).map_err(|e| e.to_string())
    };
    assert_eq!(mkdir("/a/b", false).unwrap_err(), "mkdir /a/b: no such file or directory");
    mkdir("/a/../a/b", true).unwrap();
    mkdir("single", false).unwrap();
    for path in ["a", "a/b", "single"] {
        let found = meta(trees.dst(path));
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o710, 3, 4), "{path}");
        assert_eq!((found.mtime(), found.mtime_nsec()), (-2, 500_000_000), "{path}");
    }
    chmod(trees.dst("a/b"), 0o777);
    mkdir("/a/b", true).unwrap();
    mkdir("/a/b", false).unwrap();
    mkdir("/", false).unwrap();
    assert_eq!(meta(trees.dst("a/b")).mode() & 0o7777, 0o777);
    fs::write(trees.dst("a/f"), "").unwrap();
    assert_eq!(mkdir("/a/f/x", true).unwrap_err(), "mkdir /a/f/x: not a directory");
    symlink("../../../new", trees.dst("link")).unwrap();
    mkdir("/link/x", true).unwrap();
    assert!(trees.dst("new/x").is_dir());
}

#[test]
fn files_and_links_are_made() {
    let trees = Trees::new();
    fs::create_dir(trees.dst("a")).unwrap();
    let mkfile = |path: &str| {
        let action = Mkfile { path: path.into(), mode: 0o640, data: b"data".to_vec(), owner: None, timestamp: Some(0) };
        file::mkfile(&trees.to, &action).map_err(|e| e.to_string())
    };
    mkfile("/a/f").unwrap();
    mkfile("/a/f").unwrap();
    let found = meta(trees.dst("a/f"));
    assert_eq!((found.mode() & 0o7777, found.uid(), found.mtime()), (0o640, 0, 0));
    assert_eq!(mkfile("/x/f").unwrap_err(), "open /x/f: no such file or directory");
    assert_eq!(mkfile("/a").unwrap_err(), "open /a: is a directory");
    assert_eq!(mkfile("/").unwrap_err(), "open /: is a directory");
    fs::write(trees.scratch.path().join("host"), "host").unwrap();
    symlink("../../host", trees.dst("link")).unwrap();
    mkfile("/link").unwrap();
    assert_eq!(fs::read_to_string(trees.scratch.path().join("host")).unwrap(), "host");
    assert_eq!(fs::read_to_string(trees.dst("host")).unwrap(), "data");

    let (owner, timestamp) = (Some((5, 6)), Some(0));
    let action = Symlink { oldpath: "../anything".into(), newpath: "/a/l".into(), owner, timestamp };
    file::symlink(&trees.to, &action).unwrap();
    let found = meta(trees.dst("a/l"));
    assert_eq!((found.uid(), found.gid(), found.mtime()), (5, 6, 0));
    assert_eq!(fs::read_link(trees.dst("a/l")).unwrap(), Path::new("../anything"));
    let again = Symlink { newpath: "/a/f".into(), ..action };
    assert_eq!(file::symlink(&trees.to, &again).unwrap_err().to_string(), "symlink /a/f: file exists");
}

#[test]
fn paths_are_removed() {
    let trees = Trees::new();
    fs::create_dir_all(trees.dst("d/sub")).unwrap();
    for name in ["d/a1", "d/a2", "d/b", "keep"] {
        fs::write(trees.dst(name), "").unwrap();
    }
    fs::create_dir(trees.scratch.path().join("out")).unwrap();
    fs::write(trees.scratch.path().join("out/f"), "").unwrap();
    symlink("../out", trees.dst("escape")).unwrap();
    let rm = |path: &str, allow_not_found, allow_wildcard| {
        file::rm(&trees.to, &Rm { path: path.into(), allow_not_found, allow_wildcard }).map_err(|e| e.to_string())
    };
    rm("/d/a*", false, true).unwrap();
    rm("/d/z*", false, true).unwrap();
    assert_eq!(trees.listed(), ["d", "d/b", "d/sub", "escape", "keep"]);
    assert_eq!(rm("/d/a*", false, false).unwrap_err(), "stat /d/a*: no such file or directory");
    rm("/d/a*", true, false).unwrap();
    rm("/keep/x", true, false).unwrap();
    assert!(rm("/escape/f", false, false).is_err());
    rm("/escape", false, false).unwrap();
    assert!(trees.scratch.path().join("out/f").exists());
    rm("/d", false, false).unwrap();
    for path in ["/", "", "/d/.."] {
        assert_eq!(rm(path, true, false).unwrap_err(), "rmPath: invalid empty path");
    }
    assert_eq!(trees.listed(), ["keep"]);
}
