//! Whiteouts: about names of the layers below and nothing else, in the form overlayfs has, and only in the layer.

use std::path::Path;

use layer::tar::{Entry, Kind};
use store::Format;

use crate::common::{Tar, formats, layer_path, lower_path, root, scratch_with, tar};
use crate::frame::{Row, hold, layers, refuse};

const OPAQUE: &str = "trusted.overlay.opaque";

#[test]
fn reserved_names() {
    layers("whiteouts::reserved_names", |canary| {
        let reserved = "reserved for whiteouts";
        let mut rows: Vec<Row> = Vec::new();
        for name in [
            ".wh...",
            ".wh..",
            ".wh.",
            ".wh..wh.x",
            ".wh...wh",
            ".wh...wh.x",
            ".wh.../x",
            ".wh./x",
            ".wh.d/x",
            ".wh..wh..opq/x",
        ] {
            rows.push(refuse(name, reserved, tar().file(name, b"")));
            rows.push(refuse(format!("d/{name}"), reserved, tar().file(&format!("d/{name}"), b"")));
        }
        let mut pipe = Entry::new("d/.wh.x", Kind::Fifo, 0o600);
        rows.push(refuse("a pipe", "a whiteout that is no file", tar().entry(pipe.clone())));
        pipe.path = b"d/.wh..wh..opq".to_vec();
        rows.push(refuse("an opaque pipe", "no empty file", tar().entry(pipe)));
        rows.push(refuse("a directory", "a whiteout that is no file", tar().dir(".wh.d")));
        rows.push(refuse("a link", "a whiteout that is no file", tar().link(".wh.l", Kind::Symlink, canary.path())));
        rows.push(refuse("an opaque directory", "no empty file", tar().dir("d/.wh..wh..opq")));
        let link = tar().link("d/.wh..wh..opq", Kind::Symlink, canary.path());
        rows.push(refuse("an opaque link", "no empty file", link));
        rows.push(refuse("an opaque marker with data", "no empty file", tar().file("d/.wh..wh..opq", b"data")));
        rows.push(refuse("a whiteout below a file", "not a directory", tar().file("f", b"").file("f/.wh.x", b"")));
        rows.push(refuse("a whiteout of a name too long", "", tar().file(&format!(".wh.{}", "n".repeat(252)), b"")));
        rows.push(hold("bookkeeping of aufs", tar().file(".wh..wh.plnk", b"").file(".wh..wh.aufs", b""), |tree| {
            assert!(tree.names().is_empty());
        }));
        rows.push(hold("names that are no whiteouts", tar().file(".wh", b"x").file(".where", b"x"), |tree| {
            assert_eq!(tree.names(), [".wh", ".where"]);
        }));
        rows.push(hold("a whiteout with data", tar().file(".wh.x", b"data"), |tree| assert!(tree.is_whiteout("x"))));
        rows
    });
}

#[test]
fn whiteouts_through_links() {
    layers("whiteouts::whiteouts_through_links", |canary| {
        let mut rows: Vec<Row> = Vec::new();
        for target in [".", "..", "/", "../../../../../..", "/.."] {
            let layer = tar().link("l", Kind::Symlink, target).file("l/.wh.etc", b"").file("l/f", b"x");
            rows.push(hold(format!("in the root through {target}"), layer, |tree| {
                assert!(tree.is_whiteout("etc") && tree.text("f") == "x");
            }));
            let layer = tar().link("l", Kind::Symlink, target).file("l/.wh..wh..opq", b"");
            rows.push(hold(format!("an opaque root through {target}"), layer, |tree| assert!(tree.has("l"))));
        }
        let outside = canary.path();
        for name in [".wh.file", ".wh..wh..opq"] {
            let layer = tar().link("l", Kind::Symlink, outside).file(&format!("l/{name}"), b"");
            rows.push(refuse(format!("{name} of the host"), "no such file", layer));
        }
        rows
    });
}

fn whiteouts() -> Tar {
    tar()
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
        .file(".wh.present", b"")
}

#[test]
fn whiteouts_take_overlay_form() {
    layers("whiteouts::whiteouts_take_overlay_form", |_| {
        vec![hold("whiteouts", whiteouts(), |tree| {
            assert!(tree.is_whiteout("etc/gone"));
            for name in ["opaque", "both", "again"] {
                assert_eq!(tree.xattrs(name), [(OPAQUE.to_owned(), b"y".to_vec())], "{name}");
            }
            assert!(tree.has("opaque/kept") && tree.has("both/x"));
            assert_eq!((tree.text("file"), tree.text("present")), ("x".to_owned(), "x".to_owned()));
        })]
    });
}

/// A whole layer that hides those below.
#[test]
fn an_opaque_root_hides_what_is_below() {
    if !root() {
        return;
    }
    for format in formats() {
        hides(format);
    }
}

fn hides(format: Format) {
    let scratch = scratch_with(format);
    let unpack = |tar: &Tar| {
        let ingest = scratch.store.ingest();
        let info = ingest.layer(&tar.bytes()[..], None, None).unwrap();
        ingest.commit().unwrap();
        info.diff_id
    };
    let below = unpack(&tar().file("below", b"x"));
    let opaque = unpack(&tar().file(".wh..wh..opq", b"").file("alone", b"x"));
    let above = unpack(&whiteouts());
    let lowers = scratch.store.layers().lowers(&[below, opaque, above]).unwrap();
    let lowers: Vec<_> = lowers.iter().map(lower_path).collect();
    let expected = [above, opaque].map(|layer| layer_path(&scratch.store, &layer));
    assert_eq!(lowers, expected);
    assert!(lowers.iter().all(|lower| Path::new(lower).exists()));
}
