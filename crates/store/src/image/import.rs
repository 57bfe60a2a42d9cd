//! `docker import`: an archive of a root file system becomes an image of one layer.

use std::io;

use types::Platform;

use crate::content::{Ingest, LayerInfo};
use crate::error::Result;
use crate::model::{Descriptor, History, Image, ImageConfig, Manifest, RootFs, media_type};

/// What the image says besides its layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// Configuration, with the changes asked for applied.
    pub config: ImageConfig,
    /// Platform of the programs in it.
    pub platform: Platform,
    /// Creation time, RFC 3339.
    pub created: String,
    /// Note, such as `Imported from -`.
    pub comment: String,
}

/// Imports the archive in `reader`, compressed or not, and returns the new image's manifest. The caller
/// commits the ingest.
///
/// # Errors
/// As [`Ingest::layer`].
pub fn import(ingest: &Ingest, reader: impl io::Read + Send, import: &Import) -> Result<Descriptor> {
    let layer = ingest.layer(reader, None, None)?;
    let image = Image {
        created: Some(import.created.clone()),
        architecture: import.platform.arch.clone(),
        variant: import.platform.variant.clone(),
        os: import.platform.os.clone(),
        comment: import.comment.clone(),
        config: import.config.clone(),
        rootfs: RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() },
        history: vec![History {
            created: Some(import.created.clone()),
            comment: import.comment.clone(),
            ..History::default()
        }],
        ..Image::default()
    };
    write(ingest, &image, &[layer.descriptor()])
}

/// Writes configuration and manifest of an image whose layers are there. Its target is the manifest.
///
/// # Errors
/// [`crate::Error::Io`]; a configuration that cannot be encoded.
pub fn write(ingest: &Ingest, image: &Image, layers: &[Descriptor]) -> Result<Descriptor> {
    let bytes = image.to_bytes()?;
    let digest = ingest.document(&bytes, None)?;
    let config = Descriptor::new(media_type::OCI_CONFIG, digest, bytes.len() as u64);
    let manifest = Manifest::new(config, layers.to_vec()).to_bytes()?;
    let digest = ingest.document(&manifest, None)?;
    let mut target = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
    target.platform = Some(image.platform());
    Ok(target)
}

/// Layer descriptors are made in one place; kept here for callers that build images themselves.
impl From<&LayerInfo> for Descriptor {
    fn from(layer: &LayerInfo) -> Self {
        layer.descriptor()
    }
}
