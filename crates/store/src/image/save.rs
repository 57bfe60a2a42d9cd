//! `docker save`: images as an archive in the OCI layout, with `manifest.json` for older readers.
//!
//! The same images give the same bytes: members are sorted and carry no time. Content is taken from the store, or from
//! images that are on their way in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write};

use layer::tar::{Entry, Kind, Writer};
use serde::Serialize;
use types::{Digest, Platform, Reference};

use super::load::{IMAGE_NAME, REF_NAME};
use super::resolve::{self, Read, walk};
use crate::content::Ingest;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Document, Index, media_type};
use crate::store::Store;

/// One image to save.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Index or manifest.
    pub target: Descriptor,
    /// Names it is saved by; none for an image asked for by its ID.
    pub references: Vec<Reference>,
    /// Manifests of an index that are saved; all that are here when absent.
    pub only: Option<BTreeSet<Digest>>,
    /// What the archive says of it, beside its names.
    pub annotations: BTreeMap<String, String>,
}

/// What an archive is to be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The OCI layout and `manifest.json`, which `docker load` of any age reads.
    Docker,
    /// The OCI layout alone.
    Oci,
}

/// Where the content of images is read from.
pub trait Content: Read {
    /// Bytes of a blob; none when it is not here.
    fn size(&self, digest: &Digest) -> Option<u64>;

    /// Opens a blob.
    ///
    /// # Errors
    /// [`Error::NoBlob`]; [`Error::Released`], which is noted for the next pull of the image.
    fn open(&self, digest: &Digest) -> Result<Box<dyn std::io::Read + Send>>;

    /// Whether the blob was given up for room; that is noted for the next pull of its image.
    fn is_released(&self, digest: &Digest) -> bool;
}

impl Content for Store {
    fn size(&self, digest: &Digest) -> Option<u64> {
        self.blobs().size(digest).ok()
    }

    fn open(&self, digest: &Digest) -> Result<Box<dyn std::io::Read + Send>> {
        Ok(Box::new(self.blobs().open(digest)?))
    }

    fn is_released(&self, digest: &Digest) -> bool {
        let released = self.blobs().is_released(digest);
        if released {
            self.blobs().miss(digest);
        }
        released
    }
}

impl Content for Ingest {
    fn size(&self, digest: &Digest) -> Option<u64> {
        self.blob_size(digest).ok()
    }

    fn open(&self, digest: &Digest) -> Result<Box<dyn std::io::Read + Send>> {
        self.open_blob(digest)
    }

