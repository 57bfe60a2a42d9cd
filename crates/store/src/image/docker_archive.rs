//! The `manifest.json` form of image archives, as `docker save` wrote it before the OCI layout.
//!
//! Its images get an OCI manifest made from the configuration they come with, which is kept as it is.

use std::collections::HashMap;

use layer::Codec;
use serde::Deserialize;
use types::{Digest, Platform};

use super::load::{Loaded, MAX_IMAGES, MAX_NAMES, Member, Members, parse_name, small, unpack};
use crate::content::Ingest;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Image, MAX_CONFIG, MAX_LAYERS, MAX_MANIFEST, Manifest, media_type, strict};

/// Links from member to member that are followed.
const MAX_LINKS: usize = 16;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// Names by the digest of the image's configuration, where members are named by digest.
pub(super) fn tags(members: &Members) -> Result<HashMap<Digest, Vec<String>>> {
    let mut out: HashMap<Digest, Vec<String>> = HashMap::new();
    for item in items(members)? {
        let hex = item.config.strip_prefix("blobs/sha256/");
        if let Some(digest) = hex.and_then(|hex| format!("sha256:{hex}").parse().ok()) {
            out.entry(digest).or_default().extend(item.repo_tags.into_iter().flatten());
        }
    }
    Ok(out)
}

/// Loads the images that `manifest.json` names.
pub(super) fn load(ingest: &Ingest, mut members: Members, platforms: &[Platform]) -> Result<Vec<Loaded>> {
    let mut taken = HashMap::new();
    let mut out = Vec::new();
    for item in items(&members)? {
        let (config, size) = take(ingest, &mut members, &mut taken, &item.config)?;
        let image = Image::parse(&ingest.read(&config, MAX_CONFIG)?)?;
        let diff_ids = &image.rootfs.diff_ids;
        if diff_ids.len() != item.layers.len() || item.layers.len() > MAX_LAYERS {
            let text =
                format!("image {} has {} diff_ids for {} layers", item.config, diff_ids.len(), item.layers.len());
            return Err(Error::Archive(text));
        }
        let mut layers = Vec::with_capacity(item.layers.len());
        for path in &item.layers {
            let (digest, size) = take(ingest, &mut members, &mut taken, path)?;
            layers.push(Descriptor::new(layer_type(ingest, &digest)?, digest, size));
        }
        let manifest = Manifest::new(Descriptor::new(media_type::OCI_CONFIG, config, size), layers).to_bytes()?;
        let digest = ingest.document(&manifest, None)?;
        let mut target = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
        target.platform = Some(image.platform());
        let unpacked = unpack(ingest, &target, std::slice::from_ref(&target), platforms)?;
        let loaded = |reference| Loaded { reference, target: target.clone(), unpacked };
        let tags = item.repo_tags.unwrap_or_default();
        if tags.is_empty() {
            out.push(loaded(None));
        }
        for tag in &tags {
            out.push(loaded(Some(parse_name(tag)?)));
        }
    }
    if out.is_empty() {
        return Err(Error::Archive("manifest.json names no image".to_owned()));
    }
    Ok(out)
}

fn items(members: &Members) -> Result<Vec<Item>> {
    let bytes = small(members, "manifest.json", MAX_MANIFEST)?;
    let items: Vec<Item> = strict::parse_list("manifest.json", &bytes, MAX_MANIFEST)?;
    if items.len() > MAX_IMAGES {
        return Err(Error::Archive(format!("manifest.json names more than {MAX_IMAGES} images")));
    }
    if items.iter().flat_map(|item| &item.repo_tags).map(Vec::len).sum::<usize>() > MAX_NAMES {
        return Err(Error::Archive(format!("manifest.json has more than {MAX_NAMES} names")));
    }
    Ok(items)
}

/// Brings the member at `path` into the ingest, through links; several images may name the same one.
fn take(
    ingest: &Ingest,
    members: &mut Members,
    taken: &mut HashMap<String, (Digest, u64)>,
    path: &str,
) -> Result<(Digest, u64)> {
    let mut at: String = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/");
    for _ in 0..MAX_LINKS {
        if let Some(found) = taken.get(&at) {
            return Ok(*found);
        }
        match members.remove(&at) {
            Some(Member::File(blob)) => {
                let found = (blob.digest, blob.size);
                ingest.add_blob(blob);
                taken.insert(at, found);
                return Ok(found);
            }
            Some(Member::Link(target)) => {
                members.insert(at, Member::Link(target.clone()));
                at = target;
            }
            None => return Err(Error::Archive(format!("member {path:?} of manifest.json is missing"))),
        }
    }
    Err(Error::Archive(format!("member {path:?} is a link in a circle")))
}

fn layer_type(ingest: &Ingest, digest: &Digest) -> Result<&'static str> {
    let mut prefix = [0; Codec::PREFIX];
    let mut file = ingest.open_blob(digest)?;
    let mut filled = 0;
    while filled < prefix.len() {
        match std::io::Read::read(&mut file, &mut prefix[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("cannot read a layer")(e)),
        }
    }
    match Codec::detect(&prefix[..filled]) {
        Codec::Plain => Ok(media_type::OCI_LAYER),
        Codec::Gzip => Ok(media_type::OCI_LAYER_GZIP),
        Codec::Zstd => Ok(media_type::OCI_LAYER_ZSTD),
        Codec::Bzip2 | Codec::Xz => Err(Error::Archive(
            "a layer compressed with bzip2 or xz; only gzip and zstd are known for layers".to_owned(),
        )),
    }
}
