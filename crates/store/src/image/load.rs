//! `docker load`: archives of images, in the OCI layout or the older `manifest.json` form, compressed or
//! not, read once from front to back.
//!
//! Members may come in any order, so each is kept as a pending blob until the archive's table of contents
//! is known; what it does not name is dropped. Nothing is visible before the caller commits.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _};

use layer::Decompress;
use layer::tar::{Entry, Kind, Limits, Reader};
use types::{Digest, Platform, Reference};

use super::docker_archive;
use super::resolve::{read, read_image};
use crate::content::{Ingest, PendingBlob};
use crate::error::{Error, Result};
use crate::model::{Descriptor, Document, Image, Index, MAX_MANIFEST, Manifest, media_type};

/// Most members of an image archive.
const MAX_MEMBERS: u64 = 100_000;
/// Most bytes of a member's path: digests and the names around them.
const MAX_PATH: usize = 512;
/// Most images in one archive.
pub(super) const MAX_IMAGES: usize = 1_000;
/// Most names of all images in one archive.
pub(super) const MAX_NAMES: usize = 10_000;
/// Most manifests and indexes of one archive that are looked at.
const MAX_DOCUMENTS: usize = 100_000;
/// Annotation with an image's full name, as containerd writes it.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";
/// Annotation with an image's tag or name (OCI image-spec, "Pre-Defined Annotation Keys").
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Its name; `None` for one that has none in the archive.
    pub reference: Option<Reference>,
    /// Index or manifest to record.
    pub target: Descriptor,
    /// Whether layers of some platform are unpacked; `false` when the image has none that could run here.
    pub unpacked: bool,
}

/// What a member of the archive is.
pub(super) enum Member {
    /// A file, waiting as a blob.
    File(PendingBlob),
    /// A link to another member, by its path in the archive.
    Link(String),
}

/// The members by path.
pub(super) type Members = HashMap<String, Member>;

/// Reads an archive into `ingest` and unpacks the layers of every image that could run on this host's system.
/// With `platforms`, manifests of an index for others are left out.
///
/// # Errors
/// [`Error::Archive`] for one that is no image archive; [`Error::Digest`] for a blob that is not what its
/// name says; [`Error::NotLoaded`] for an image that is for none of `platforms`; those of unpacking.
pub fn load(ingest: &Ingest, reader: impl io::Read, platforms: &[Platform]) -> Result<Vec<Loaded>> {
    let limits = Limits { entries: MAX_MEMBERS, path_bytes: MAX_PATH, ..Limits::default() };
    let reader = Decompress::new(reader, limits.total_bytes.saturating_mul(2)).map_err(|e| Error::Tar(e.into()))?;
    let mut archive = Reader::new(reader, limits);
    let mut members = Members::new();
    while let Some(entry) = archive.next_entry()? {
        member(ingest, &entry, &mut archive, &mut members)?;
    }
    archive.drain()?;
    if members.contains_key("index.json") && members.contains_key("oci-layout") {
        return oci_layout(ingest, members, platforms);
    }
    if members.contains_key("manifest.json") {
        return docker_archive::load(ingest, members, platforms);
    }
    if members.contains_key("repositories") {
        return Err(Error::Archive(
            "it is in Docker's image format v1, which is not supported; save it again with a newer engine".to_owned(),
        ));
    }
    Err(Error::Archive(
        "it has neither index.json nor manifest.json; to make an image of a root file system, use import".to_owned(),
    ))
}

fn member<R: io::Read>(ingest: &Ingest, entry: &Entry, archive: &mut Reader<R>, members: &mut Members) -> Result<()> {
    let parts: Vec<&[u8]> = entry.components().collect();
    let path = String::from_utf8(parts.join(&b'/'))
        .map_err(|_| Error::Archive(format!("member {:?} has a name that is not UTF-8", entry.display_path())))?;
    let member = match entry.kind {
        Kind::Directory => return Ok(()),
        // Its holes would be written out as zeros: a few bytes could fill the disk.
        Kind::File if entry.sparse.is_some() => {
            return Err(Error::Archive(format!("member {path:?} is a sparse file")));
        }
        Kind::File => {
            let mut writer = ingest.blob_writer()?;
            archive.copy_data(entry.size, &mut writer)?;
            let blob = writer.finish();
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                let expected: Digest = format!("sha256:{hex}")
                    .parse()
                    .map_err(|_| Error::Archive(format!("member {path:?} is not named by a digest")))?;
                if expected != blob.digest {
                    return Err(Error::Digest { what: "archive member", expected, actual: blob.digest });
                }
            }
            Member::File(blob)
        }
        // Older engines share layers among images by links.
        Kind::Symlink if !path.starts_with("blobs/") => {
            let target = std::str::from_utf8(&entry.link).ok().and_then(|link| relative(&path, link));
            Member::Link(target.ok_or_else(|| Error::Archive(format!("link {path:?} leads out of the archive")))?)
        }
        Kind::HardLink => {
            let target: Vec<&[u8]> = entry.link_components().collect();
            let target = String::from_utf8(target.join(&b'/'));
            Member::Link(target.map_err(|_| Error::Archive(format!("link {path:?} has a target that is not UTF-8")))?)
        }
        _ => return Err(Error::Archive(format!("member {path:?} is no regular file"))),
    };
    if members.insert(path.clone(), member).is_some() {
        return Err(Error::Archive(format!("member {path:?} comes twice")));
    }
    Ok(())
}

