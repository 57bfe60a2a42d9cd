//! Layers as they travel.

use std::io::{Read, Write};

use store::Ingest;
use store::model::{Descriptor, media_type};
use types::Kind;

use crate::error::{Error, Result};
use crate::tree::Stored;

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip(u32),
    Zstd(i32),
}

impl Compression {
    pub(super) fn read(name: &str, level: Option<i32>) -> Result<Self> {
        let bounds = |most: i32| match level {
            Some(level) if !(0..=most).contains(&level) => {
                Err(Error::new(Kind::Invalid, format!("compression-level {level} of {name}: it is from 0 to {most}")))
            }
            level => Ok(level),
        };
        match name {
            "uncompressed" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip(bounds(9)?.and_then(|level| u32::try_from(level).ok()).unwrap_or(6))),
            "zstd" => Ok(Self::Zstd(bounds(22)?.unwrap_or(3))),
            other => Err(Error::new(
                Kind::Unsupported,
                format!("compression {other} of build caches is not supported: use gzip, zstd or uncompressed"),
            )),
        }
    }
}

/// A layer's blob, compressed if it is not. Blocking.
pub(super) fn pack(ingest: &Ingest, layer: &Stored, how: Compression) -> Result<Descriptor> {
    let plain = matches!(layer.blob.media_type.as_str(), media_type::OCI_LAYER | media_type::DOCKER_LAYER);
    if !plain || how == Compression::None {
        ingest.has_blob(&layer.blob.digest);
        return Ok(layer.blob.clone());
    }
    let fail = |e: std::io::Error| Error::io(format_args!("cannot compress layer {}", layer.diff_id), e);
    let mut blob = ingest.store().blobs().open(&layer.blob.digest)?;
    let mut writer = ingest.blob_writer()?;
    let media_type = match how {
        Compression::Zstd(level) => {
            let mut encoder = zstd::Encoder::new(&mut writer, level).map_err(fail)?;
            copy(&mut blob, &mut encoder).map_err(fail)?;
            encoder.finish().map_err(fail)?;
            media_type::OCI_LAYER_ZSTD
        }
        Compression::Gzip(level) => {
            let mut encoder = flate2::write::GzEncoder::new(&mut writer, flate2::Compression::new(level));
            copy(&mut blob, &mut encoder).map_err(fail)?;
            encoder.finish().map_err(fail)?;
            media_type::OCI_LAYER_GZIP
        }
        Compression::None => media_type::OCI_LAYER,
    };
    let digest = ingest.blob(writer, None)?;
    Ok(Descriptor::new(media_type, digest, ingest.blob_size(&digest)?))
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..count).unwrap_or_default())?;
    }
}
