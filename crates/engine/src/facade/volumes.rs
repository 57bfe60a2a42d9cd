//! Volumes.

use std::future::Future;
use std::sync::Arc;

use docker_types::volume::{Volume, VolumeCreateBody, VolumeList, VolumePruneReport};
use types::Filters;

use crate::ByteStream;
use crate::engine::Engine;
use crate::error::{Result, fail};
use crate::volume::{Copied as VolumeCopy, Snapshot};

impl Engine {
    /// Make a volume, or give the one that has the name.
    ///
    /// # Errors
    /// Invalid for a name; Unsupported for drivers and options that are not ours.
    pub async fn volume_create(&self, body: VolumeCreateBody) -> Result<Volume> {
        let inner = Arc::clone(&self.inner);
        to_the_end(async move { Ok(inner.volumes.create(&inner, body).await?.0) }).await
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
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        to_the_end(async move { inner.volumes.remove(&inner, &name, force).await }).await
    }

    /// Remove unused volumes.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub async fn volume_prune(&self, filters: Filters) -> Result<VolumePruneReport> {
        let inner = Arc::clone(&self.inner);
        to_the_end(async move { inner.volumes.prune(&inner, &filters).await }).await
    }

    /// Everything in a volume as an archive.
    ///
    /// # Errors
    /// Not found; what fails later ends the stream.
    pub async fn volume_export(&self, name: &str) -> Result<ByteStream> {
        self.inner.volumes.export(&self.inner, name).await
    }

    /// Replace what is in a volume by an archive; makes the volume when there is none.
    ///
    /// # Errors
    /// Conflict while a container runs on it; Invalid for an archive that cannot be.
    pub async fn volume_import(&self, name: &str, body: ByteStream) -> Result<Volume> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        to_the_end(async move { inner.volumes.import(&inner, &name, body).await }).await
    }

    /// A new volume with what is in another.
    ///
    /// # Errors
    /// Not found; Conflict when the new name is taken.
    pub async fn volume_clone(&self, name: &str, wanted: VolumeCopy) -> Result<Volume> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        to_the_end(async move { inner.volumes.copy(&inner, &name, wanted, Snapshot::No).await }).await
    }

    /// A new volume with what is in another now, labelled as its snapshot.
    ///
    /// # Errors
    /// Not found; Conflict when the new name is taken.
    pub async fn volume_snapshot(&self, name: &str, wanted: VolumeCopy) -> Result<Volume> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        to_the_end(async move { inner.volumes.copy(&inner, &name, wanted, Snapshot::Yes).await }).await
    }

    /// Put back what a snapshot kept.
    ///
    /// # Errors
    /// Not found; Invalid for what is no snapshot of the volume; Conflict while a container runs on it.
    pub async fn volume_rollback(&self, name: &str, snapshot: &str) -> Result<Volume> {
        let (inner, name, snapshot) = (Arc::clone(&self.inner), name.to_owned(), snapshot.to_owned());
        to_the_end(async move { inner.volumes.rollback(&inner, &name, &snapshot).await }).await
    }
}

/// Carry a change to its end, whether the client waits for it or not: half of one would have to be found and undone.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(|e| fail!(Internal, "the engine failed to change a volume: {e}"))?
}
