//! Compressed blobs that are not kept: made again bit for bit, or given up, and never anything else.

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use common::*;
use store::model::{Descriptor, media_type};
use store::{Compacted, Error, Format, LayerInfo, Verdict};

/// An archive that compresses to more than one block.
fn archive() -> Vec<u8> {
    let text: Vec<u8> =
        (0..60_000_u32).flat_map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) % 9973).into_bytes()).collect();
    tar().dir("etc").file("etc/text", &text).file("etc/zeros", &[0; 100_000]).bytes()
}

/// As `docker push` and BuildKit compress.
fn as_go(archive: &[u8]) -> Vec<u8> {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let header = deflate::gzip::Header::parse(&header).unwrap();
    let (dialect, level) = deflate::gzip::candidates(&header)[0];
    let mut encoder = deflate::gzip::Encoder::new(&header, dialect, level).unwrap();
    let mut out = Vec::new();
    encoder.write(archive, &mut out);
    encoder.finish(&mut out);
    out
}

fn take(scratch: &Scratch, bytes: &[u8]) -> LayerInfo {
    let ingest = scratch.store.ingest();
    let info = ingest.layer(bytes, None, None).unwrap();
    ingest.commit().unwrap();
    info
}

fn compact(scratch: &Scratch, info: &LayerInfo) -> Compacted {
    scratch.store.compact(&info.blob, &info.diff_id, &|| true).unwrap()
}

