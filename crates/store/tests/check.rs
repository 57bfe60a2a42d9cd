//! What is damaged on disk is found and named, and nothing else is.

mod common;

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use common::*;
use store::{LayerInfo, Verdict};

fn layer(scratch: &Scratch) -> LayerInfo {
    let ingest = scratch.store.ingest();
    let archive = tar().dir("etc").file("etc/a", &[7; 10_000]).file("etc/.wh.gone", b"").file(".wh..wh..opq", b"");
    let bytes = zstd::encode_all(&archive.bytes()[..], 1).unwrap();
    let info = ingest.layer(&bytes[..], None, None).unwrap();
    ingest.commit().unwrap();
    info
}

fn flip(path: &Path, at: u64) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn damage_is_found() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let info = layer(&scratch);
    let (store, data) = (&scratch.store, scratch.dir.path().join("data"));
    assert_eq!(store.check_blob(&info.blob).unwrap(), Verdict::Sound);
    assert_eq!(store.check_layer(&info.diff_id).unwrap(), Verdict::Sound);
    let blob = data.join("content/blobs/sha256").join(info.blob.hex());
    flip(&blob, 20);
    assert!(matches!(store.check_blob(&info.blob).unwrap(), Verdict::Damaged(_)));
    flip(&blob, 20);
    assert_eq!(store.check_blob(&info.blob).unwrap(), Verdict::Sound);

    let top = data.join("layers").join(info.diff_id.0.hex());
    let damaged = || matches!(store.check_layer(&info.diff_id).unwrap(), Verdict::Damaged(_));
    if store.layers().are_indexed() {
        for (name, places) in [("layer.tar", [0, 1500, 5000]), ("index.erofs", [1030, 1200, 1600])] {
            for place in places {
                flip(&top.join(name), place);
                assert!(damaged(), "{name} at {place}");
                flip(&top.join(name), place);
                assert!(!damaged(), "{name} at {place}");
            }
        }
        let index = std::fs::read(top.join("index.erofs")).unwrap();
        for changed in [&index[..index.len() - 1], &[&index[..], b"x"].concat(), b""] {
            std::fs::write(top.join("index.erofs"), changed).unwrap();
            assert!(damaged());
        }
        std::fs::remove_file(top.join("index.erofs")).unwrap();
        assert!(damaged());
    } else {
        let file = top.join("fs/etc/a");
        flip(&file, 5000);
        assert!(damaged());
        flip(&file, 5000);
        // Its time is what changed now.
        assert!(damaged());
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert!(damaged(), "and its mode");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!damaged());
        std::fs::write(top.join("fs/etc/more"), "").unwrap();
        assert!(damaged());
        std::fs::remove_file(top.join("digest")).unwrap();
        assert!(matches!(store.check_layer(&info.diff_id).unwrap(), Verdict::Unknown(_)));
    }
    store.discard_layer(&info.diff_id).unwrap();
    assert!(!store.layers().has(&info.diff_id));
    // From the blob it comes back as it was.
    let ingest = store.ingest();
    ingest.unpack_blob(&info.blob, Some(&info.diff_id)).unwrap();
    ingest.commit().unwrap();
    assert_eq!(store.check_layer(&info.diff_id).unwrap(), Verdict::Sound);
    store.discard_blob(&info.blob).unwrap();
    assert!(store.check_blob(&info.blob).is_err());
}
