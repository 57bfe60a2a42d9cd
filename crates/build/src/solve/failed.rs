//! What a failed step left, for whoever wants to look into it.

use std::sync::Arc;

use buildkit::wire::llb;
use store::model::{Descriptor, Image, ImageConfig};
use types::{Kind, Platform};

use super::Build;
use crate::emulation;
use crate::error::{Error, Result};
use crate::tree::Tree;

/// The build argument that asks for failed steps to be kept.
pub const KEEP_FAILED: &str = "DHOW_KEEP_FAILED";

impl Build {
    /// Says how to look into what a step left: as an image when the build was asked to keep it.
    pub(super) async fn left_behind(&self, vertex: &str, meta: &llb::Meta, tree: Tree) {
        let told = if self.keeps_failed() {
            match self.keep_failed_tree(meta, tree).await {
                Ok(id) => format!("what the step left is an image: docker run -it --rm {id} sh\n"),
                Err(error) => format!("what the step left cannot be kept: {error}\n"),
            }
        } else {
            format!("to look into what the step left, build again with --build-arg {KEEP_FAILED}=1\n")
        };
        self.progress.log(vertex, 2, told.as_bytes());
    }

    async fn keep_failed_tree(&self, meta: &llb::Meta, tree: Tree) -> Result<String> {
        let host = Platform::host();
        let config = ImageConfig {
            env: Some(meta.env.clone()),
            working_dir: meta.cwd.clone(),
            user: meta.user.clone(),
            cmd: Some(meta.args.clone()),
            ..ImageConfig::default()
        };
        let mut image =
            Image { os: host.os, architecture: host.arch, variant: host.variant, config, ..Image::default() };
        let made = Arc::clone(&self.ingest);
        let written = tokio::task::spawn_blocking(move || {
            let layers = tree.store(&made)?;
            image.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
            let blobs: Vec<Descriptor> = layers.iter().map(|layer| layer.blob.clone()).collect();
            let target = store::image::write(&made, &image, &blobs)?;
            Ok::<_, Error>((made.split(&target)?, target))
        });
        let (part, target) = written.await.map_err(|e| Error::io("keeping a failed step was interrupted", e))??;
        self.shared.host.admit(Arc::new(part), target, Vec::new()).await
    }
}

/// Says what to do about a program that is for another machine.
pub(super) fn explained(error: Error, platform: Option<&llb::Platform>) -> Error {
    if !error.to_string().contains("exec format error") {
        return error;
    }
    let wanted = platform.map_or_else(Platform::host, super::platform);
    Error::new(Kind::Invalid, format!("{error}: {}", emulation::advice(&wanted)))
}
