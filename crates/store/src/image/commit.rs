//! `docker commit`: a container's changes become a layer on top of its image's.

use std::io::Write;

use sys::path::Root;

use super::Resolved;
use super::import::write;
use crate::content::{Ingest, LayerInfo};
use crate::error::Result;
use crate::model::{Descriptor, History, Image, ImageConfig};
use crate::tree::diff_tar;

/// What the new image says besides its layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Configuration, with the changes asked for applied.
    pub config: ImageConfig,
    /// Creation time, RFC 3339.
    pub created: String,
    /// Author.
    pub author: String,
    /// Note.
    pub comment: String,
    /// Command the changes came from.
    pub created_by: String,
}

/// Makes a layer of overlayfs' upper directory: its archive as a blob, and the layer unpacked.
///
/// # Errors
/// Those of [`diff_tar`] and [`Ingest::layer`].
pub fn commit_layer(ingest: &Ingest, upper: &Root) -> Result<LayerInfo> {
    let mut writer = ingest.blob_writer()?;
    {
        let mut buffered = std::io::BufWriter::with_capacity(128 * 1024, &mut writer);
        diff_tar(upper, &mut buffered)?;
        buffered.flush().map_err(crate::Error::io("cannot write a layer"))?;
    }
    let digest = ingest.blob(writer, None)?;
    ingest.unpack_blob(&digest, None)
}

/// Makes an image of the one the container was made from (`None` for one without) and its changes, and
/// returns its manifest. The caller commits the ingest.
///
/// # Errors
/// As [`commit_layer`].
pub fn commit(ingest: &Ingest, base: Option<&Resolved>, upper: &Root, commit: &Commit) -> Result<Descriptor> {
    let layer = commit_layer(ingest, upper)?;
    let mut image = base.map_or_else(
        || {
            let host = types::Platform::host();
            Image { os: host.os, architecture: host.arch, variant: host.variant, ..Image::default() }
        },
        |base| base.image.clone(),
    );
    let mut layers = base.map(|base| base.manifest.layers.clone()).unwrap_or_default();
    for digest in layers.iter().map(|layer| &layer.digest) {
        // The base may be removed before the new image is recorded.
        ingest.has_blob(digest);
    }
    for diff_id in &image.rootfs.diff_ids {
        ingest.has_layer(diff_id);
    }
    image.rootfs.diff_ids.push(layer.diff_id);
    image.config = commit.config.clone();
    image.created = Some(commit.created.clone());
    image.author.clone_from(&commit.author);
    image.comment.clone_from(&commit.comment);
    image.history.push(History {
        created: Some(commit.created.clone()),
        created_by: commit.created_by.clone(),
        author: commit.author.clone(),
        comment: commit.comment.clone(),
        empty_layer: false,
    });
    layers.push(layer.descriptor());
    write(ingest, &image, &layers)
}
