//! Layers that are made of other files than their blob, and the files that are there to make them of.

mod common;

use std::collections::HashSet;

use common::*;
use layer::tar::{Entry, Kind};
use store::{Error, Store, Verdict};
use types::DiffId;

fn layers(scratch: &Scratch) -> usize {
    let entries = std::fs::read_dir(scratch.dir.path().join("data/layers")).unwrap().flatten();
    entries.filter(|entry| entry.file_name().len() == 64).count()
}

#[test]
fn a_layer_may_come_without_its_blob() {
    if !root() {
        return;
    }
    for format in formats() {
        let scratch = scratch_with(format);
        let archive = tar().dir("etc").file("etc/a", &[7; 10_000]).bytes();
        let (blob, layer) = (sha256(b"a blob nobody has seen"), DiffId(sha256(&archive)));
        let ingest = scratch.store.ingest();
        let made = ingest.archive(&archive[..], (&blob, 1234), &layer).unwrap();
        assert_eq!((made.diff_id, made.blob, made.blob_size), (layer, blob, 1234));
        ingest.verify_layer(&blob, &layer).unwrap();
        ingest.commit().unwrap();
        drop(ingest);
        // It is on disk: there is nothing to make it of again.
        let boots = scratch.dir.path().join("data/layers").join(layer.0.hex()).join("unsynced");
        assert!(!boots.exists());
        let blobs = scratch.store.blobs();
        assert!(blobs.has(&blob) && blobs.is_released(&blob) && !blobs.is_missed(&blob));
        assert!(matches!(blobs.open(&blob), Err(Error::Released(_))));
        assert_eq!(scratch.store.check_layer(&layer).unwrap(), Verdict::Sound);
        assert_eq!(scratch.store.check_blob(&blob).unwrap(), Verdict::Sound);
        blobs.miss(&blob);
        assert!(blobs.is_missed(&blob));
        scratch.store.remove_unreferenced(&HashSet::new(), &HashSet::new()).unwrap();
        assert!(!blobs.has(&blob) && !scratch.store.layers().has(&layer));
    }
}

#[test]
fn what_is_not_the_layer_leaves_nothing() {
    if !root() {
        return;
    }
    for format in formats() {
        let scratch = scratch_with(format);
        let archive = tar().file("a", b"a").bytes();
        let (blob, other) = (sha256(b"blob"), DiffId(sha256(b"another archive")));
        let ingest = scratch.store.ingest();
        let error = ingest.archive(&archive[..], (&blob, 1), &other).unwrap_err();
        assert!(matches!(error, Error::Digest { .. }), "{error}");
        assert!(ingest.archive(&archive[..700], (&blob, 1), &DiffId(sha256(&archive[..700]))).is_err());
        ingest.commit().unwrap();
        assert!(!scratch.store.blobs().has(&blob));
        assert_eq!(layers(&scratch), 0);
    }
}

#[test]
fn what_is_said_of_a_blob_displaces_nothing_that_is_known() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let (theirs, ours) = (tar().file("a", b"theirs").bytes(), tar().file("a", b"ours").bytes());
    let compressed = zstd::encode_all(&ours[..], 1).unwrap();
    let ingest = scratch.store.ingest();
    let info = ingest.layer(&compressed[..], None, None).unwrap();
    // While it comes, and when it is there, somebody claims that the same blob is another layer.
    ingest.archive(&theirs[..], (&info.blob, info.blob_size), &DiffId(sha256(&theirs))).unwrap();
    ingest.commit().unwrap();
    let again = scratch.store.ingest();
    again.archive(&theirs[..], (&info.blob, info.blob_size), &DiffId(sha256(&theirs))).unwrap();
    again.commit().unwrap();
    drop((ingest, again));
    let recipes = std::fs::read_dir(scratch.dir.path().join("data/content/recipes")).unwrap().count();
    assert_eq!(recipes, 0);
    scratch.store.blobs().open(&info.blob).unwrap().verify().unwrap();
    // A claim that came first is not believed of a layer that it is not about.
    let blob = sha256(b"unseen");
    let first = scratch.store.ingest();
    first.archive(&theirs[..], (&blob, 5), &DiffId(sha256(&theirs))).unwrap();
    first.commit().unwrap();
    assert!(scratch.store.ingest().verify_layer(&blob, &info.diff_id).is_err());
}

#[test]
fn what_is_said_of_a_blob_keeps_no_document_out() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let theirs = tar().file("a", b"theirs").bytes();
    let document = br#"{"schemaVersion":2}"#;
    let claim = scratch.store.ingest();
    claim.archive(&theirs[..], (&sha256(document), document.len() as u64), &DiffId(sha256(&theirs))).unwrap();
    claim.commit().unwrap();
    drop(claim);
    let ingest = scratch.store.ingest();
    assert!(matches!(scratch.store.blobs().read(&sha256(document), 100), Err(Error::NoBlob(_))));
    assert!(matches!(ingest.read(&sha256(document), 100), Err(Error::NoBlob(_))));
    let digest = ingest.document(document, None).unwrap();
    ingest.commit().unwrap();
    assert_eq!(scratch.store.blobs().read(&digest, 100).unwrap(), document);
}

