//! Images, and registries as far as images need them.

use bytes::Bytes;
use docker_types::auth::{AuthConfig, AuthResponse};
use docker_types::container::ContainerConfig;
use docker_types::image::{
    DistributionInspect, HistoryItem, ImageDeleteItem, ImageDiff, ImageInspect, ImagePruneReport, ImageReferrers,
    ImageSummary, ImageVerification, ImageVersion, PutManifest, RegistryManifest,
};
use docker_types::message::JsonMessage;
use types::{Filters, Platform};

use crate::engine::Engine;
use crate::error::Result;
use crate::image::{self, Images};
use crate::{AnyStream, ByteStream};

/// What to pull.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// A name with tag or digest; `latest` without.
    pub reference: String,
    /// Instead of the host's.
    pub platform: Option<Platform>,
    pub auth: Option<AuthConfig>,
    /// Every tag of the repository, when the name has neither tag nor digest.
    pub all_tags: bool,
}

/// What to push.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Repository, with the registry's name before it.
    pub name: String,
    /// Its tag; every tag that is here without.
    pub tag: Option<String>,
    /// This platform's manifest alone.
    pub platform: Option<Platform>,
    pub auth: Option<AuthConfig>,
}

/// Which manifest of a registry.
#[derive(Clone, Debug, Default)]
pub struct ManifestOptions {
    /// A name with tag or digest; `latest` without.
    pub name: String,
    /// Speak to the registry without TLS, or without checking its certificate.
    pub insecure: bool,
    pub auth: Option<AuthConfig>,
}

/// A manifest or index for a registry.
#[derive(Clone, Debug, Default)]
pub struct ManifestPut {
    /// The name it gets.
    pub options: ManifestOptions,
    pub media_type: String,
    pub document: Bytes,
    /// Repository of the same registry that has the blobs; absent when the name's own has them.
    pub from: Option<String>,
}

/// What to make of an imported archive.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    pub repo: Option<String>,
    pub tag: Option<String>,
    /// Note in the image's history.
    pub message: Option<String>,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    pub platform: Option<Platform>,
}

/// Which images, and what of them.
#[derive(Clone, Debug, Default)]
pub struct ImageListOptions {
    /// Accepted; there are no intermediate images to show.
    pub all: bool,
    pub filters: Filters,
    /// Compute the bytes shared with other images.
    pub shared_size: bool,
    /// Show the manifests of each image.
    pub manifests: bool,
    /// Accepted; digests are always shown.
    pub digests: bool,
}

/// What to make of a container's changes.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// Id, unique prefix or name.
    pub container: String,
    pub repo: Option<String>,
    pub tag: Option<String>,
    pub comment: Option<String>,
    pub author: Option<String>,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Laid over the container's configuration.
    pub config: Option<ContainerConfig>,
}

impl Engine {
    /// Pull an image; the stream tells how it goes. Dropping the stream stops the pull.
    ///
    /// # Errors
    /// What fails before there is anything to tell; later failures are the last message.
    pub async fn image_pull(&self, options: PullOptions) -> Result<AnyStream<JsonMessage>> {
        Images::pull(&self.inner, options).await
    }

    /// Push an image; the stream tells how it goes. Dropping the stream stops the push.
    ///
    /// # Errors
    /// Invalid for a name that cannot be pushed; later failures are the last message.
    pub async fn image_push(&self, options: PushOptions) -> Result<AnyStream<JsonMessage>> {
        Images::push(&self.inner, options).await
    }

    /// What a registry says of a name, without pulling it.
    ///
    /// # Errors
    /// Not found, denied and the like, in the registry's words.
    pub async fn image_distribution(&self, name: &str, auth: Option<AuthConfig>) -> Result<DistributionInspect> {
        Images::distribution(&self.inner, name, auth).await
    }

    /// What refers to an image at its registry, of one artifact type or of all.
    ///
    /// # Errors
    /// Not found, denied and the like, in the registry's words.
    pub async fn image_referrers(
        &self,
        name: &str,
        artifact_type: Option<String>,
        auth: Option<AuthConfig>,
    ) -> Result<ImageReferrers> {
        Images::referrers(&self.inner, name, artifact_type, auth).await
    }

    /// A manifest or index as a registry has it, without pulling it.
    ///
    /// # Errors
    /// Not found, denied and the like, in the registry's words.
    pub async fn registry_manifest(&self, options: ManifestOptions) -> Result<RegistryManifest> {
        Images::registry_manifest(&self.inner, options).await
    }

    /// Put a manifest or index into a registry.
    ///
    /// # Errors
    /// Invalid for a document that is none; otherwise the registry's words.
    pub async fn put_registry_manifest(&self, put: ManifestPut) -> Result<PutManifest> {
        Images::put_registry_manifest(&self.inner, put).await
    }

    /// Make an image of an archive of a root file system, compressed or not.
    ///
    /// # Errors
    /// Invalid for names, changes and archives that make no sense.
    pub async fn image_import(&self, options: ImportOptions, body: ByteStream) -> Result<AnyStream<JsonMessage>> {
        Images::import(&self.inner, options, body).await
    }