/// A relative link's target as a path of the archive; `None` when it leads out.
fn relative(path: &str, link: &str) -> Option<String> {
    if link.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The bytes of a table of contents.
pub(super) fn small(members: &Members, path: &str, limit: u64) -> Result<Vec<u8>> {
    let Some(Member::File(blob)) = members.get(path) else {
        return Err(Error::Archive(format!("{path} is missing or no regular file")));
    };
    if blob.size > limit {
        return Err(Error::Size { what: "archive member", expected: limit, actual: blob.size });
    }
    let mut bytes = Vec::new();
    blob.reopen()?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(Error::io(format!("cannot read {path} of the archive")))?;
    Ok(bytes)
}

fn oci_layout(ingest: &Ingest, mut members: Members, platforms: &[Platform]) -> Result<Vec<Loaded>> {
    let bytes = small(&members, "index.json", MAX_MANIFEST)?;
    let Document::Index(index) = Document::parse(&bytes, media_type::OCI_INDEX)? else {
        return Err(Error::Archive("index.json is no index".to_owned()));
    };
    let tags = if members.contains_key("manifest.json") { docker_archive::tags(&members)? } else { HashMap::new() };
    // Blobs become readable through the ingest; those the index does not lead to are dropped again.
    let mut blobs: HashMap<Digest, PendingBlob> = HashMap::new();
    let names: Vec<String> = members.keys().filter(|path| path.starts_with("blobs/sha256/")).cloned().collect();
    for name in names {
        if let Some(Member::File(blob)) = members.remove(&name) {
            blobs.insert(blob.digest, blob);
        }
    }
    let mut out = Vec::new();
    let mut left = MAX_DOCUMENTS;
    if top_entries(&index).count() > MAX_IMAGES {
        return Err(Error::Archive(format!("index.json names more than {MAX_IMAGES} images")));
    }
    for entry in top_entries(&index) {
        out.extend(oci_image(ingest, &mut blobs, entry, &tags, platforms, &mut left)?);
        if out.len() > MAX_NAMES {
            return Err(Error::Archive(format!("it has more than {MAX_NAMES} names")));
        }
    }
    if out.is_empty() {
        return Err(Error::Archive("index.json names no image".to_owned()));
    }
    Ok(out)
}

fn top_entries(index: &Index) -> impl Iterator<Item = &Descriptor> {
    let known =
        |entry: &&Descriptor| media_type::is_index(&entry.media_type) || media_type::is_manifest(&entry.media_type);
    index.manifests.iter().filter(known).filter(|entry| !entry.is_attestation())
}

fn oci_image(
    ingest: &Ingest,
    blobs: &mut HashMap<Digest, PendingBlob>,
    entry: &Descriptor,
    tags: &HashMap<Digest, Vec<String>>,
    platforms: &[Platform],
    left: &mut usize,
) -> Result<Vec<Loaded>> {
    // Sizes are added up and shown: one that is not the blob's is refused here.
    let mut adopt = |descriptor: &Descriptor| -> Result<bool> {
        if let Some(blob) = blobs.remove(&descriptor.digest) {
            ingest.add_blob(blob);
        } else if !ingest.has_blob(&descriptor.digest) {
            return Ok(false);
        }
        let actual = ingest.blob_size(&descriptor.digest)?;
        if actual != descriptor.size {
            return Err(Error::Size { what: "blob of the archive", expected: descriptor.size, actual });
        }
        Ok(true)
    };
    if !adopt(entry)? {
        return Err(Error::Archive(format!("blob {} of index.json is missing", entry.digest)));
    }
    let target = Descriptor { annotations: None, ..entry.clone() };
    // Documents first: what they lead to is not known before they are read.
    let mut pending = vec![(target.clone(), 0)];
    let (mut names, mut seen, mut configs) = (Vec::new(), HashSet::new(), HashSet::new());
    let mut manifests = Vec::new();
    while let Some((descriptor, depth)) = pending.pop() {
        if !seen.insert(descriptor.digest) {
            continue;
        }
        *left = left
            .checked_sub(1)
            .ok_or_else(|| Error::Archive(format!("its indexes lead to more than {MAX_DOCUMENTS} manifests")))?;
        match read(ingest, &descriptor)? {
            Document::Index(index) => {
                if depth > 3 {
                    return Err(Error::document("image index", "nested too deeply"));
                }
                for child in index.manifests {
                    let known = media_type::is_index(&child.media_type) || media_type::is_manifest(&child.media_type);
                    let wanted = media_type::is_index(&child.media_type) || wanted(platforms, &child);
                    if known && wanted && !seen.contains(&child.digest) && adopt(&child)? {
                        pending.push((child, depth + 1));
                    }
                }
            }
            Document::Manifest(manifest) => {
                adopt(&manifest.config)?;
                for layer in &manifest.layers {
                    adopt(layer)?;
                }
                manifests.push(descriptor);
                if configs.insert(manifest.config.digest) {
                    names.extend(tags.get(&manifest.config.digest).into_iter().flatten().cloned());
                }
            }
        }
    }
    let unpacked = unpack(ingest, &target, &manifests, platforms)?;
    let annotated =
        entry.annotation(IMAGE_NAME).or_else(|| entry.annotation(REF_NAME).filter(|name| name.contains([':', '/'])));
    let references: Vec<Reference> = match annotated {
        Some(name) => vec![parse_name(name)?],
        None => names.iter().map(|name| parse_name(name)).collect::<Result<_>>()?,
    };
    let loaded = |reference| Loaded { reference, target: target.clone(), unpacked };
    Ok(if references.is_empty() {
        vec![loaded(None)]
    } else {
        references.into_iter().map(|name| loaded(Some(name))).collect()
    })
}

pub(super) fn parse_name(name: &str) -> Result<Reference> {
    Reference::parse(name)
        .map(Reference::with_default_tag)
        .map_err(|error| Error::Archive(format!("image name {name:?}: {error}")))
}

/// Whether an entry of an index is to be taken. One that does not say what it is for is looked into later.
fn wanted(platforms: &[Platform], entry: &Descriptor) -> bool {
    let given = entry.platform.as_ref();
    platforms.is_empty() || given.is_none_or(|given| platforms.iter().any(|platform| platform.matches(given)))
}

/// Unpacks the layers of every one of `manifests` whose blobs came; `false` when there was none to unpack.
///
/// `target` itself, the image for this host and those asked for must be whole. Others may be incomplete, or
/// artifacts of another kind.
pub(super) fn unpack(
    ingest: &Ingest,
    target: &Descriptor,
    manifests: &[Descriptor],
    platforms: &[Platform],
) -> Result<bool> {
    let host = Platform::host();
    let (mut found, mut unpacked) = (platforms.is_empty(), false);
    for descriptor in manifests.iter().filter(|descriptor| !descriptor.is_attestation()) {
        if !wanted(platforms, descriptor) {
            continue;
        }
        let Document::Manifest(manifest) = read(ingest, descriptor)? else { continue };
        let single = descriptor.digest == target.digest;
        let needed = |platform: &Platform| single || !platforms.is_empty() || host.matches(platform);
        let image = match read_image(ingest, &manifest) {
            Ok(image) => image,
            Err(Error::NoBlob(_)) => continue,
            Err(Error::Document { .. }) if !single && !descriptor.platform.as_ref().is_some_and(needed) => continue,
            Err(Error::Document { .. }) if !is_image(&manifest) => continue,
            Err(e) => return Err(e),
        };
        let platform = descriptor.platform.clone().unwrap_or_else(|| image.platform());
        if !platforms.is_empty() && !platforms.iter().any(|wanted| wanted.matches(&platform)) {
            continue;
        }
        found = true;
        // Layers of another system are for other file systems; they are kept as they came.
        if !single && platform.os != host.os && !platform.os.is_empty() {
            continue;
        }
        match manifest.layers.iter().find(|layer| !ingest.has_blob(&layer.digest)) {
            Some(missing) if needed(&platform) => {
                return Err(Error::Archive(format!("layer {} is missing", missing.digest)));
            }
            Some(_) => continue,
            None => {}
        }
        unpack_layers(ingest, &manifest, &image)?;
        unpacked = true;
    }
    if !found {
        let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        return Err(Error::NotLoaded(wanted.join(", ")));
    }
    Ok(unpacked)
}

fn unpack_layers(ingest: &Ingest, manifest: &Manifest, image: &Image) -> Result<()> {
    for (layer, diff_id) in manifest.layers.iter().zip(&image.rootfs.diff_ids) {
        if ingest.has_layer(diff_id) {
            ingest.verify_layer(&layer.digest, diff_id)?;
        } else {
            ingest.unpack_blob(&layer.digest, Some(diff_id))?;
        }
    }
    Ok(())
}

/// Whether a manifest says of itself that it is one of an image.
fn is_image(manifest: &Manifest) -> bool {
    matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
}
