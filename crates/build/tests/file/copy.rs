//! Paths, wildcards, patterns, and what happens to what is there.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use build::file;
use rustix::fs::Mode;

use crate::{Trees, chmod, meta, plain, strings};

#[test]
fn a_file_goes_to_a_path_or_into_a_directory() {
    let trees = Trees::new();
    trees.files(&["a", "d/b"]);
    fs::create_dir(trees.dst("dir")).unwrap();
    trees.copy("a", "/new/path/file").unwrap();
    trees.copy("/a", "slash/").unwrap();
    trees.copy("d/../a", "dir").unwrap();
    trees.copy("../../../a", "/../../top").unwrap();
    trees.copy("d/b", "/").unwrap();
    assert_eq!(trees.listed(), ["b", "dir", "dir/a", "new", "new/path", "new/path/file", "slash", "slash/a", "top"]);
    assert_eq!(meta(trees.dst("new")).mode() & 0o7777, 0o755);
    let mut no_parents = plain("a", "/no/such/a");
    no_parents.create_dest_path = false;
    assert!(trees.copy_as(&no_parents).unwrap_err().contains("lstat /no/such: no such file or directory"));
}

#[test]
fn a_directory_gives_its_contents_or_itself() {
    let trees = Trees::new();
    trees.files(&["d/a", "d/sub/b"]);
    chmod(trees.src("d"), 0o700);
    chmod(trees.src("d/sub"), 0o750);
    trees.copy("d", "/one").unwrap();
    assert_eq!(trees.listed(), ["one", "one/a", "one/sub", "one/sub/b"]);
    assert_eq!(meta(trees.dst("one")).mode() & 0o7777, 0o755);
    assert_eq!(meta(trees.dst("one/sub")).mode() & 0o7777, 0o750);
    let mut whole = plain("d", "/one");
    whole.selection.dir_copy_contents = false;
    trees.copy_as(&whole).unwrap();
    assert!(trees.dst("one/d/sub/b").exists());
    whole.dest = "/two".to_owned();
    trees.copy_as(&whole).unwrap();
    assert_eq!(meta(trees.dst("two")).mode() & 0o7777, 0o700);
    assert!(trees.dst("two/sub/b").exists() && !trees.dst("two/d").exists());
    trees.copy("/", "/").unwrap();
    assert!(trees.dst("d/sub/b").exists());
}

#[test]
fn directories_merge_and_kinds_do_not_change() {
    let trees = Trees::new();
    trees.files(&["d/x/new", "d/f", "e/x", "file"]);
    fs::create_dir_all(trees.dst("t/x")).unwrap();
    fs::write(trees.dst("t/x/old"), "old").unwrap();
    fs::write(trees.dst("t/f"), "old").unwrap();
    chmod(trees.dst("t"), 0o711);
    trees.copy("d", "/t").unwrap();
    assert_eq!(trees.listed(), ["t", "t/f", "t/x", "t/x/new", "t/x/old"]);
    assert_eq!(fs::read_to_string(trees.dst("t/f")).unwrap(), "d/f");
    assert_eq!(meta(trees.dst("t")).mode() & 0o7777, 0o711, "what is there keeps its mode");
    assert_eq!(meta(trees.dst("t")).mtime_nsec(), meta(trees.src("d")).mtime_nsec());

    assert_eq!(trees.copy("e", "/t").unwrap_err(), "cannot replace to directory /t/x with file");
    fs::remove_dir_all(trees.dst("t/x")).unwrap();
    fs::write(trees.dst("t/x"), "").unwrap();
    assert_eq!(trees.copy("d", "/t").unwrap_err(), "cannot copy to non-directory: /t/x");
    assert_eq!(trees.copy("d", "/t/f").unwrap_err(), "cannot copy to non-directory: /t/f");
    assert_eq!(trees.copy("file", "/t/f/").unwrap_err(), "mkdir /t/f: not a directory");
    let mut replace = plain("d", "/t");
    replace.always_replace_existing_dest_paths = true;
    trees.copy_as(&replace).unwrap();
    assert!(trees.dst("t/x/new").exists());
    replace.selection.src = "e".to_owned();
    trees.copy_as(&replace).unwrap();
    assert!(meta(trees.dst("t/x")).is_file());
}