#[test]
fn what_was_said_of_a_blob_counts_for_nothing_once_it_is_here() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let (theirs, ours) = (tar().file("a", b"theirs").bytes(), tar().file("a", b"ours").bytes());
    let compressed = zstd::encode_all(&ours[..], 1).unwrap();
    let (blob, claimed) = (sha256(&compressed), DiffId(sha256(&theirs)));
    let claim = scratch.store.ingest();
    claim.archive(&theirs[..], (&blob, compressed.len() as u64), &claimed).unwrap();
    claim.commit().unwrap();
    drop(claim);
    let ingest = scratch.store.ingest();
    let info = ingest.layer(&compressed[..], None, None).unwrap();
    assert!(ingest.verify_layer(&blob, &claimed).is_err());
    ingest.commit().unwrap();
    assert!(ingest.verify_layer(&blob, &claimed).is_err());
    drop(ingest);
    // It is neither given up for that layer, nor does it keep that layer here.
    assert!(matches!(scratch.store.release(&blob, &claimed), Err(Error::Digest { .. })));
    scratch.store.blobs().open(&blob).unwrap().verify().unwrap();
    scratch.store.remove_unreferenced(&HashSet::from([blob]), &HashSet::from([info.diff_id])).unwrap();
    assert!(!scratch.store.layers().has(&claimed));
}

#[test]
fn a_file_is_read_once_however_often_it_is_looked_for() {
    if !root() {
        return;
    }
    for format in formats() {
        let scratch = scratch_with(format);
        let content = vec![7; 16 << 20];
        let ingest = scratch.store.ingest();
        let info = ingest.layer(&tar().dir("d").file("d/a", &content).bytes()[..], None, None).unwrap();
        ingest.commit().unwrap();
        let files = scratch.store.files(&[info.diff_id]);
        // Bytes this thread was given by read(2).
        let read = || {
            let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
            counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse::<u64>().unwrap()
        };
        let before = read();
        for number in 0..2000_u32 {
            let path = if number % 2 == 0 { "d/a" } else { "d/../d/a" };
            assert_eq!(files.find(path, content.len() as u64, &sha256(&number.to_le_bytes())), None);
            assert_eq!(files.find(path, content.len() as u64, &sha256(&content[..1])), None);
        }
        let bytes = read() - before;
        assert!(bytes < 2 * content.len() as u64, "{bytes}");
        assert_eq!(files.find("d/a", content.len() as u64, &sha256(&content)), Some(0));
    }
}

#[test]
fn files_are_found_by_path_and_content() {
    if !root() {
        return;
    }
    for format in formats() {
        let scratch = scratch_with(format);
        let canary = Canary::new();
        let secret = format!("{}/sub/secret", canary.path());
        let pipe = Entry::new("pipe", Kind::Fifo, 0o644);
        let archives = [
            tar().dir("etc").file("etc/a", b"old").file("etc/b", b"same").bytes(),
            tar().dir("etc").file("etc/a", b"new").link("out", Kind::Symlink, canary.path()).entry(pipe).bytes(),
        ];
        let take = |store: &std::sync::Arc<Store>, archive: &[u8]| {
            let ingest = store.ingest();
            let info = ingest.layer(archive, None, None).unwrap();
            ingest.commit().unwrap();
            info.diff_id
        };
        let mut layers: Vec<DiffId> = archives.iter().map(|archive| take(&scratch.store, archive)).collect();
        layers.insert(0, DiffId(sha256(b"not here")));
        let files = scratch.store.files(&layers);
        let find = |path: &str, content: &[u8]| files.find(path, content.len() as u64, &sha256(content));
        let read = |layer: usize, path: &str| std::io::read_to_string(files.open(layer, path).unwrap()).unwrap();
        assert_eq!(read(find("etc/a", b"old").unwrap(), "etc/a"), "old");
        assert_eq!(read(find("./etc/a", b"new").unwrap(), "etc/a"), "new");
        assert_eq!(read(find("etc/b", b"same").unwrap(), "etc/b"), "same");
        for (path, content) in [
            ("etc/a", &b"odd"[..]),
            ("etc/a", b"older"),
            ("etc/c", b"same"),
            ("etc", b""),
            ("pipe", b""),
            ("", b""),
            (&secret, b"secret"),
            ("out/sub/secret", b"secret"),
            ("../../../../../../../../etc/hostname", &std::fs::read("/etc/hostname").unwrap_or_default()),
        ] {
            assert_eq!(find(path, content), None, "{path}");
        }
        canary.check("looking for files");
    }
}
