//! Volumes.

use docker_types::volume::{Volume, VolumeCreateBody, VolumeList, VolumePruneReport};
use types::Filters;

use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Make a volume, or give the one that has the name.
    ///
    /// # Errors
    /// Invalid for a name; Unsupported for drivers and options that are not ours.
    pub async fn volume_create(&self, body: VolumeCreateBody) -> Result<Volume> {
        Ok(self.inner.volumes.create(&self.inner, body).await?.0)
    }

    /// Volumes that match.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub async fn volume_list(&self, filters: Filters) -> Result<VolumeList> {
        self.inner.volumes.list(&self.inner, &filters)
    }

    /// One volume.
    ///
    /// # Errors
    /// Not found.
    pub async fn volume_inspect(&self, name: &str) -> Result<Volume> {
        self.inner.volumes.inspect(name)
    }

    /// Remove a volume that no container refers to.
    ///
    /// # Errors
    /// Not found, unless forced; Conflict while it is in use.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        self.inner.volumes.remove(&self.inner, name, force).await
    }

    /// Remove unused volumes.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub async fn volume_prune(&self, filters: Filters) -> Result<VolumePruneReport> {
        self.inner.volumes.prune(&self.inner, &filters).await
    }
}
