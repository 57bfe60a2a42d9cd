//! Links: followed only inside the layer, replaced by members of their name, and never changed through.

use std::os::unix::fs::MetadataExt;

use layer::tar::{Entry, Kind};

use crate::common::tar;
use crate::frame::{Row, hold, layers, refuse};

#[test]
fn symlinks_on_the_way() {
    layers("links::symlinks_on_the_way", |canary| {
        let outside = canary.path().to_owned();
        let mut rows: Vec<Row> = Vec::new();
        // Written through a link: lands below the layer's own root, where the link leads in there.
        for target in
            [outside.clone(), format!("../../../../../../../../../..{outside}"), format!("/proc/self/root{outside}")]
        {
            let within = target.trim_start_matches("../").trim_start_matches('/').to_owned();
            let layer =
                tar().dir(&within).link("d", Kind::Symlink, &target).file("d/new", b"x").file("d/.wh.file", b"");
            rows.push(hold(format!("written through a link to {target}"), layer, move |tree| {
                assert!(tree.text(&format!("{within}/new")) == "x" && tree.is_whiteout(&format!("{within}/file")));
            }));
        }
        for target in ["/proc/self/fd/3", "/proc/self/cwd", "/dev/fd/0", outside.as_str()] {
            let layer = tar().link("d", Kind::Symlink, target).file("d/x", b"x");
            rows.push(refuse(format!("through a link to {target}, which the layer has not"), "no such file", layer));
        }
        let chain = |length: usize| {
            let start = tar().dir("d0");
            (0..length).fold(start, |tar, at| tar.link(&format!("d{}", at + 1), Kind::Symlink, &format!("d{at}")))
        };
        rows.push(hold("forty links on the way", chain(40).file("d40/f", b"x"), |tree| {
            assert_eq!(tree.text("d0/f"), "x")
        }));
        rows.push(refuse("forty-one links", "too many levels of symbolic links", chain(41).file("d41/f", b"x")));
        let looped = tar().link("a", Kind::Symlink, "b").link("b", Kind::Symlink, "a").file("a/x", b"x");
        rows.push(refuse("a loop", "too many levels of symbolic links", looped));
        let own = tar().link("l", Kind::Symlink, ".").file("l/l", b"x").file("y", b"y");
        rows.push(hold("a link that names its own way", own, |tree| {
            assert_eq!((tree.text("l"), tree.text("y")), ("x".to_owned(), "y".to_owned()));
        }));
        for target in ["..", "/", "../../../../../..", "/.."] {
            let layer = tar().link("l", Kind::Symlink, target).file("l/opaque", b"x").file("l/size", b"9");
            rows.push(hold(format!("the layer's own files through {target}"), layer, |tree| {
                assert_eq!(tree.names(), ["l", "opaque", "size"], "what holds the tree is no part of it");
            }));
        }
        rows
    });
}

#[test]
fn symlinks_of_another_layer() {
    // Layers are apart until they are stacked: a link of one is nothing to the next.
    layers("links::symlinks_of_another_layer", |canary| {
        vec![
            hold("the link", tar().link("d", Kind::Symlink, canary.path()), |tree| {
                assert!(tree.meta("d").is_symlink())
            }),
            hold("written where it was", tar().file("d/file", b"x"), |tree| assert!(tree.is_dir("d"))),
            refuse("a hard link to what it had", "does not exist", tar().link("l", Kind::HardLink, "d/file")),
        ]
    });
}

#[test]
fn members_over_links() {
    layers("links::members_over_links", |canary| {
        let (outside, file) = (canary.path().to_owned(), format!("{}/file", canary.path()));
        let mut mode = Entry::new("link", Kind::Directory, 0o777);
        mode.uid = 1000;
        mode.xattrs.push((b"user.x".to_vec(), b"y".to_vec()));
        let mut link = Entry::new("s", Kind::Symlink, 0o777);
        link.link = file.clone().into_bytes();
        (link.uid, link.xattrs) = (1234, vec![(b"user.x".to_vec(), b"y".to_vec())]);
        let again = tar().file("f", b"1").link("f", Kind::Symlink, &file).file("f", b"last");
        let twin = tar().file("f", b"one").link("g", Kind::HardLink, "f").file("f", b"two").file("g", b"three");
        let to_link = tar().link("s", Kind::Symlink, &file).link("h", Kind::HardLink, "s").file("h", b"x");
        vec![
            hold("a directory over a link", tar().link("link", Kind::Symlink, &outside).entry(mode), |tree| {
                assert!(tree.is_dir("link") && tree.meta("link").mode() & 0o7777 == 0o777);
            }),
            hold("file, link, file", again, |tree| assert_eq!(tree.text("f"), "last")),
            hold(
                "a link over a directory",
                tar().dir("d").file("d/x", b"x").link("d", Kind::Symlink, &outside),
                |tree| {
                    assert!(tree.meta("d").is_symlink());
                },
            ),
            hold("attributes of a link", tar().entry(link), |tree| assert_eq!(tree.meta("s").uid(), 1234)),
            hold("members over names of one file", twin, |tree| {
                assert_eq!((tree.text("f"), tree.text("g")), ("two".to_owned(), "three".to_owned()));
            }),
            hold("a member over a hard link to a link", to_link, |tree| {
                assert!(tree.meta("h").is_file() && tree.meta("s").is_symlink());
            }),
        ]
    });
}

#[test]
fn hard_links() {
    layers("links::hard_links", |canary| {
        let outside = canary.path();
        let file = format!("{outside}/file");
        let through = tar().link("d", Kind::Symlink, outside).link("l", Kind::HardLink, "d/file");
        let later = tar().link("l", Kind::HardLink, "s").link("s", Kind::Symlink, &file);
        let made = tar().link("l", Kind::HardLink, "s").file("s", b"x");
        let gone = tar().dir("d").file("d/f", b"x").link("d", Kind::HardLink, "d/f");
        vec![
            refuse(
                "out of the layer",
                "leads out",
                tar().link("l", Kind::HardLink, &format!("{}{file}", "../".repeat(9))),
            ),
            refuse("to an absolute path of the host", "does not exist", tar().link("l", Kind::HardLink, &file)),
            refuse(
                "to a path of the working directory",
                "does not exist",
                tar().link("l", Kind::HardLink, "Cargo.toml"),
            ),
            refuse("through a link", "", through),
            refuse("to a missing file", "does not exist", tar().link("l", Kind::HardLink, "missing")),
            refuse("to a later link", "does not exist", later),
            refuse("to a later file", "does not exist", made),
            refuse("to a directory", "hard link to a directory", tar().dir("d").link("l", Kind::HardLink, "d")),
            refuse("to the root", "", tar().link("l", Kind::HardLink, "/")),
            refuse("to itself", "hard link to itself", tar().file("f", b"x").link("f", Kind::HardLink, "./f")),
            refuse("over the directory of its target", "no such file", gone),
            hold(
                "to a link, which stays one",
                tar().link("s", Kind::Symlink, &file).link("l", Kind::HardLink, "s"),
                |tree| {
                    assert!(tree.meta("l").is_symlink() && tree.meta("l").nlink() == 2);
                },
            ),
        ]
    });
}