fn read(scratch: &Scratch, info: &LayerInfo, from: u64) -> Vec<u8> {
    let mut blob = scratch.store.blobs().open(&info.blob).unwrap();
    blob.skip(from).unwrap();
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A store that keeps archives, where the kernel can.
fn indexed() -> Option<Scratch> {
    let scratch = root().then(|| scratch_with(Format::Automatic))?;
    scratch.store.layers().are_indexed().then_some(scratch)
}

#[test]
fn a_blob_is_kept_for_a_layer_that_came_anew_meanwhile() {
    let Some(scratch) = indexed() else { return };
    let compressed = as_go(&archive());
    let info = take(&scratch, &compressed);
    let mark = scratch.dir.path().join("data/layers").join(info.diff_id.0.hex()).join("unsynced");
    let asked = std::cell::Cell::new(0);
    let remove = || scratch.store.remove_unreferenced(&HashSet::new(), &HashSet::new()).unwrap();
    let again = || {
        asked.set(asked.get() + 1);
        if asked.get() == 1 {
            remove();
            take(&scratch, &compressed);
        }
        true
    };
    let compacted = scratch.store.compact(&info.blob, &info.diff_id, &again).unwrap();
    // Nothing but the layer gives the blob from here on: it must be on disk.
    assert_eq!(compacted, Compacted::Dropped(compressed.len() as u64));
    assert!(!mark.exists());
    let gone = take(&scratch, &as_go(&tar().file("b", b"b").bytes()));
    let removed = || {
        remove();
        true
    };
    assert_ne!(scratch.store.compact(&gone.blob, &gone.diff_id, &removed).unwrap(), Compacted::Dropped(0));
    assert_eq!(std::fs::read_dir(scratch.dir.path().join("data/content/recipes")).unwrap().count(), 0);
}

#[test]
fn what_can_be_made_again_is_not_kept() {
    let Some(scratch) = indexed() else { return };
    let compressed = as_go(&archive());
    let info = take(&scratch, &compressed);
    let (store, blobs) = (&scratch.store, scratch.store.blobs());
    let stopped = store.compact(&info.blob, &info.diff_id, &|| false).unwrap();
    assert_eq!(stopped, Compacted::NotKnown);
    assert_eq!(compact(&scratch, &info), Compacted::Dropped(compressed.len() as u64));
    assert_eq!(compact(&scratch, &info), Compacted::NotKept);
    let file = scratch.dir.path().join("data/content/blobs/sha256").join(info.blob.hex());
    assert!(!file.exists());

    assert!(blobs.has(&info.blob) && !blobs.is_released(&info.blob));
    assert_eq!((blobs.size(&info.blob).unwrap(), blobs.kept_size(&info.blob)), (compressed.len() as u64, 0));
    assert_eq!(blobs.list().unwrap(), [info.blob]);
    assert!(read(&scratch, &info, 0) == compressed);
    assert!(read(&scratch, &info, 1000) == compressed[1000..], "as a push that goes on");
    assert_eq!(store.check_blob(&info.blob).unwrap(), Verdict::Sound);
    let ingest = store.ingest();
    assert!(ingest.has_blob(&info.blob));
    ingest.verify_layer(&info.blob, &info.diff_id).unwrap();
    let other = types::DiffId(sha256(b"other"));
    assert!(ingest.verify_layer(&info.blob, &other).is_err(), "it is this layer and no other");
    drop(ingest);

    // The layer stays as long as the blob is needed, whoever else lets go of it.
    store.remove_unreferenced(&HashSet::from([info.blob]), &HashSet::new()).unwrap();
    assert!(store.layers().has(&info.diff_id));
    // Its archive damaged, the blob is no longer what it was.
    let tar = scratch.dir.path().join("data/layers").join(info.diff_id.0.hex()).join("layer.tar");
    let bytes = std::fs::read(&tar).unwrap();
    std::fs::set_permissions(&tar, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::File::options().write(true).open(&tar).unwrap().write_all(&[bytes[0] ^ 1]).unwrap();
    assert!(matches!(store.check_blob(&info.blob).unwrap(), Verdict::Damaged(_)));
    store.discard_layer(&info.diff_id).unwrap();
    assert!(matches!(store.check_blob(&info.blob).unwrap(), Verdict::Damaged(_)));
    // As it came, it comes back.
    let again = take(&scratch, &compressed);
    assert_eq!((again.blob, store.check_blob(&info.blob).unwrap()), (info.blob, Verdict::Sound));
    assert_eq!(compact(&scratch, &info), Compacted::Dropped(compressed.len() as u64));
    store.remove_unreferenced(&HashSet::new(), &HashSet::new()).unwrap();
    assert!(!blobs.has(&info.blob) && !store.layers().has(&info.diff_id));
    assert_eq!(std::fs::read_dir(scratch.dir.path().join("data/content/recipes")).unwrap().count(), 0);
}

#[test]
fn what_is_not_proven_is_kept() {
    let Some(scratch) = indexed() else { return };
    let archive = archive();
    let mut foreign = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    foreign.write_all(&archive).unwrap();
    let foreign = take(&scratch, &foreign.finish().unwrap());
    assert_eq!(compact(&scratch, &foreign), Compacted::NotKnown);
    let zstd = take(&scratch, &zstd::encode_all(&archive[..], 3).unwrap());
    assert_eq!(compact(&scratch, &zstd), Compacted::NotKnown);
    let plain = take(&scratch, &archive);
    assert_eq!(compact(&scratch, &plain), Compacted::NotKnown, "it is the layer's own archive");
    // Two members are no single one, and what differs in its last byte differs.
    let go = as_go(&archive);
    let mut long = go.clone();
    long.extend(as_go(b""));
    assert_eq!(compact(&scratch, &take(&scratch, &long)), Compacted::NotKnown);
    for info in [foreign, zstd, plain] {
        assert_eq!(scratch.store.check_blob(&info.blob).unwrap(), Verdict::Sound);
    }
    // Whatever the disk made of a blob is not made into a recipe.
    let info = take(&scratch, &go);
    let file = scratch.dir.path().join("data/content/blobs/sha256").join(info.blob.hex());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, as_go(&archive[512..])).unwrap();
    assert_eq!(compact(&scratch, &info), Compacted::NotKnown);
    let top = scratch.dir.path().join("data/layers").join(info.diff_id.0.hex()).join("layer.tar");
    std::fs::set_permissions(&top, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&top, &archive[512..]).unwrap();
    let both = scratch.store.compact(&info.blob, &info.diff_id, &|| true);
    assert!(matches!(both, Err(Error::Digest { .. })), "{both:?}");
    assert!(file.exists());
}

#[test]
fn unpacked_layers_keep_their_blobs() {
    if !root() {
        return;
    }
    let scratch = scratch_with(Format::Directories);
    let info = take(&scratch, &as_go(&archive()));
    assert_eq!(compact(&scratch, &info), Compacted::NotKnown);
    assert_eq!(scratch.store.check_blob(&info.blob).unwrap(), Verdict::Sound);
}

#[test]
fn what_was_given_up_is_known_and_missed_only_by_name() {
    if !root() {
        return;
    }
    for format in formats() {
        let scratch = scratch_with(format);
        let (store, archive) = (&scratch.store, archive());
        let compressed = zstd::encode_all(&archive[..], 3).unwrap();
        let info = take(&scratch, &compressed);
        let other = take(&scratch, &as_go(&tar().file("x", b"x").bytes()));
        assert!(store.release(&info.blob, &other.diff_id).is_err(), "only as the layer that it is");
        let size = compressed.len() as u64;
        assert_eq!(store.release(&info.blob, &info.diff_id).unwrap(), Compacted::Dropped(size));
        assert!(store.blobs().is_released(&info.blob));
        assert_eq!(store.blobs().size(&info.blob).unwrap(), size);
        assert!(matches!(store.blobs().open(&info.blob), Err(Error::Released(_))));
        assert_eq!(store.check_blob(&info.blob).unwrap(), Verdict::Sound);
        // For a pull it is as good as there.
        let ingest = store.ingest();
        assert!(ingest.has_blob(&info.blob) && ingest.has_layer(&info.diff_id));
        ingest.verify_layer(&info.blob, &info.diff_id).unwrap();
        let document = |text: String, kind: &str| {
            Descriptor::new(kind, ingest.document(text.as_bytes(), None).unwrap(), text.len() as u64)
        };
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            info.diff_id
        );
        let config = document(config, media_type::OCI_CONFIG);
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","digest":"{}","size":{size}}}]}}"#,
            config.media_type, config.digest, config.size, info.blob
        );
        let target = document(manifest, media_type::OCI_MANIFEST);
        ingest.commit().unwrap();
        let saved =
            [store::image::Saved { target, references: Vec::new(), only: None, annotations: Default::default() }];
        let error =
            store::image::save(&**store, &saved, &types::Platform::host(), store::image::Form::Docker, std::io::sink())
                .unwrap_err();
        assert!(matches!(error, Error::Released(digest) if digest == info.blob), "{error}");
        drop(ingest);
        store.discard_layer(&info.diff_id).unwrap();
        assert!(matches!(store.check_blob(&info.blob).unwrap(), Verdict::Damaged(_)));
        // It comes again as any blob does.
        take(&scratch, &compressed);
        assert!(!store.blobs().is_released(&info.blob));
        assert!(read(&scratch, &info, 0) == compressed);
    }
}
