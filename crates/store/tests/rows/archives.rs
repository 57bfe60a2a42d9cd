//! Archives of images, in the OCI layout and as `docker save` wrote them once: tables of contents that lead out, name
//! what is no file, multiply work, or lie about what is there.

use std::os::unix::fs::MetadataExt;

use layer::tar::{Entry, Kind};
use store::model::{Descriptor, Manifest, media_type};
use types::Platform;

use crate::budget::Budget;
use crate::common::{Tar, tar};
use crate::frame::{hold, layers_within};
use crate::layout::{One, Row, bytes, image_of, images, index_bytes, loads, one, refuse};
use crate::raw::{edited, octal};

fn without(archive: Tar, name: &str) -> Tar {
    Tar(archive.0.into_iter().filter(|(entry, _)| entry.path != name.as_bytes()).collect())
}

#[test]
fn indexes_that_multiply() {
    images("archives::indexes_that_multiply", |_| {
        let One { mut layout, manifest, .. } = one();
        // Four levels of a thousand entries, all the same: 10^12 documents for who counts them one by one.
        // None is for this machine, so that all would be looked at to find one that is.
        let other = Some(Platform::new("linux", "s390x", ""));
        let mut entry = Descriptor { platform: other, ..manifest.clone() };
        for _ in 0..3 {
            entry = layout.index(vec![entry; 1000]);
        }
        let multiplied = bytes(&layout, vec![entry.clone()]);
        // One level more than is followed.
        let deeper = (0..3).fold(entry, |entry, _| layout.index(vec![entry]));
        let hundred = (0..100).fold(manifest.clone(), |entry, _| layout.index(vec![entry]));
        let million = vec![manifest.clone(); 10_001];
        let wide = layout.index(million);
        vec![
            loads("a thousand of a thousand of a thousand", multiplied, |images| {
                assert!(images.len() == 1 && images[0].unpacked, "its one image is unpacked, once");
            }),
            refuse("one level more", "nested too deeply", bytes(&layout, vec![deeper])),
            refuse("a hundred levels", "nested too deeply", bytes(&layout, vec![hundred])),
            refuse("images without end", "more than 1000 images", bytes(&layout, vec![manifest; 1001])),
            refuse("entries without end", "more than 10000 manifests", bytes(&layout, vec![wide])),
        ]
    });
}

