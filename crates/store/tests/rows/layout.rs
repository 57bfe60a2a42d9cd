//! OCI layouts and older image archives being put together, and how a whole image is loaded in a row.

use std::collections::{BTreeMap, HashSet};

use store::Error;
use store::image::{Loaded, load};
use store::model::{Descriptor, Image, Index, Manifest, RootFs, media_type};
use types::{DiffId, Digest, Platform};

use crate::budget::{Budget, within};
use crate::common::{Canary, Scratch, Tar, formats, root, scratch_with, sha256, tar};
use crate::frame::contents;

/// A layout being put together.
#[derive(Default, Clone)]
pub struct Layout(pub BTreeMap<String, Vec<u8>>);

impl Layout {
    pub fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let digest = sha256(bytes);
        self.0.insert(format!("blobs/sha256/{}", digest.hex()), bytes.to_vec());
        Descriptor::new(media_type, digest, bytes.len() as u64)
    }

    pub fn index(&mut self, manifests: Vec<Descriptor>) -> Descriptor {
        let bytes = index_bytes(manifests);
        self.blob(media_type::OCI_INDEX, &bytes)
    }

    pub fn archive(&self, index: &[u8]) -> Tar {
        let tar = tar().file("oci-layout", b"{}").file("index.json", index);
        self.0.iter().fold(tar, |tar, (name, bytes)| tar.file(name, bytes))
    }
}

pub fn index_bytes(manifests: Vec<Descriptor>) -> Vec<u8> {
    let media_type = Some(media_type::OCI_INDEX.to_owned());
    serde_json::to_vec(&Index { schema_version: 2, media_type, manifests, annotations: None }).unwrap()
}

pub fn image_of(layers: &[Digest]) -> Vec<u8> {
    let host = Platform::host();
    let rootfs = RootFs { diff_ids: layers.iter().copied().map(DiffId).collect(), ..RootFs::default() };
    Image { os: host.os, architecture: host.arch, rootfs, ..Image::default() }.to_bytes().unwrap()
}

/// One image of one layer.
pub struct One {
    pub layout: Layout,
    pub manifest: Descriptor,
    pub config: Descriptor,
    pub layer: Descriptor,
}

pub fn one() -> One {
    let mut layout = Layout::default();
    let bytes = tar().file("f", b"x").bytes();
    let layer = layout.blob(media_type::OCI_LAYER, &bytes);
    let config = layout.blob(media_type::OCI_CONFIG, &image_of(&[layer.digest]));
    let manifest = Manifest::new(config.clone(), vec![layer.clone()]).to_bytes().unwrap();
    let manifest = layout.blob(media_type::OCI_MANIFEST, &manifest);
    One { layout, manifest, config, layer }
}

/// What must become of an archive of images.
pub enum Must {
    /// Refused, for a reason with these words, whatever their case.
    Refuse(&'static str),
    /// Loaded, with images that pass.
    Load(Look),
}

/// A look at the images of an archive.
pub type Look = Box<dyn Fn(&[Loaded])>;

pub type Row = (String, Vec<u8>, Must);

pub fn refuse(what: impl Into<String>, reason: &'static str, archive: impl Into<Vec<u8>>) -> Row {
    (what.into(), archive.into(), Must::Refuse(reason))
}

pub fn loads(what: impl Into<String>, archive: impl Into<Vec<u8>>, look: impl Fn(&[Loaded]) + 'static) -> Row {
    (what.into(), archive.into(), Must::Load(Box::new(look)))
}

/// Runs a table of archives of images: as [`crate::frame::layers`], with the store as it was after each row.
pub fn images(name: &str, rows: impl Fn(&Canary) -> Vec<Row>) {
    if !root() {
        return;
    }
    within(name, Budget::default(), || {
        for format in formats() {
            let (scratch, canary) = (scratch_with(format), Canary::new());
            for (what, bytes, must) in rows(&canary) {
                run(&scratch, &format!("{what} ({format:?})"), &bytes, &must);
                canary.check(&what);
            }
        }
    });
}

fn run(scratch: &Scratch, what: &str, bytes: &[u8], must: &Must) {
    let store = &scratch.store;
    let before = contents(store);
    let ingest = store.ingest();
    match (must, load(&ingest, bytes, &[])) {
        (Must::Refuse(reason), Err(error)) => {
            let text = error.to_string();
            assert!(
                text.to_lowercase().contains(&reason.to_lowercase()),
                "{what} was refused for another reason: {text}"
            );
            assert!(error.kind() != types::Kind::Internal, "{what} is no fault of ours: {error}");
            assert!(text.len() < 8192, "{what}: {} bytes of error", text.len());
        }
        (Must::Load(look), Ok(loaded)) => {
            ingest.commit().unwrap();
            look(&loaded);
        }
        (Must::Refuse(reason), Ok(_)) => panic!("{what} was loaded, not refused for {reason:?}"),
        (Must::Load(_), Err(error)) => panic!("{what} was refused: {error}"),
    }
    drop(ingest);
    store.remove_unreferenced(&HashSet::new(), &HashSet::new()).unwrap();
    assert_eq!(contents(store), before, "{what} left something");
}

/// The bytes of an archive with a layout and its index.
pub fn bytes(layout: &Layout, top: Vec<Descriptor>) -> Vec<u8> {
    layout.archive(&index_bytes(top)).bytes()
}

/// The reason a document is refused for; `None` when it is not.
pub fn reason<T>(parsed: Result<T, Error>) -> Option<String> {
    parsed.err().map(|error| error.to_string())
}
