//! Layers go to disk after their image was acknowledged, and come back from their blobs when they did not.

mod common;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use common::*;
use store::{Format, LayerInfo, Store, Verdict};
use types::DiffId;

struct Data {
    dir: tempfile::TempDir,
    format: Format,
}

impl Data {
    fn open(&self, boot: &str) -> Arc<Store> {
        Store::open_in(self.dir.path(), self.format, boot).unwrap()
    }

    fn mark(&self, layer: &DiffId) -> PathBuf {
        self.dir.path().join("layers").join(layer.0.hex()).join("unsynced")
    }
}

fn take(store: &Arc<Store>, name: &str) -> LayerInfo {
    let archive = tar().dir("etc").file(name, &[7; 10_000]).bytes();
    let ingest = store.ingest();
    let info = ingest.layer(&zstd::encode_all(&archive[..], 1).unwrap()[..], None, None).unwrap();
    ingest.commit().unwrap();
    info
}

fn everywhere(test: impl Fn(Data)) {
    if root() {
        for format in formats() {
            test(Data { dir: tempfile::Builder::new().prefix("dhow-settling-").tempdir().unwrap(), format });
        }
    }
}

#[test]
fn what_is_on_disk_outlives_the_boot() {
    everywhere(|data| {
        let store = data.open("one");
        let info = take(&store, "etc/a");
        assert!(data.mark(&info.diff_id).exists(), "an image is acknowledged before");
        store.settle().unwrap();
        assert!(!data.mark(&info.diff_id).exists());
        drop(store);
        let store = data.open("two");
        assert!(store.layers().has(&info.diff_id) && store.layers().lost().is_empty());
        assert_eq!(store.check_layer(&info.diff_id).unwrap(), Verdict::Sound);
    });
}

#[test]
fn what_is_not_is_made_again() {
    everywhere(|data| {
        let store = data.open("one");
        let info = take(&store, "etc/a");
        drop(store);
        // The engine died, and the kernel did not.
        let store = data.open("one");
        assert!(store.layers().has(&info.diff_id));
        drop(store);
        // Whatever the disk has of it: it may be anything, as here where it is all there.
        let store = data.open("two");
        assert!(!store.layers().has(&info.diff_id));
        assert_eq!(store.layers().lost(), [(info.diff_id, Some(info.blob))]);
        let ingest = store.ingest();
        ingest.unpack_blob(&info.blob, Some(&info.diff_id)).unwrap();
        ingest.commit().unwrap();
        drop(ingest);
        // Looking at it closely is a good time to write it out.
        assert_eq!(store.check_layer(&info.diff_id).unwrap(), Verdict::Sound);
        assert!(!data.mark(&info.diff_id).exists());
    });
}

#[test]
fn a_mark_that_says_nothing_is_believed_to_be_there() {
    everywhere(|data| {
        let store = data.open("one");
        let infos = [take(&store, "etc/a"), take(&store, "etc/b"), take(&store, "etc/c")];
        drop(store);
        for (info, text) in infos.iter().zip(["", "one\n", "one\nsha256:0\n"]) {
            std::fs::write(data.mark(&info.diff_id), text).unwrap();
        }
        let store = data.open("one");
        let mut lost = store.layers().lost().to_vec();
        lost.sort();
        let mut expected = infos.map(|info| (info.diff_id, None));
        expected.sort();
        assert_eq!(lost, expected);
    });
}

#[test]
fn a_layer_goes_to_disk_before_its_blob_goes_away() {
    everywhere(|data| {
        let store = data.open("one");
        let (kept, other) = (take(&store, "etc/a"), take(&store, "etc/b"));
        store.remove_unreferenced(&HashSet::from([other.blob]), &HashSet::from([kept.diff_id, other.diff_id])).unwrap();
        assert!(!store.blobs().has(&kept.blob));
        assert!(!data.mark(&kept.diff_id).exists(), "there is nothing to make it of");
        assert!(data.mark(&other.diff_id).exists());
        // One that is given up is the other way round.
        store.release(&other.blob, &other.diff_id).unwrap();
        assert!(!data.mark(&other.diff_id).exists());
        drop(store);
        let store = data.open("two");
        assert!(store.layers().has(&kept.diff_id) && store.layers().has(&other.diff_id));
        // A layer that is not here needs no disk.
        let gone = take(&store, "etc/c");
        store.discard_layer(&gone.diff_id).unwrap();
        store.settle().unwrap();
    });
}

#[test]
fn a_layer_that_came_anew_is_not_settled_with_the_one_before() {
    if !root() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("dhow-settling-").tempdir().unwrap();
    let data = Data { dir, format: Format::Directories };
    let store = data.open("one");
    for round in 0..6 {
        let info = take(&store, "etc/a");
        // The disk is busy for a while.
        std::fs::write(data.dir.path().join("dirty"), vec![round; 64 << 20]).unwrap();
        std::thread::scope(|scope| {
            let settling = scope.spawn(|| store.settle());
            std::thread::sleep(std::time::Duration::from_millis(10 + 10 * u64::from(round)));
            store.remove_unreferenced(&HashSet::new(), &HashSet::new()).unwrap();
            take(&store, "etc/a");
            let _ = settling.join().unwrap();
        });
        store.settle().unwrap();
        assert!(!data.mark(&info.diff_id).exists(), "it is on disk, and would be removed with the next boot");
        store.remove_unreferenced(&HashSet::new(), &HashSet::new()).unwrap();
    }
}
