//! Images in and out of the store, and the root file systems they make.

mod common;

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use common::{Tar, layer_path, names, open, root, scratch, sha256, tar};
use layer::tar::{Entry, Kind};
use rustix::fs::{Mode, OFlags};
use store::image::{Commit, Form, Import, Saved, commit, import, load, resolve, save};
use store::model::{Descriptor, Image, ImageConfig, Manifest, media_type};
use store::tree::{Change, ChangeKind, changes, export};
use store::{Error, Store};
use sys::path::Root;
use types::{Kind as ErrorKind, Platform, Reference};

fn busybox() -> Tar {
    let mut setuid = Entry::new("bin/su", Kind::File, 0o4755);
    (setuid.uid, setuid.gid, setuid.size) = (0, 7, 2);
    setuid.xattrs.push((b"user.note".to_vec(), b"kept".to_vec()));
    setuid.xattrs.push((b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()));
    let mut null = Entry::new("dev/null", Kind::CharDevice, 0o666);
    (null.major, null.minor) = (1, 3);
    let mut tar = tar()
        .dir("./")
        .dir("bin")
        .file("bin/busybox", b"program")
        .link("bin/sh", Kind::Symlink, "busybox")
        .link("bin/ls", Kind::HardLink, "bin/busybox")
        .dir("etc")
        .file("etc/passwd", b"root:x:0:0")
        .dir("gone")
        .file("gone/a", b"a")
        .dir("dev")
        .entry(null)
        .entry(Entry::new("pipe", Kind::Fifo, 0o600));
    tar.0.push((setuid, b"su".to_vec()));
    tar
}

fn settings() -> Import {
    let config = ImageConfig { cmd: Some(vec!["sh".to_owned()]), ..ImageConfig::default() };
    let created = "2026-01-02T03:04:05Z".to_owned();
    Import { config, platform: Platform::host(), created, comment: "Imported from -".to_owned() }
}

fn imported(store: &std::sync::Arc<Store>, bytes: &[u8]) -> Descriptor {
    let ingest = store.ingest();
    let target = import(&ingest, bytes, &settings()).unwrap();
    ingest.commit().unwrap();
    target
}

fn read(root: &Root, path: &str) -> String {
    let fd = root.open_at(path, OFlags::RDONLY, Mode::empty()).unwrap();
    std::io::read_to_string(std::fs::File::from(fd)).unwrap()
}

fn write(root: &Root, path: &str, text: &str) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let fd = root.open_at(path, flags, Mode::from_raw_mode(0o644)).unwrap();
    std::fs::File::from(fd).write_all(text.as_bytes()).unwrap();
}