#[test]
fn names_that_multiply() {
    images("archives::names_that_multiply", |_| {
        let One { mut layout, manifest: first, config, layer } = one();
        let mut second = Manifest::new(config.clone(), vec![layer.clone()]);
        second.annotations = Some([("another".to_owned(), "document".to_owned())].into());
        let second = layout.blob(media_type::OCI_MANIFEST, &second.to_bytes().unwrap());
        let both = layout.index(vec![first.clone(), second]);
        let table = |tags: usize| {
            let tags: Vec<String> = (0..tags).map(|tag| format!(r#""name:{tag}""#)).collect();
            let (config, layer, tags) = (config.digest.hex(), layer.digest.hex(), tags.join(","));
            format!(r#"[{{"Config":"blobs/sha256/{config}","RepoTags":[{tags}],"Layers":["blobs/sha256/{layer}"]}}]"#)
        };
        let archive = |tags: usize, top: Vec<Descriptor>| {
            layout.archive(&index_bytes(top)).file("manifest.json", table(tags).as_bytes()).bytes()
        };
        vec![
            loads("once for each name, not for each manifest", archive(3, vec![both.clone()]), |images| {
                assert_eq!(images.len(), 3);
            }),
            refuse("ten thousand names and one", "names", archive(10_001, vec![both])),
            refuse("names times images", "names", archive(5_000, vec![first; 3])),
        ]
    });
}

#[test]
fn layouts_that_lie() {
    images("archives::layouts_that_lie", |_| {
        let One { layout: good, manifest, config, layer } = one();
        let mut rows: Vec<Row> = vec![loads("an honest one", bytes(&good, vec![manifest.clone()]), |images| {
            assert!(images.len() == 1 && images[0].unpacked);
        })];
        // Sizes: added up and shown, so that a wrong one must not get in.
        for wrong in [0, layer.size - 1, layer.size + 1, u64::MAX] {
            let mut bad = good.clone();
            let lie = Descriptor { size: wrong, ..layer.clone() };
            let lying = Manifest::new(config.clone(), vec![lie]).to_bytes().unwrap();
            let lying = bad.blob(media_type::OCI_MANIFEST, &lying);
            let reason = "size mismatch";
            rows.push(refuse(format!("a layer of {wrong} bytes"), reason, bytes(&bad, vec![lying.clone()])));
            // Not for this machine, so never unpacked.
            let other = Descriptor { platform: Some(Platform::new("linux", "s390x", "")), ..lying };
            let index = bad.index(vec![manifest.clone(), other]);
            rows.push(refuse(format!("another platform's layer of {wrong} bytes"), reason, bytes(&bad, vec![index])));
            let top = Descriptor { size: wrong, ..manifest.clone() };
            rows.push(refuse(format!("a manifest of {wrong} bytes"), reason, bytes(&good, vec![top])));
            let lie = Descriptor { size: wrong, ..config.clone() };
            let lying = Manifest::new(lie, vec![layer.clone()]).to_bytes().unwrap();
            let lying = bad.blob(media_type::OCI_MANIFEST, &lying);
            rows.push(refuse(format!("a configuration of {wrong} bytes"), reason, bytes(&bad, vec![lying])));
        }
        rows
    });
}

#[test]
fn members_that_are_no_files() {
    images("archives::members_that_are_no_files", |canary| {
        let One { layout: good, manifest, layer, .. } = one();
        let index = index_bytes(vec![manifest]);
        let archive = || good.archive(&index);
        let blob = format!("blobs/sha256/{}", layer.digest.hex());
        let upper = blob.to_uppercase().replace("BLOBS/SHA", "blobs/sha");
        let pipe = |name: &str| Entry::new(name, Kind::Fifo, 0o644);
        let (no_file, secret) = ("no regular file", format!("{}/sub/secret", canary.path()));
        let table = || without(archive(), "index.json");
        vec![
            refuse("the index is a pipe", no_file, table().entry(pipe("index.json")).bytes()),
            refuse("the index is a link", "leads out", table().link("index.json", Kind::Symlink, &secret).bytes()),
            refuse(
                "the index is an inner link",
                no_file,
                table().file("x", &index).link("index.json", Kind::Symlink, "x").bytes(),
            ),
            refuse(
                "a blob is a link",
                no_file,
                without(archive(), &blob).link(&blob, Kind::Symlink, "/etc/shadow").bytes(),
            ),
            refuse(
                "a blob is a hard link",
                "",
                without(archive(), &blob).link(&blob, Kind::HardLink, "index.json").bytes(),
            ),
            refuse("a blob is a pipe", no_file, without(archive(), &blob).entry(pipe(&blob)).bytes()),
            refuse("a blob is another", "digest mismatch", without(archive(), &blob).file(&blob, b"other").bytes()),
            refuse("a blob is missing", "is missing", without(archive(), &blob).bytes()),
            refuse("a name is no digest", "not named by a digest", archive().file("blobs/sha256/x", b"x").bytes()),
            refuse("a name is upper case", "not named by a digest", archive().file(&upper, b"x").bytes()),
            refuse(
                "a name leads up",
                "leads out",
                archive()
                    .file("blobs/sha256/../../x", b"x")
                    .0
                    .last()
                    .map(|(entry, data)| {
                        crate::raw::archive(&[crate::raw::member(
                            std::str::from_utf8(&entry.path).unwrap(),
                            b'0',
                            data,
                        )])
                    })
                    .unwrap(),
            ),
            refuse("the index comes twice", "comes twice", archive().file("./index.json", &index).bytes()),
            refuse("a blob comes twice", "comes twice", archive().file(&blob, &tar().file("f", b"x").bytes()).bytes()),
            refuse(
                "the index is deep",
                "recursion",
                table().file("index.json", r#"{"a":"#.repeat(1 << 19).as_bytes()).bytes(),
            ),
            refuse("the index is a list", "array", table().file("index.json", "[".repeat(1 << 20).as_bytes()).bytes()),
            refuse("the index is huge", "size mismatch", table().file("index.json", &vec![b' '; 5 << 20]).bytes()),
            refuse(
                "a path is long",
                "longer than a path",
                archive().file(&format!("{}x", "p/".repeat(300)), b"x").bytes(),
            ),
            refuse(
                "a path is no text",
                "not UTF-8",
                archive().entry(Entry::new(&b"\xff"[..], Kind::File, 0o644)).bytes(),
            ),
            refuse(
                "an archive of no image",
                "neither index.json nor manifest.json",
                tar().file("etc/passwd", b"x").bytes(),
            ),
            refuse("the format of long ago", "not supported", tar().file("repositories", b"{}").bytes()),
        ]
    });
}

/// A docker archive: one configuration, one layer, and what `manifest.json` says.
fn docker(table: &str) -> Tar {
    let layer = tar().file("f", b"x").bytes();
    let config = image_of(&[crate::common::sha256(&layer)]);
    tar().file("config.json", &config).file("layer.tar", &layer).file("manifest.json", table.as_bytes())
}

#[test]
fn docker_archives() {
    images("archives::docker_archives", |canary| {
        let table =
            |config: &str, layers: &str| format!(r#"[{{"Config":{config:?},"RepoTags":["a:b"],"Layers":[{layers}]}}]"#);
        let honest = table("config.json", r#""layer.tar""#);
        let secret = format!("{}/sub/secret", canary.path());
        let swap = |name: &str, target: &str| without(docker(&honest), name).link(name, Kind::Symlink, target).bytes();
        let repeated = |count: usize| vec![r#"{"Config":"config.json","Layers":["layer.tar"]}"#; count].join(",");
        let (out, missing) = ("leads out", "missing");
        let circle = without(docker(&honest), "layer.tar").link("layer.tar", Kind::Symlink, "l").link(
            "l",
            Kind::Symlink,
            "layer.tar",
        );
        let linked = without(docker(&honest), "layer.tar")
            .link("layer.tar", Kind::Symlink, "./x/../other.tar")
            .file("other.tar", &tar().file("f", b"x").bytes());
        let hard = without(docker(&honest), "layer.tar").link("layer.tar", Kind::HardLink, "config.json");
        vec![
            loads("an honest one", docker(&honest).bytes(), |images| assert!(images[0].unpacked)),
            loads("a layer through a link inside", linked.bytes(), |images| assert!(images[0].unpacked)),
            refuse("a configuration outside", missing, docker(&table("../config.json", r#""layer.tar""#)).bytes()),
            refuse("a configuration of the host", missing, docker(&table(&secret, r#""layer.tar""#)).bytes()),
            refuse("a layer outside", missing, docker(&table("config.json", r#""../../layer.tar""#)).bytes()),
            refuse("a layer of the host", missing, docker(&table("config.json", &format!("{secret:?}"))).bytes()),
            refuse("a layer that is a link to the host", out, swap("layer.tar", &secret)),
            refuse("a layer that is a link up", out, swap("layer.tar", &format!("../../../../..{secret}"))),
            refuse("a configuration that is a link to the host", out, swap("config.json", "/etc/shadow")),
            refuse("a table that is a link", "no regular file", swap("manifest.json", "config.json")),
            refuse("links in a circle", "circle", circle.bytes()),
            refuse("a layer that is the configuration", "", hard.bytes()),
            refuse("a member twice", "comes twice", docker(&honest).file("layer.tar", b"x").bytes()),
            refuse(
                "a table of 20 MiB",
                "size mismatch",
                without(docker(&honest), "manifest.json").file("manifest.json", &vec![b' '; 20 << 20]).bytes(),
            ),
            refuse(
                "a table of a thousand and one images",
                "1000 images",
                docker(&format!("[{}]", repeated(1001))).bytes(),
            ),
            refuse("a table that is no list", "sequence", docker("{}").bytes()),
            refuse("an empty table", "names no image", docker("[]").bytes()),
            refuse(
                "keys twice",
                "duplicate key",
                docker(r#"[{"Config":"config.json","Config":"x","Layers":[]}]"#).bytes(),
            ),
            refuse(
                "keys in another case",
                "in case only",
                docker(r#"[{"Config":"config.json","config":"x","Layers":[]}]"#).bytes(),
            ),
            refuse(
                "more layers than diff_ids",
                "diff_ids for 2 layers",
                docker(&table("config.json", r#""layer.tar","layer.tar""#)).bytes(),
            ),
            refuse("no layers", "diff_ids for 0 layers", docker(&table("config.json", "")).bytes()),
            refuse(
                "a name that is none",
                "invalid reference format",
                docker(&honest.replace("a:b", "../../x")).bytes(),
            ),
            refuse(
                "a name with a control character",
                "invalid reference format",
                docker(&honest.replace("a:b", "a\\u001b[2J:b")).bytes(),
            ),
        ]
    });
}

/// A sparse member with one byte of data.
fn sparse(size: u64) -> Vec<u8> {
    let head = edited("hole", b'S', 1, |block| {
        block[257..265].copy_from_slice(b"ustar  \0");
        octal(&mut block[386..398], 0);
        octal(&mut block[398..410], 1);
        octal(&mut block[483..495], size);
    });
    [head, crate::raw::padded(b"x")].concat()
}

#[test]
fn holes_do_not_fill_the_disk() {
    images("archives::holes_do_not_fill_the_disk", |_| {
        let One { layout, manifest, .. } = one();
        vec![refuse("a member with a hole", "sparse", [sparse(64 << 30 >> 3), bytes(&layout, vec![manifest])].concat())]
    });
}

/// In a layer a hole stays one.
#[test]
fn holes_stay_holes() {
    let budget = Budget { file: 2 << 30, ..Budget::default() };
    layers_within("archives::holes_stay_holes", budget, |_| {
        vec![hold("a hole of 1 GiB", [sparse(1 << 30), vec![0; 1024]].concat(), |tree| {
            assert!(tree.meta("hole").len() == 1 << 30 && tree.meta("hole").blocks() < 1000);
        })]
    });
}
