//! `docker image inspect`.

use docker_types::image::{ImageInspect, ImageMetadata, RootFs};
use types::{Digest, Platform};

use super::Images;
use super::content::{Body, oci_descriptor, signed};
use super::convert::to_api;
use super::list::containers_by_image;
use crate::clock;
use crate::engine::Inner;
use crate::error::Result;

impl Images {
    /// Everything about one image, or of one platform of it.
    ///
    /// # Errors
    /// Not found.
    pub(crate) fn inspect(
        &self,
        inner: &Inner,
        name: &str,
        manifests: bool,
        platform: Option<&Platform>,
    ) -> Result<ImageInspect> {
        let (image, names) = {
            let index = self.index();
            let image = index.find(name)?.image;
            let names = index.names_of(&image.id());
            (image, names)
        };
        let chosen = match platform {
            Some(platform) => Some(image.require(name, platform)?),
            None => image.choose(None),
        };
        let body = chosen.map(|(_, body)| body);
        let config = body.map(|body| body.config.clone()).unwrap_or_default();
        let comment = match (config.comment.is_empty(), config.history.last()) {
            (true, Some(last)) => last.comment.clone(),
            _ => config.comment.clone(),
        };
        let users = containers_by_image(inner).remove(&image.id().to_string()).unwrap_or_default();
        let of_manifest = |digest: &Digest| {
            let digest = digest.to_string();
            users.iter().filter(|(_, manifest)| *manifest == digest).map(|(id, _)| id.clone()).collect()
        };
        let size = match (platform, body) {
            (Some(_), Some(body)) => body.content().saturating_add(body.unpacked()),
            _ => image.size(),
        };
        // Of one platform it is that platform's manifest that is shown.
        let shown = match (platform, chosen) {
            (Some(_), Some((variant, body))) => oci_descriptor(&variant.descriptor, Some(&variant.platform(body))),
            _ => oci_descriptor(&image.target, None),
        };
        Ok(ImageInspect {
            id: shown.digest.clone(),
            repo_tags: names.tags(),
            repo_digests: names.digests(image.id()),
            comment,
            created: config.created.clone().unwrap_or_default(),
            docker_version: config.docker_version.clone(),
            author: config.author.clone(),
            config: Some(to_api(&config.config)),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
            os: config.os.clone(),
            size: signed(size),
            root_fs: RootFs { kind: "layers".into(), layers: body.map(Body::layers).unwrap_or_default() },
            metadata: ImageMetadata { last_tag_time: clock::rfc3339(names.updated_ns) },
            descriptor: Some(shown),
            manifests: if manifests { image.manifest_summaries(&of_manifest) } else { Vec::new() },
            ..ImageInspect::default()
        })
    }
}
