//! Files of containers.

use docker_types::container::{FilesystemChange, PathStat};

use crate::ByteStream;
use crate::archive;
use crate::engine::Engine;
use crate::error::Result;

/// How an archive is extracted into a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchivePutOptions {
    /// Refuse a directory in the place of something else, and the reverse.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything gets the container's user and group as owner; in a container without a user the archive's count.
    pub copy_uid_gid: bool,
}

impl Engine {
    /// What a container changed of its image.
    ///
    /// # Errors
    /// Not found.
    pub async fn container_changes(&self, reference: &str) -> Result<Vec<FilesystemChange>> {
        let container = self.inner.containers.get(reference)?;
        archive::changes(&self.inner, &container).await
    }

    /// A container's root file system as an archive.
    ///
    /// # Errors
    /// Not found; what fails later ends the stream.
    pub async fn container_export(&self, reference: &str) -> Result<ByteStream> {
        let container = self.inner.containers.get(reference)?;
        archive::export(&self.inner, &container).await
    }

    /// Facts of a path in a container.
    ///
    /// # Errors
    /// Not found: container or path.
    pub async fn container_archive_stat(&self, reference: &str, path: &str) -> Result<PathStat> {
        let container = self.inner.containers.get(reference)?;
        archive::stat(&self.inner, &container, reference, path).await
    }

    /// Facts and archive of a path in a container.
    ///
    /// # Errors
    /// Not found: container or path.
    pub async fn container_archive_get(&self, reference: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let container = self.inner.containers.get(reference)?;
        archive::get(&self.inner, &container, reference, path).await
    }

    /// Extract an archive into a directory of a container.
    ///
    /// # Errors
    /// Not found: container or path; invalid for archives and places that cannot be.
    pub async fn container_archive_put(
        &self,
        reference: &str,
        path: &str,
        options: ArchivePutOptions,
        body: ByteStream,
    ) -> Result<()> {
        let container = self.inner.containers.get(reference)?;
        archive::put(&self.inner, &container, reference, path, options, body).await
    }
}