#[test]
fn wildcards_match_names() {
    let trees = Trees::new();
    trees.files(&["a1", "a2", "b1", "d/x.go", "d/y.rs", "e/x.go", "e/deep/x.go", "odd[1]"]);
    symlink("d", trees.src("dlink")).unwrap();
    trees.copy("a?", "/one/").unwrap();
    trees.copy("/*/*.go", "/two/").unwrap();
    trees.copy("[a-b]1", "/three/").unwrap();
    trees.copy("odd[1]", "/four/").unwrap_err();
    trees.copy("od*", "/four/").unwrap();
    assert_eq!(
        trees.listed(),
        ["four", "four/odd[1]", "one", "one/a1", "one/a2", "three", "three/a1", "three/b1", "two", "two/x.go"]
    );
    assert_eq!(fs::read_to_string(trees.dst("two/x.go")).unwrap(), "e/x.go", "the last of them, in order");
    // A symlink before the wildcards is followed; of those that match only the last name is.
    trees.copy("dlink/*.rs", "/five/").unwrap();
    assert!(trees.dst("five/y.rs").exists());

    assert_eq!(trees.copy("z*", "/").unwrap_err(), "/z* not found");
    assert_eq!(trees.copy("[", "/").unwrap_err(), "/[ not found");
    assert_eq!(trees.copy("none/z*", "/").unwrap_err(), "lstat /none: no such file or directory");
    assert_eq!(trees.copy("none", "/").unwrap_err(), "lstat /none: no such file or directory");
    let mut empty = plain("z*", "/six/");
    empty.selection.allow_empty_wildcard = true;
    trees.copy_as(&empty).unwrap();
    assert!(!trees.dst("six").exists());
    let mut literal = plain("odd[1]", "/six");
    literal.selection.allow_wildcard = false;
    trees.copy_as(&literal).unwrap();
    assert!(meta(trees.dst("six")).is_file());
}

