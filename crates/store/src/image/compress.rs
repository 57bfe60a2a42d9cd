//! Layers in another compression: what leaves this machine is compressed, while what stays is kept as it was made.
//!
//! gzip is written as Go's library writes it, so a layer is the same blob whether Docker or this made it of the archive, and
//! the store can keep the recipe instead of the bytes.

use std::io::{Read, Write};

use deflate::{Dialect, gzip};
use layer::Decompress;
use types::Digest;

use super::resolve;
use super::save::Content;
use crate::content::{BlobWriter, Ingest};
use crate::error::{Error, Result};
use crate::model::{Descriptor, Document, Index, Manifest, media_type};

/// Bytes compressed at a time.
const CHUNK: usize = 128 * 1024;
/// A gzip header that says nothing, as Go writes it.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// RFC 1952, level 1 to 9.
    Gzip(u8),
    /// RFC 8878, level 1 to 22.
    Zstd(u8),
}

impl Default for Compression {
    /// gzip at Go's default level, as Docker writes layers.
    fn default() -> Self {
        Self::Gzip(6)
    }
}

impl Compression {
    /// The type of a layer in OCI's words.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Plain => media_type::OCI_LAYER,
            Self::Gzip(_) => media_type::OCI_LAYER_GZIP,
            Self::Zstd(_) => media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// Brings a blob of these bytes, in whatever compression they have, into the ingest in another one. Gives its digest and
/// size.
///
/// # Errors
/// Those of `reader` and of the disk.
pub fn compress(ingest: &Ingest, reader: impl Read, to: Compression) -> Result<(Digest, u64)> {
    let failed = Error::io("cannot read a layer to compress it");
    let mut plain = Decompress::new(reader, u64::MAX).map_err(failed)?;
    let mut out = ingest.blob_writer()?;
    match to {
        Compression::Plain => copy(&mut plain, &mut out)?,
        Compression::Gzip(level) => gzip(&mut plain, &mut out, level)?,
        Compression::Zstd(level) => {
            let failed = || Error::io("cannot compress a layer with zstd");
            let mut encoder = zstd::stream::write::Encoder::new(&mut out, i32::from(level)).map_err(failed())?;
            copy(&mut plain, &mut encoder)?;
            encoder.finish().map_err(failed())?;
        }
    }
    let size = out.count();
    Ok((ingest.blob(out, None)?, size))
}

fn copy(plain: &mut impl Read, out: &mut impl Write) -> Result<()> {
    each(plain, |chunk| out.write_all(chunk).map_err(Error::io("cannot write a layer")))
}

fn gzip(plain: &mut impl Read, out: &mut BlobWriter, level: u8) -> Result<()> {
    let mut header = HEADER;
    header[8] = match level {
        1 => 4,
        9 => 2,
        _ => 0,
    };
    let unsupported = |e: &dyn std::fmt::Display| Error::io("cannot compress a layer")(std::io::Error::other(e.to_string()));
    let header = gzip::Header::parse(&header).map_err(|e| unsupported(&e))?;
    let mut encoder = gzip::Encoder::new(&header, Dialect::Go127, level).map_err(|e| unsupported(&e))?;
    let mut ready = Vec::new();
    let mut flush = |ready: &mut Vec<u8>| {
        let written = out.write_all(ready).map_err(Error::io("cannot write a layer"));
        ready.clear();
        written
    };
    each(plain, |chunk| {
        encoder.write(chunk, &mut ready);
        if ready.len() >= CHUNK { flush(&mut ready) } else { Ok(()) }
    })?;
    encoder.finish(&mut ready);
    flush(&mut ready)
}

fn each(plain: &mut impl Read, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match plain.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => take(&buffer[..read])?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("cannot read a layer to compress it")(e)),
        }
    }
}

/// An image whose uncompressed layers are compressed, with the documents that say so. `None` when it has no such layers; an
/// image with attestations stays as it is, since they speak of the manifest's digest.
///
/// # Errors
/// As [`compress`]; [`Error::Document`] for malformed documents, [`Error::NoBlob`] for the target's own.
pub fn compressed(ingest: &Ingest, target: &Descriptor, to: Compression) -> Result<Option<Descriptor>> {
    let attested = resolve::walk(ingest, target)?.into_iter().any(|(_, document)| match document {
        Document::Index(index) => index.manifests.iter().any(Descriptor::is_attestation),
        Document::Manifest(_) => false,
    });
    if attested {
        return Ok(None);
    }
    convert(ingest, target, to, 0)
}

fn convert(ingest: &Ingest, target: &Descriptor, to: Compression, depth: usize) -> Result<Option<Descriptor>> {
    let bytes = match resolve::read(ingest, target) {
        // Other platforms of an index need not be here.
        Err(Error::NoBlob(_)) if depth > 0 => return Ok(None),
        Ok(Document::Manifest(manifest)) => convert_manifest(ingest, manifest, to)?,
        Ok(Document::Index(index)) if depth < MAX_DEPTH => convert_index(ingest, index, to, depth)?,
        Ok(Document::Index(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(bytes) = bytes else { return Ok(None) };
    let digest = ingest.document(&bytes, None)?;
    Ok(Some(Descriptor { digest, size: bytes.len() as u64, ..target.clone() }))
}

fn convert_manifest(ingest: &Ingest, mut manifest: Manifest, to: Compression) -> Result<Option<Vec<u8>>> {
    let mut changed = false;
    for layer in &mut manifest.layers {
        let gzip = match layer.media_type.as_str() {
            media_type::OCI_LAYER => to.media_type(),
            media_type::DOCKER_LAYER if matches!(to, Compression::Gzip(_)) => media_type::DOCKER_LAYER_GZIP,
            _ => continue,
        };
        let (digest, size) = compress(ingest, ingest.open(&layer.digest)?, to)?;
        *layer = Descriptor { media_type: gzip.to_owned(), digest, size, ..layer.clone() };
        changed = true;
    }
    if changed { manifest.to_bytes().map(Some) } else { Ok(None) }
}

fn convert_index(ingest: &Ingest, mut index: Index, to: Compression, depth: usize) -> Result<Option<Vec<u8>>> {
    let mut changed = false;
    for entry in &mut index.manifests {
        let known = media_type::is_index(&entry.media_type) || media_type::is_manifest(&entry.media_type);
        if known && let Some(converted) = convert(ingest, entry, to, depth + 1)? {
            *entry = converted;
            changed = true;
        }
    }
    let encoded = || serde_json::to_vec(&index).map_err(|error| Error::document("image index", error.to_string()));
    if changed { encoded().map(Some) } else { Ok(None) }
}