#[test]
fn import_mount_change_commit() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let store = &scratch.store;
    let target = imported(store, &busybox().bytes());
    let base = resolve(&**store, &target, &Platform::host()).unwrap();
    assert_eq!(base.image.config.cmd, Some(vec!["sh".to_owned()]));
    assert_eq!(base.image.history.len(), 1);
    let diff_ids = base.image.rootfs.diff_ids.clone();

    // What was unpacked.
    let layer = layer_path(store, &diff_ids[0]);
    let su = std::fs::metadata(layer.join("bin/su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.gid()), (0o4755, 7));
    let attributes = store.layers().root(&diff_ids[0]).unwrap().open_dir("bin").unwrap().xattrs("su".as_ref()).unwrap();
    assert_eq!(attributes, [("user.note".into(), b"kept".to_vec())], "overlayfs' own attributes are dropped");
    let (program, list) =
        (std::fs::metadata(layer.join("bin/busybox")).unwrap(), std::fs::metadata(layer.join("bin/ls")).unwrap());
    assert_eq!((program.ino(), program.mtime()), (list.ino(), 1_000_000_000));
    assert_eq!(std::fs::metadata(layer.join("etc")).unwrap().mtime(), 1_000_000_000, "times of directories");
    assert_eq!(std::fs::metadata(layer.join("dev/null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
    assert!(std::fs::metadata(layer.join("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(store.layers().size(&diff_ids[0]).unwrap(), 7 + 10 + 1 + 2);
    let top = store.path().join("layers").join(diff_ids[0].0.hex());
    assert_eq!(std::fs::metadata(top).unwrap().mode() & 0o777, 0o700);

    // A container changes things.
    let lowers = store.layers().lowers(&diff_ids).unwrap();
    let upper = store.create_upper("c1", &lowers).unwrap();
    let overlay = store.overlay("c1", &diff_ids, false).unwrap();
    assert_eq!(overlay.upper, Some(upper));
    let mounted = Root::from_fd(store.mount(&overlay).unwrap());
    assert_eq!(read(&mounted, "/bin/sh"), "program", "symlink inside");
    write(&mounted, "etc/passwd", "changed");
    write(&mounted, "new", "new");
    mounted.remove_tree("gone").unwrap();
    mounted.create_dir_all("gone", Mode::RWXU).unwrap();
    write(&mounted, "gone/b", "b");
    mounted.remove_tree("bin/ls").unwrap();
    drop(mounted);

    let upper = store.upper_root("c1").unwrap();
    let below = [store.layers().root(&diff_ids[0]).unwrap()];
    let change = |path: &str, kind| Change { path: path.to_owned(), kind };
    let expected = [
        change("/bin", ChangeKind::Modified),
        change("/bin/ls", ChangeKind::Deleted),
        change("/etc/passwd", ChangeKind::Modified),
        change("/gone", ChangeKind::Modified),
        change("/gone/b", ChangeKind::Added),
        change("/new", ChangeKind::Added),
    ];
    assert_eq!(changes(&upper, &below).unwrap(), expected);

    // Commit, and a container of the new image.
    let settings = Commit {
        config: ImageConfig { user: "7".to_owned(), ..ImageConfig::default() },
        created: "2026-01-02T03:04:06Z".to_owned(),
        author: "me".to_owned(),
        comment: "why".to_owned(),
        created_by: "sh".to_owned(),
    };
    let ingest = store.ingest();
    let committed = commit(&ingest, Some(&base), &upper, &settings).unwrap();
    ingest.commit().unwrap();
    let second = resolve(&**store, &committed, &Platform::host()).unwrap();
    assert_eq!((second.image.rootfs.diff_ids.len(), second.image.history.len()), (2, 2));
    let archive = std::fs::read(blob_path(store, &second.manifest.layers[1])).unwrap();
    let members = ["bin/", "bin/.wh.ls", "etc/", "etc/passwd", "gone/", "gone/.wh..wh..opq", "gone/b", "new"];
    assert_eq!(names(&archive), members);
    let overlay = store.read_only(&second.image.rootfs.diff_ids).unwrap();
    let mounted = Root::from_fd(store.mount(&overlay).unwrap());
    assert_eq!((read(&mounted, "etc/passwd"), read(&mounted, "gone/b")), ("changed".to_owned(), "b".to_owned()));
    assert!(mounted.lstat("gone/a").is_err() && mounted.lstat("bin/ls").is_err());
    assert!(mounted.lstat("bin/busybox").is_ok());
    let mut out = Vec::new();
    export(&mounted, &mut out, true).unwrap();
    let expected = [
        "bin/",
        "bin/busybox",
        "bin/sh",
        "bin/su",
        "dev/",
        "dev/null",
        "etc/",
        "etc/passwd",
        "gone/",
        "gone/b",
        "new",
        "pipe",
    ];
    assert_eq!(names(&out), expected);
    drop(mounted);
    store.remove_container_dirs("c1").unwrap();
    assert!(!scratch.dir.path().join("data/containers/c1").exists());
}

fn blob_path(store: &Store, descriptor: &Descriptor) -> std::path::PathBuf {
    store.path().join("content/blobs/sha256").join(descriptor.digest.hex())
}

#[test]
fn layers_of_all_kinds() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let plain = busybox().bytes();
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    let diff_id = types::DiffId(sha256(&plain));
    for (bytes, kind) in
        [(&plain, media_type::OCI_LAYER), (&gzip, media_type::OCI_LAYER_GZIP), (&zstd, media_type::OCI_LAYER_ZSTD)]
    {
        let ingest = scratch.store.ingest();
        let digest = sha256(bytes);
        let size = bytes.len() as u64;
        let info = ingest.layer(&bytes[..], Some((&digest, size)), Some(&diff_id)).unwrap();
        assert_eq!((info.diff_id, info.blob, info.descriptor().media_type.as_str()), (diff_id, digest, kind));
        // Wrong in every way one can be.
        let other = sha256(b"other");
        assert!(matches!(ingest.layer(&bytes[..], Some((&other, size)), None), Err(Error::Digest { .. })));
        assert!(matches!(ingest.layer(&bytes[..], Some((&digest, size + 1)), None), Err(Error::Size { .. })));
        assert!(ingest.layer(&bytes[..], Some((&digest, size - 1)), None).is_err());
        let wrong = ingest.layer(&bytes[..], Some((&digest, size)), Some(&types::DiffId(other)));
        assert!(matches!(wrong, Err(Error::Digest { what: "uncompressed layer", .. })));
        for cut in [1, 100, bytes.len() / 2] {
            assert!(ingest.layer(&bytes[..cut], None, None).is_err(), "{kind} cut at {cut}");
        }
    }
    // What no manifest has a name for is kept uncompressed.
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(&plain).unwrap();
    let ingest = scratch.store.ingest();
    let info = ingest.layer(&encoder.finish().unwrap()[..], None, None).unwrap();
    assert_eq!((info.diff_id, info.blob, info.blob_size), (diff_id, diff_id.0, plain.len() as u64));
    assert_eq!(info.descriptor().media_type, media_type::OCI_LAYER);
    drop(ingest);
    assert!(!scratch.store.layers().has(&diff_id), "nothing is visible without a commit");
    assert_eq!(std::fs::read_dir(scratch.dir.path().join("data/content/ingest")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(scratch.dir.path().join("data/layers")).unwrap().count(), 1, "only the empty layer");
}

#[test]
fn save_and_load() {
    if !root() {
        return;
    }
    let (first, second) = (scratch(), scratch());
    let target = imported(&first.store, &busybox().bytes());
    let name = Reference::parse("busybox:1").unwrap();
    let saved =
        [Saved { target: target.clone(), references: vec![name.clone()], only: None, annotations: Default::default() }];
    let mut archive = Vec::new();
    save(&*first.store, &saved, &Platform::host(), Form::Docker, &mut archive).unwrap();
    let mut again = Vec::new();
    save(&*first.store, &saved, &Platform::host(), Form::Docker, &mut again).unwrap();
    assert!(archive == again, "the same bytes each time");
    let list = names(&archive);
    assert_eq!(&list[list.len() - 3..], ["index.json", "manifest.json", "oci-layout"]);

    for bytes in [archive.clone(), zstd::encode_all(&archive[..], 1).unwrap()] {
        let ingest = second.store.ingest();
        let loaded = load(&ingest, &bytes[..], &[]).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(
            (loaded[0].reference.as_ref(), loaded[0].target.digest, loaded[0].unpacked),
            (Some(&name), target.digest, true)
        );
        ingest.commit().unwrap();
    }
    let resolved = resolve(&*second.store, &target, &Platform::host()).unwrap();
    assert!(second.store.layers().has(&resolved.image.rootfs.diff_ids[0]));
    let other = Platform::new("linux", "s390x", "");
    assert!(resolve(&*second.store, &target, &other).is_ok(), "a single manifest runs whatever it is for");

    // Any blob changed or missing: refused, nothing left.
    let members = common::members(&archive);
    for index in 0..members.len() {
        if members[index].0.ends_with('/') || members[index].0 == "oci-layout" {
            continue;
        }
        let mut changed = tar();
        for (at, (name, data)) in members.iter().enumerate() {
            let data = if at == index { [&data[..], b"x"].concat() } else { data.clone() };
            changed = if name.ends_with('/') { changed.dir(name) } else { changed.file(name, &data) };
        }
        assert!(load(&second.store.ingest(), &changed.bytes()[..], &[]).is_err(), "{}", members[index].0);
    }
}

#[test]
fn docker_archives() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let layer = busybox().bytes();
    let image = |layers: usize| {
        let diff_ids = vec![types::DiffId(sha256(&layer)); layers];
        let rootfs = store::model::RootFs { diff_ids, ..Default::default() };
        let host = Platform::host();
        Image { os: host.os, architecture: host.arch, rootfs, ..Image::default() }.to_bytes().unwrap()
    };
    let manifest = |config: &str, layers: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":["old:1","old:2"],"Layers":[{layers}]}}]"#)
    };
    let two = manifest("c.json", r#""a/layer.tar","b/layer.tar""#);
    let good = tar()
        .dir("a")
        .file("a/layer.tar", &layer)
        .file("a/VERSION", b"1.0")
        .dir("b")
        .link("b/layer.tar", Kind::Symlink, "../a/layer.tar")
        .file("c.json", &image(2))
        .file("manifest.json", two.as_bytes());
    let ingest = scratch.store.ingest();
    let loaded = load(&ingest, &good.bytes()[..], &[]).unwrap();
    let references: Vec<String> = loaded.iter().map(|image| image.reference.as_ref().unwrap().familiar()).collect();
    assert_eq!(references, ["old:1", "old:2"]);
    ingest.commit().unwrap();
    let resolved = resolve(&*scratch.store, &loaded[0].target, &Platform::host()).unwrap();
    assert_eq!(resolved.manifest.layers.len(), 2);
    assert_eq!(scratch.store.layers().lowers(&resolved.image.rootfs.diff_ids).unwrap().len(), 1, "the same layer once");
    assert_eq!(scratch.store.blobs().list().unwrap().len(), 3, "layer, configuration, manifest");

    let one = manifest("c.json", r#""a/layer.tar""#);
    let refused = |what: &str, archive: Tar| {
        let error = load(&scratch.store.ingest(), &archive.bytes()[..], &[]);
        assert!(error.is_err(), "{what}");
    };
    let base = || tar().file("a/layer.tar", &layer).file("c.json", &image(1));
    refused("empty", tar());
    refused("a root file system", busybox());
    refused("no tags of its own", tar().file("repositories", b"{}"));
    refused(
        "count of layers",
        tar().file("a/layer.tar", &layer).file("c.json", &image(2)).file("manifest.json", one.as_bytes()),
    );
    refused("member twice", base().file("manifest.json", one.as_bytes()).file("c.json", &image(1)));
    refused("missing layer", tar().file("c.json", &image(1)).file("manifest.json", one.as_bytes()));
    refused("path out", base().file("manifest.json", manifest("../../etc/passwd", "").as_bytes()));
    refused(
        "symlink out",
        tar().link("c.json", Kind::Symlink, "../../etc/passwd").file("manifest.json", one.as_bytes()),
    );
    refused(
        "absolute symlink",
        tar().link("c.json", Kind::Symlink, "/etc/passwd").file("manifest.json", one.as_bytes()),
    );
    refused(
        "link in a circle",
        tar().link("c.json", Kind::Symlink, "c.json").file("manifest.json", manifest("c.json", "").as_bytes()),
    );
    refused("table is a link", base().file("m", one.as_bytes()).link("manifest.json", Kind::Symlink, "m"));
    refused("table is a pipe", base().entry(Entry::new("manifest.json", Kind::Fifo, 0o644)));
    refused("huge table", base().file("manifest.json", &vec![b' '; 5 << 20]));
    refused(
        "bad name",
        base().file("manifest.json", manifest("c.json", r#""a/layer.tar""#).replace("old:1", "../x:1").as_bytes()),
    );
    refused(
        "wrong diff_id",
        tar()
            .file("a/layer.tar", &tar().dir("other").bytes())
            .file("c.json", &image(1))
            .file("manifest.json", one.as_bytes()),
    );
}

#[test]
fn platforms() {
    let scratch = scratch();
    let ingest = scratch.store.ingest();
    let image = |arch: &str| {
        let bytes =
            Image { os: "linux".to_owned(), architecture: arch.to_owned(), ..Image::default() }.to_bytes().unwrap();
        let config =
            Descriptor::new(media_type::OCI_CONFIG, ingest.document(&bytes, None).unwrap(), bytes.len() as u64);
        let bytes = Manifest::new(config, Vec::new()).to_bytes().unwrap();
        Descriptor::new(media_type::OCI_MANIFEST, ingest.document(&bytes, None).unwrap(), bytes.len() as u64)
    };
    let index = |entries: &[Descriptor]| {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":{}}}"#,
            media_type::OCI_INDEX,
            serde_json::to_string(entries).unwrap()
        );
        Descriptor::new(media_type::OCI_INDEX, ingest.document(text.as_bytes(), None).unwrap(), text.len() as u64)
    };
    let on = |descriptor: &Descriptor, arch: &str| Descriptor {
        platform: Some(Platform::new("linux", arch, "")),
        ..descriptor.clone()
    };
    let (amd64, arm64) = (image("amd64"), image("arm64"));
    let wanted = |arch: &str| Platform::new("linux", arch, "");
    let full = index(&[on(&arm64, "arm64"), on(&amd64, "amd64")]);
    assert_eq!(resolve(&ingest, &full, &wanted("amd64")).unwrap().target.digest, amd64.digest);
    let error = resolve(&ingest, &full, &wanted("s390x")).unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/s390x in the manifest list entries");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let silent = index(&[arm64.clone(), amd64.clone()]);
    assert_eq!(
        resolve(&ingest, &silent, &wanted("amd64")).unwrap().target.digest,
        amd64.digest,
        "asked of the configuration"
    );
    let mut nested = silent;
    for depth in 0..6 {
        nested = index(&[nested]);
        assert_eq!(resolve(&ingest, &nested, &wanted("amd64")).is_ok(), depth < 3, "depth {depth}");
    }
    let lying = Descriptor { size: amd64.size + 1, ..amd64 };
    assert!(matches!(resolve(&ingest, &lying, &wanted("amd64")), Err(Error::Size { .. })));
}

#[test]
fn nothing_half_done_stays() {
    let scratch = scratch();
    let data = scratch.dir.path().join("data");
    assert!(matches!(open(&data), Err(Error::InUse(_))));
    let ingest = scratch.store.ingest();
    ingest.document(b"kept", None).unwrap();
    ingest.commit().unwrap();
    ingest.document(b"dropped", None).unwrap();
    drop(ingest);
    // What an engine leaves that is killed.
    std::fs::write(data.join("content/ingest/blob-00"), "half").unwrap();
    std::fs::create_dir_all(data.join("layers/.tmp-00/fs/dir")).unwrap();
    std::fs::create_dir_all(data.join("layers/.rm-00/fs/dir")).unwrap();
    let Scratch { store, .. } = &scratch;
    assert_eq!(store.blobs().list().unwrap(), [sha256(b"kept")]);
    let path = data.clone();
    let dir = scratch.dir;
    drop(scratch.store);
    let store = open(&path).unwrap();
    let left = |path: &str| {
        std::fs::read_dir(data.join(path)).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    assert!(left("content/ingest").is_empty());
    assert_eq!(left("layers"), ["empty"]);
    assert_eq!(store.blobs().read(&sha256(b"kept"), 10).unwrap(), b"kept");
    assert!(matches!(store.blobs().read(&sha256(b"kept"), 3), Err(Error::Size { .. })));
    // A disk that changes bytes is noticed.
    let blob = data.join("content/blobs/sha256").join(sha256(b"kept").hex());
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, "flip").unwrap();
    assert!(matches!(store.blobs().read(&sha256(b"kept"), 10), Err(Error::Digest { .. })));
    assert!(matches!(store.blobs().open(&sha256(b"kept")).unwrap().verify(), Err(Error::Digest { .. })));
    drop(dir);
}

use common::Scratch;

#[test]
fn collection_spares_what_is_used() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let store = &scratch.store;
    let first = imported(store, &busybox().bytes());
    let second = imported(store, &tar().file("only", b"second").bytes());
    let resolved = resolve(&**store, &first, &Platform::host()).unwrap();
    let layers: HashSet<_> = resolved.image.rootfs.diff_ids.iter().copied().collect();
    let blobs: HashSet<_> =
        [first.digest, resolved.manifest.config.digest, resolved.manifest.layers[0].digest].into_iter().collect();
    let ingest = store.ingest();
    assert!(ingest.has_blob(&second.digest));
    let removed = store.remove_unreferenced(&blobs, &layers).unwrap();
    assert_eq!((removed.blobs.len(), removed.layers.len()), (2, 1), "the pinned manifest stays");
    assert!(store.blobs().has(&second.digest));
    drop(ingest);
    assert_eq!(store.remove_unreferenced(&blobs, &layers).unwrap().blobs, [second.digest]);
    assert!(resolve(&**store, &first, &Platform::host()).is_ok());
    let names: Vec<_> = std::fs::read_dir(Path::new(store.path()).join("layers")).unwrap().collect();
    assert_eq!(names.len(), 2);
}

#[test]
fn many_layers_and_odd_paths() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("with:colon,comma\\and").join("long".repeat(50)).join("data");
    let store = open(&long).unwrap();
    let ingest = store.ingest();
    let layers: Vec<_> = (0..150)
        .map(|index| {
            ingest
                .layer(
                    &tar().file(&format!("f{index}"), b"x").file("same", format!("{index}").as_bytes()).bytes()[..],
                    None,
                    None,
                )
                .unwrap()
                .diff_id
        })
        .collect();
    ingest.commit().unwrap();
    let upper = store.create_upper("c", &[]).unwrap();
    assert!(upper.upper.exists());
    for volatile in [false, true] {
        let overlay = store.overlay("c", &layers, volatile).unwrap();
        let mounted = Root::from_fd(store.mount(&overlay).unwrap());
        assert_eq!(read(&mounted, "same"), "149");
        assert_eq!(mounted.dir().unwrap().list().unwrap().len(), 151);
    }
    // No layers at all.
    store.create_upper("empty", &[]).unwrap();
    let mounted = Root::from_fd(store.mount(&store.overlay("empty", &[], false).unwrap()).unwrap());
    assert!(mounted.dir().unwrap().list().unwrap().is_empty());
}

#[test]
fn an_image_is_committed_without_what_came_beside_it() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let store = &scratch.store;
    let ingest = store.ingest();
    let target = import(&ingest, busybox().bytes().as_slice(), &settings()).unwrap();
    let other = ingest.document(b"something else", None).unwrap();
    let part = ingest.split(&target).unwrap();
    part.commit().unwrap();
    let found = resolve(&**store, &target, &Platform::host()).unwrap();
    assert!(store.layers().has(&found.image.rootfs.diff_ids[0]));
    assert!(!store.blobs().has(&other), "it was not waited for");
    // The rest comes in its own time; what went is not looked for again.
    ingest.commit().unwrap();
    assert!(store.blobs().has(&other));
}
