//! From a tag's target to the manifest and configuration of one platform.
//!
//! Documents are read by digest with their bounds; nesting of indexes is bounded, so no chain or cycle of
//! them is followed for long.

use std::collections::HashSet;

use types::{Digest, Platform};

use crate::content::Ingest;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Document, Image, MAX_CONFIG, MAX_MANIFEST, Manifest, media_type};
use crate::store::Store;

/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;
/// Entries that are looked at to find a platform's image.
const MAX_CANDIDATES: usize = 1_000;
/// Documents of one image that are looked at.
const MAX_DOCUMENTS: usize = 10_000;

/// Where documents are read from: the store, or an image on its way in.
pub trait Read {
    /// Reads a document of at most `limit` bytes whole.
    ///
    /// # Errors
    /// [`Error::NoBlob`] when it is not there.
    fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>>;
}

impl Read for Store {
    fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        self.blobs().read(digest, limit)
    }
}

impl Read for Ingest {
    fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        self.read(digest, limit)
    }
}

/// The image of one platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Descriptor of the manifest.
    pub target: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub image: Image,
}

/// Finds the image for `platform` behind `target`, an index or a manifest.
///
/// A target that is a single manifest is taken whatever its platform, as Docker runs it.
///
/// # Errors
/// [`Error::NoPlatform`]; [`Error::NoBlob`] for a document that is missing; [`Error::Document`].
pub fn resolve(from: &impl Read, target: &Descriptor, platform: &Platform) -> Result<Resolved> {
    find(from, target, platform, 0, &mut HashSet::new())?.ok_or_else(|| Error::NoPlatform(platform.to_string()))
}

/// Every manifest and index behind `target` that is present, itself first, with its parsed form.
///
/// # Errors
/// [`Error::Document`]; [`Error::NoBlob`] for `target` itself.
pub fn walk(from: &impl Read, target: &Descriptor) -> Result<Vec<(Descriptor, Document)>> {
    let mut out = Vec::new();
    let mut seen = HashSet::new();
    let mut pending = vec![(target.clone(), 0)];
    while let Some((descriptor, depth)) = pending.pop() {
        if !seen.insert(descriptor.digest) {
            continue;
        }
        if seen.len() > MAX_DOCUMENTS {
            return Err(Error::document("image index", format!("more than {MAX_DOCUMENTS} manifests")));
        }
        let document = match read(from, &descriptor) {
            // Other platforms of an index need not be there.
            Err(Error::NoBlob(_)) if depth > 0 => continue,
            other => other?,
        };
        if let Document::Index(index) = &document {
            if depth >= MAX_DEPTH {
                return Err(Error::document("image index", "nested too deeply"));
            }
            let known = |entry: &&Descriptor| {
                media_type::is_index(&entry.media_type) || media_type::is_manifest(&entry.media_type)
            };
            pending.extend(index.manifests.iter().filter(known).rev().map(|entry| (entry.clone(), depth + 1)));
        }
        out.push((descriptor, document));
    }
    Ok(out)
}

/// Reads the document a descriptor names, checked against its size and type.
pub(crate) fn read(from: &impl Read, descriptor: &Descriptor) -> Result<Document> {
    if descriptor.size > MAX_MANIFEST {
        return Err(Error::Size { what: "image manifest", expected: MAX_MANIFEST, actual: descriptor.size });
    }
    let bytes = from.document(&descriptor.digest, MAX_MANIFEST)?;
    if bytes.len() as u64 != descriptor.size {
        return Err(Error::Size { what: "image manifest", expected: descriptor.size, actual: bytes.len() as u64 });
    }
    Document::parse(&bytes, &descriptor.media_type)
}

/// Reads a manifest's configuration and checks that it fits the manifest.
pub(crate) fn read_image(from: &impl Read, manifest: &Manifest) -> Result<Image> {
    const WHAT: &str = "image configuration";
    let config = &manifest.config;
    if !matches!(config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) {
        return Err(Error::document(WHAT, format!("its type {:?} is not that of an image", config.media_type)));
    }
    let bytes = from.document(&config.digest, MAX_CONFIG)?;
    if bytes.len() as u64 != config.size {
        return Err(Error::Size { what: WHAT, expected: config.size, actual: bytes.len() as u64 });
    }
    let image = Image::parse(&bytes)?;
    let (layers, diff_ids) = (manifest.layers.len(), image.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(Error::document(WHAT, format!("it has {diff_ids} diff_ids for {layers} layers")));
    }
    if let Some(other) = manifest.layers.iter().find(|layer| !media_type::is_layer(&layer.media_type)) {
        return Err(Error::document(
            "image manifest",
            format!("a layer of the unsupported type {:?}", other.media_type),
        ));
    }
    Ok(image)
}

/// `seen` are the documents looked at already: an index may name the same one any number of times, and so
/// may those it names.
fn find(
    from: &impl Read,
    target: &Descriptor,
    platform: &Platform,
    depth: usize,
    seen: &mut HashSet<Digest>,
) -> Result<Option<Resolved>> {
    if depth > MAX_DEPTH {
        return Err(Error::document("image index", "nested too deeply"));
    }
    let index = match read(from, target)? {
        Document::Manifest(manifest) => {
            let image = read_image(from, &manifest)?;
            // Reached through an index entry that does not say its platform: the configuration does.
            if depth > 0 && target.platform.is_none() && !platform.matches(&image.platform()) {
                return Ok(None);
            }
            return Ok(Some(Resolved { target: target.clone(), manifest, image }));
        }
        Document::Index(index) => index,
    };
    let mut missing = None;
    for entry in &index.manifests {
        let offered = entry.platform.as_ref().is_none_or(|other| platform.matches(other));
        let nested = media_type::is_index(&entry.media_type);
        if entry.is_attestation() || !(nested || media_type::is_manifest(&entry.media_type) && offered) {
            continue;
        }
        if !seen.insert(entry.digest) {
            continue;
        }
        if seen.len() > MAX_CANDIDATES {
            return Err(Error::document(
                "image index",
                format!("more than {MAX_CANDIDATES} candidates for a platform"),
            ));
        }
        match find(from, entry, platform, depth + 1, seen) {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(Error::NoBlob(digest)) => missing = Some(digest),
            // An entry of another kind of artifact is no image, and no reason to refuse the others.
            Err(Error::Document { what: "image configuration", .. }) if entry.platform.is_none() => {}
            Err(e) => return Err(e),
        }
    }
    missing.map_or(Ok(None), |digest| Err(Error::NoBlob(digest)))
}