    /// Take in the images of an archive made by `save`, compressed or not: for these platforms, or for all.
    ///
    /// # Errors
    /// None; failures are messages.
    pub async fn image_load(
        &self,
        body: ByteStream,
        _quiet: bool,
        platforms: Vec<Platform>,
    ) -> Result<AnyStream<JsonMessage>> {
        Images::load(&self.inner, body, platforms).await
    }

    /// What a tag pointed at, latest first.
    ///
    /// # Errors
    /// Not found when nothing is known of the name.
    pub async fn image_log(&self, name: &str) -> Result<Vec<ImageVersion>> {
        self.inner.images.log(name)
    }

    /// What differs between two images.
    ///
    /// # Errors
    /// Not found; an image whose layers are not here.
    pub async fn image_diff(&self, from: &str, to: &str) -> Result<ImageDiff> {
        Images::compare(&self.inner, from, to).await
    }

    /// Point a tag back at an earlier version: so many steps, or the one whose id begins so.
    ///
    /// # Errors
    /// Not found for a version there is none of; later failures are the last message.
    pub async fn image_rollback(
        &self,
        name: &str,
        wanted: &str,
        auth: Option<AuthConfig>,
    ) -> Result<AnyStream<JsonMessage>> {
        Images::rollback(&self.inner, name, wanted, auth).await
    }

    /// Keep an image until it is unpinned, or let go of it; gives its id.
    ///
    /// # Errors
    /// Not found.
    pub async fn image_pin(&self, name: &str, pinned: bool) -> Result<String> {
        self.inner.images.pin(&self.inner, name, pinned).await
    }

    /// What the trust policy, or the text of another one with its source, says of an image at its registry.
    ///
    /// # Errors
    /// Invalid for a policy that cannot be read; the registry's.
    pub async fn image_verify(
        &self,
        name: &str,
        policy: Option<(String, String)>,
        platform: Option<Platform>,
        auth: Option<AuthConfig>,
    ) -> Result<ImageVerification> {
        Images::verify(&self.inner, name, policy, platform, auth).await
    }

    /// Check blobs and layers against their digests, and repair what is damaged.
    ///
    /// # Errors
    /// None; failures are messages.
    pub async fn image_fsck(&self, repair: bool) -> Result<AnyStream<JsonMessage>> {
        Images::fsck(&self.inner, repair).await
    }

    /// An archive of images: for these platforms, or for all that are here.
    ///
    /// # Errors
    /// Not found.
    pub async fn image_save(&self, names: Vec<String>, platforms: Vec<Platform>) -> Result<ByteStream> {
        Images::save(&self.inner, &names, &platforms)
    }

    /// Images that match, newest first.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub async fn image_list(&self, options: ImageListOptions) -> Result<Vec<ImageSummary>> {
        self.inner.images.list(&self.inner, &options)
    }

    /// Everything about an image.
    ///
    /// # Errors
    /// Not found.
    pub async fn image_inspect(&self, name: &str, manifests: bool, platform: Option<Platform>) -> Result<ImageInspect> {
        self.inner.images.inspect(&self.inner, name, manifests, platform.as_ref())
    }

    /// How an image was made, newest step first.
    ///
    /// # Errors
    /// Not found.
    pub async fn image_history(&self, name: &str, platform: Option<Platform>) -> Result<Vec<HistoryItem>> {
        self.inner.images.history(name, platform.as_ref())
    }

    /// Give an image another name.
    ///
    /// # Errors
    /// Not found; invalid for what can be no name.
    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        self.inner.images.tag(&self.inner, name, repo, tag).await
    }

    /// Remove a name, and the image with its last one. There are no parents to prune.
    ///
    /// # Errors
    /// Not found; Conflict while something uses it.
    pub async fn image_remove(&self, name: &str, force: bool, _noprune: bool) -> Result<Vec<ImageDeleteItem>> {
        self.inner.images.remove(&self.inner, name, force).await
    }

    /// Remove platforms of an image; its names stay.
    ///
    /// # Errors
    /// Not found for a platform that is not here; Conflict while something uses it.
    pub async fn image_remove_platforms(
        &self,
        name: &str,
        platforms: Vec<Platform>,
        force: bool,
    ) -> Result<Vec<ImageDeleteItem>> {
        self.inner.images.remove_platforms(&self.inner, name, &platforms, force).await
    }

    /// Remove images that nothing uses.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub async fn image_prune(&self, filters: Filters) -> Result<ImagePruneReport> {
        self.inner.images.prune(&self.inner, &filters).await
    }

    /// Make an image of a container's changes; gives its id.
    ///
    /// # Errors
    /// Not found; invalid for names or changes that make no sense.
    pub async fn container_commit(&self, options: CommitOptions) -> Result<String> {
        image::commit(&self.inner, options).await
    }

    /// Check credentials with their registry.
    ///
    /// # Errors
    /// Unauthorized when the registry does not take them.
    pub async fn auth(&self, auth: AuthConfig) -> Result<AuthResponse> {
        self.inner.images.login(auth).await
    }
}