    fn is_released(&self, digest: &Digest) -> bool {
        !self.is_pending(digest) && self.store().is_released(digest)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<Digest, Descriptor>,
}

/// Writes an archive of `images`. Platforms of an index whose content is not in the store are left out;
/// `manifest.json` lists the images of `platform`.
///
/// # Errors
/// [`Error::NoBlob`] when content of an image's own manifest is missing; [`Error::Tar`] for the stream.
pub fn save(store: &impl Content, images: &[Saved], platform: &Platform, form: Form, out: impl Write) -> Result<()> {
    let mut blobs: BTreeSet<Digest> = BTreeSet::new();
    let mut manifests = Vec::new();
    let mut items: BTreeMap<Digest, Item> = BTreeMap::new();
    for saved in images {
        content(store, saved, &mut blobs)?;
        if saved.references.is_empty() {
            let annotations = Some(saved.annotations.clone()).filter(|annotations| !annotations.is_empty());
            manifests.push(Descriptor { annotations, ..saved.target.clone() });
        }
        for reference in &saved.references {
            let mut annotations = saved.annotations.clone();
            annotations.insert(IMAGE_NAME.to_owned(), reference.to_string());
            if let Some(tag) = reference.tag() {
                annotations.insert(REF_NAME.to_owned(), tag.to_owned());
            }
            manifests.push(Descriptor { annotations: Some(annotations), ..saved.target.clone() });
        }
        match resolve::resolve(store, &saved.target, platform) {
            Ok(resolved) => {
                let item = items.entry(resolved.target.digest).or_insert_with(|| Item {
                    config: blob_path(&resolved.manifest.config.digest),
                    repo_tags: None,
                    layers: resolved.manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
                    layer_sources: resolved
                        .image
                        .rootfs
                        .diff_ids
                        .iter()
                        .map(|id| id.0)
                        .zip(resolved.manifest.layers.clone())
                        .collect(),
                });
                let tags = saved.references.iter().filter(|name| name.tag().is_some()).map(Reference::familiar);
                item.repo_tags.get_or_insert_default().extend(tags);
            }
            Err(Error::NoPlatform(_) | Error::NoBlob(_) | Error::Document { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    for item in items.values_mut() {
        item.repo_tags = item.repo_tags.take().filter(|tags| !tags.is_empty());
    }
    let index =
        Index { schema_version: 2, media_type: Some(media_type::OCI_INDEX.to_owned()), manifests, annotations: None };
    let mut writer = Writer::new(out);
    for path in ["blobs/", "blobs/sha256/"] {
        writer.entry(&Entry::new(path, Kind::Directory, 0o755))?;
    }
    for digest in &blobs {
        blob(store, &mut writer, digest)?;
    }
    let items: Vec<Item> = items.into_values().collect();
    let json = |error: serde_json::Error| Error::document("image archive", error.to_string());
    document(&mut writer, "index.json", &serde_json::to_vec(&index).map_err(json)?)?;
    if !items.is_empty() && form == Form::Docker {
        document(&mut writer, "manifest.json", &serde_json::to_vec(&items).map_err(json)?)?;
    }
    document(&mut writer, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    writer.finish()?;
    Ok(())
}

/// Checks that everything of `images` is here that an archive has to have.
///
/// # Errors
/// [`Error::NoBlob`]; [`Error::Released`] for a blob that another pull brings.
pub fn savable(store: &impl Content, images: &[Saved]) -> Result<()> {
    images.iter().try_for_each(|saved| content(store, saved, &mut BTreeSet::new()))
}

/// Everything that an archive of an image has, with sizes in bytes.
///
/// # Errors
/// As [`savable`].
pub fn blobs(store: &impl Content, image: &Saved) -> Result<Vec<(Digest, u64)>> {
    let mut found = BTreeSet::new();
    content(store, image, &mut found)?;
    found.into_iter().map(|digest| Ok((digest, store.size(&digest).ok_or(Error::NoBlob(digest))?))).collect()
}

/// Digests of everything that is to be saved of an image and is in the store.
fn content(store: &impl Content, saved: &Saved, out: &mut BTreeSet<Digest>) -> Result<()> {
    let documents = walk(store, &saved.target)?;
    let single = documents.len() == 1;
    for (descriptor, document) in documents {
        let left_out = saved.only.as_ref().is_some_and(|only| !only.contains(&descriptor.digest));
        if left_out && matches!(document, Document::Manifest(_)) {
            continue;
        }
        out.insert(descriptor.digest);
        let Document::Manifest(manifest) = document else { continue };
        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if store.is_released(&part.digest) {
                return Err(Error::Released(part.digest));
            }
            if store.size(&part.digest).is_some() {
                out.insert(part.digest);
            } else if single {
                return Err(Error::NoBlob(part.digest));
            }
        }
    }
    Ok(())
}

fn blob<W: Write>(store: &impl Content, writer: &mut Writer<W>, digest: &Digest) -> Result<()> {
    let mut entry = Entry::new(blob_path(digest), Kind::File, 0o644);
    entry.size = store.size(digest).ok_or(Error::NoBlob(*digest))?;
    let mut blob = store.open(digest)?;
    writer.entry(&entry)?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let read = blob.read(&mut buffer).map_err(Error::io(format!("cannot read blob {digest}")))?;
        if read == 0 {
            return Ok(());
        }
        writer.data(&buffer[..read])?;
    }
}

fn document<W: Write>(writer: &mut Writer<W>, path: &str, bytes: &[u8]) -> Result<()> {
    let mut entry = Entry::new(path, Kind::File, 0o644);
    entry.size = bytes.len() as u64;
    writer.entry(&entry)?;
    Ok(writer.data(bytes)?)
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
