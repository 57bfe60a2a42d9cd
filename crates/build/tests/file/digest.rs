//! Digests: what changes them, what does not, and whose contents are read.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use build::file::{self, ContentDigests, Selection};
use rustix::fs::{AtFlags, Stat, Timespec, Timestamps, XattrFlags};

use crate::{Trees, chmod, plain, strings};

#[test]
fn a_digest_changes_with_what_is_copied_and_nothing_else() {
    let trees = Trees::new();
    trees.files(&["d/a", "d/sub/b", "d/skip/c"]);
    symlink("one", trees.src("d/link")).unwrap();
    let mut selection = plain("d", "").selection;
    selection.exclude_patterns = strings(&["skip"]);
    let mut known = vec![trees.digest(&selection)];

    fs::write(trees.src("d/skip/c"), "other").unwrap();
    fs::write(trees.src("d/skip/more"), "other").unwrap();
    fs::write(trees.src("beside"), "other").unwrap();
    let time = Timespec { tv_sec: 1, tv_nsec: 1 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, trees.src("d/a"), &times, AtFlags::empty()).unwrap();
    assert_eq!(trees.digest(&selection), known[0]);

    let changes: [&dyn Fn(); 9] = [
        &|| fs::write(trees.src("d/a"), "d/A").unwrap(),
        &|| fs::rename(trees.src("d/a"), trees.src("d/a2")).unwrap(),
        &|| fs::rename(trees.src("d/sub/b"), trees.src("d/b")).unwrap(),
        &|| chmod(trees.src("d/a2"), 0o4644),
        &|| chmod(trees.src("d/sub"), 0o700),
        &|| chown(trees.src("d/b"), Some(9), None).unwrap(),
        &|| {
            fs::remove_file(trees.src("d/link")).unwrap();
            symlink("two", trees.src("d/link")).unwrap();
        },
        &|| fs::hard_link(trees.src("d/a2"), trees.src("d/z")).unwrap(),
        &|| {
            fs::remove_file(trees.src("d/z")).unwrap();
            fs::copy(trees.src("d/a2"), trees.src("d/z")).unwrap();
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        change();
        let next = trees.digest(&selection);
        assert!(!known.contains(&next), "change {index}");
        known.push(next);
    }
    if rustix::fs::setxattr(trees.src("d/a2"), "user.note", b"x", XattrFlags::empty()).is_ok() {
        assert!(!known.contains(&trees.digest(&selection)));
    }
}

#[test]
fn a_digest_says_which_file_has_another_name() {
    let trees = Trees::new();
    trees.files(&["d/a", "d/b"]);
    let selection = plain("d", "").selection;
    let with_link_to = |name: &str| {
        fs::remove_file(trees.src("d/c")).ok();
        fs::hard_link(trees.src(name), trees.src("d/c")).unwrap();
        trees.digest(&selection)
    };
    assert_ne!(with_link_to("d/a"), with_link_to("d/b"));
    // A name that is not copied does not count.
    fs::remove_file(trees.src("d/c")).unwrap();
    let before = trees.digest(&selection);
    fs::hard_link(trees.src("d/a"), trees.src("beside")).unwrap();
    assert_eq!(trees.digest(&selection), before);
}

#[test]
fn a_digest_names_what_is_missing() {
    let trees = Trees::new();
    trees.files(&["a1", "a2", "file"]);
    let digest = |src: &str, allow_empty_wildcard| {
        let selection = Selection { allow_empty_wildcard, ..plain(src, "").selection };
        file::digest(&trees.from, &selection, &()).map_err(|e| e.to_string())
    };
    assert_eq!(digest("missing", false).unwrap_err(), "\"/missing\": not found");
    assert_eq!(digest("file/x", false).unwrap_err(), "\"/file/x\": not found");
    assert_eq!(digest("no/z*", false).unwrap_err(), "\"/no/z*\": not found");
    assert_eq!(digest("z*", false).unwrap_err(), "\"/z*\": not found");
    let all = digest("a*", false).unwrap();
    assert_ne!(all, digest("z*", true).unwrap());
    fs::remove_file(trees.src("a2")).unwrap();
    assert_ne!(all, digest("a*", false).unwrap());
}

/// What was learnt, in its order.
#[derive(Default)]
struct Known(RefCell<Vec<(PathBuf, [u8; 32])>>);

impl ContentDigests for Known {
    fn known(&self, path: &Path, _: &Stat) -> Option<[u8; 32]> {
        self.0.borrow().iter().find(|(known, _)| known == path).map(|(_, digest)| *digest)
    }

    fn learnt(&self, path: &Path, _: &Stat, digest: [u8; 32]) {
        self.0.borrow_mut().push((path.to_owned(), digest));
    }
}

#[test]
fn known_contents_are_not_read_again() {
    let trees = Trees::new();
    trees.files(&["d/a", "d/sub/b"]);
    symlink("d", trees.src("link")).unwrap();
    let (known, selection) = (Known::default(), plain("link", "").selection);
    let first = file::digest(&trees.from, &selection, &known).unwrap();
    let learnt: Vec<PathBuf> = known.0.borrow().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(learnt, [Path::new("d/a"), Path::new("d/sub/b")]);
    assert_eq!(file::digest(&trees.from, &selection, &known).unwrap(), first);
    assert_eq!(known.0.borrow().len(), 2);
    assert_eq!(trees.digest(&selection), first);
}