#[test]
fn symlinks_never_lead_out() {
    let trees = Trees::new();
    fs::write(trees.scratch.path().join("secret"), "outside").unwrap();
    fs::create_dir(trees.scratch.path().join("out")).unwrap();
    trees.files(&["secret", "d/file"]);
    for link in ["up", "d/up"] {
        symlink("../../../secret", trees.src(link)).unwrap();
    }
    symlink("/d", trees.src("dirlink")).unwrap();
    symlink("loop", trees.src("loop")).unwrap();
    trees.copy("up", "/followed").unwrap();
    assert_eq!(fs::read_to_string(trees.dst("followed")).unwrap(), "secret");
    let mut kept = plain("up", "/kept");
    kept.selection.follow_symlink = false;
    trees.copy_as(&kept).unwrap();
    assert_eq!(fs::read_link(trees.dst("kept")).unwrap(), Path::new("../../../secret"));
    trees.copy("dirlink", "/dir").unwrap();
    assert_eq!(fs::read_link(trees.dst("dir/up")).unwrap(), Path::new("../../../secret"), "copied as it is");
    assert!(trees.copy("loop", "/").unwrap_err().contains("too many levels of symbolic links"));

    // In the destination.
    symlink("../../out", trees.dst("escape")).unwrap();
    symlink("/new/secret", trees.dst("filelink")).unwrap();
    trees.copy("secret", "/escape/file").unwrap();
    trees.copy("secret", "/escape/").unwrap();
    trees.copy("secret", "/filelink").unwrap();
    assert!(trees.dst("out/file").exists() && trees.dst("out/secret").exists());
    assert!(trees.dst("new/secret").exists(), "a link that leads nowhere yet");
    assert_eq!(fs::read_dir(trees.scratch.path().join("out")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(trees.scratch.path().join("secret")).unwrap(), "outside");
    // Below the destination a link is replaced or in the way, never followed.
    fs::create_dir_all(trees.dst("t")).unwrap();
    symlink("../out/file", trees.dst("t/file")).unwrap();
    trees.copy("d", "/t").unwrap();
    assert!(meta(trees.dst("t/file")).is_file());
    assert_eq!(fs::read_to_string(trees.dst("out/file")).unwrap(), "secret");
    trees.files(&["x/sub/f"]);
    symlink("/out", trees.dst("t/sub")).unwrap();
    assert_eq!(trees.copy("x", "/t").unwrap_err(), "cannot copy to non-directory: /t/sub");
}

#[test]
fn patterns_choose_members() {
    let trees = Trees::new();
    trees.files(&["s/a.rs", "s/a.md", "s/in/b.rs", "s/in/b.md", "s/empty/c.md", "s/keep/c.md"]);
    chmod(trees.src("s/in"), 0o700);
    let mut action = plain("s", "/t");
    action.selection.exclude_patterns = strings(&["**/*.md", "!keep/*.md"]);
    trees.copy_as(&action).unwrap();
    assert_eq!(trees.listed(), ["t", "t/a.rs", "t/empty", "t/in", "t/in/b.rs", "t/keep", "t/keep/c.md"]);

    action.dest = "/u".to_owned();
    action.selection.exclude_patterns = strings(&["in/*.md"]);
    action.selection.include_patterns = strings(&["in/b.*", "keep"]);
    fs::remove_dir_all(trees.dst("t")).unwrap();
    trees.copy_as(&action).unwrap();
    assert_eq!(trees.listed(), ["u", "u/in", "u/in/b.rs", "u/keep", "u/keep/c.md"]);
    let (copied, original) = (meta(trees.dst("u/in")), meta(trees.src("s/in")));
    assert_eq!(copied.mode() & 0o7777, 0o700, "a parent that is made gets what its original has");
    assert_eq!(copied.mtime_nsec(), original.mtime_nsec());

    // An excluded directory from which something comes back.
    action.dest = "/v".to_owned();
    action.selection.include_patterns.clear();
    action.selection.exclude_patterns = strings(&["*", "!in/b.rs"]);
    trees.copy_as(&action).unwrap();
    assert_eq!(fs::read_dir(trees.dst("v")).unwrap().count(), 1);
    assert!(trees.dst("v/in/b.rs").exists() && !trees.dst("v/in/b.md").exists());
    action.selection.exclude_patterns = strings(&["[a"]);
    assert!(trees.copy_as(&action).unwrap_err().starts_with("invalid excludepatterns: [[a]: "));
}

#[test]
fn a_tree_deeper_than_descriptors_and_paths() {
    let trees = Trees::new();
    let mut dir = trees.from.dir().unwrap();
    for _ in 0..3000 {
        dir.mkdir("d".as_ref(), Mode::RWXU).unwrap();
        dir = dir.open_dir("d".as_ref()).unwrap();
    }
    dir.create_file("bottom".as_ref(), Mode::RUSR).unwrap();
    dir.link_from(&dir, "bottom".as_ref(), "again".as_ref()).unwrap();
    trees.copy("/", "/t").unwrap();
    let below = |top: &str| plain(&format!("{top}/d"), "").selection;
    let copied = file::digest(&trees.to, &below("/t"), &()).unwrap();
    // There is no way by path to the first name of the file, so that the copy has two files.
    assert_ne!(trees.digest(&below("")), copied);
    dir.unlink("again".as_ref()).unwrap();
    trees.copy("/", "/u").unwrap();
    assert_eq!(trees.digest(&below("")), file::digest(&trees.to, &below("/u"), &()).unwrap());
    let mut filtered = plain("/", "/v");
    filtered.selection.include_patterns = strings(&["**/bottom"]);
    trees.copy_as(&filtered).unwrap();
    trees.from.remove_tree("d").unwrap();
    for name in ["t", "u", "v"] {
        trees.to.remove_tree(name).unwrap();
    }
}

#[test]
fn a_tree_without_end_is_refused() {
    let trees = Trees::new();
    let mut dir = trees.from.dir().unwrap();
    let name = "d".repeat(200);
    for _ in 0..500 {
        dir.mkdir(name.as_ref(), Mode::RWXU).unwrap();
        dir = dir.open_dir(name.as_ref()).unwrap();
    }
    // Memory for it would grow with the square of the depth.
    assert!(trees.copy("/", "/t").unwrap_err().contains("file name too long"));
    assert!(file::digest(&trees.from, &plain("/", "").selection, &()).is_err());
    trees.from.remove_tree(&name).unwrap();
    trees.to.remove_tree("t").unwrap();
}

#[test]
fn a_copy_does_not_go_into_itself() {
    let trees = Trees::new();
    trees.files(&["d/f", "d/sub/g"]);
    let within =
        |src: &str, dest: &str| file::copy(&trees.from, &trees.from, &plain(src, dest)).map_err(|e| e.to_string());
    assert!(within("/", "/d/sub/copy").unwrap_err().starts_with("cannot copy a directory into itself: "));
    within("d", "/e").unwrap();
    within("d", "/d").unwrap();
    assert_eq!(fs::read_to_string(trees.src("d/sub/g")).unwrap(), "d/sub/g");
}
