//! Blobs and the links of repositories to them.
//!
//! The invariant: a blob is opened only after its repository's link has been seen.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use rustix::fs::{Mode, Timespec, Timestamps, UTIME_NOW};
use sys::path::Dir;
use types::Digest;

use super::bucket::holds::Held;
use super::bucket::mirror::key;
use super::content::Content;
use super::linking::Linking;
use super::{Storage, file_name, found, sync};
use crate::error::{Code, Error, Result};
use crate::name::RepositoryName;

impl Storage {
    /// Opens a blob that the repository has, with its size in bytes.
    pub(crate) fn open_blob(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<Option<(Content, u64)>> {
        if !self.has_link(repository, "_blobs", digest)? {
            return Ok(None);
        }
        self.open_content(digest)
    }

    pub(crate) fn has_link(&self, repository: &RepositoryName, part: &str, digest: &Digest) -> io::Result<bool> {
        Ok(found(self.root.lstat(repository.path(part).join(file_name(digest))))?.is_some())
    }

    /// As [`Storage::open_blob`], for a client that is about to refer to the blob without pushing it again: it has a
    /// whole grace period from now, also when a collection runs.
    pub(crate) fn claim_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<(Content, u64)>> {
        let entered = self.gate.enter();
        entered.rely_on(digest);
        let found = self.open_blob(repository, digest)?;
        if found.is_some()
            && let Some(dir) = self.part(repository, "_blobs")?
        {
            touch(&dir, digest)?;
        }
        Ok(found)
    }

    /// Links a repository to content that is on disk, or in the bucket.
    pub(super) fn link_blob(
        &self,
        linking: &Linking<'_>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<()> {
        linking.rely_on(digest);
        if let Some(bucket) = &self.bucket {
            bucket.change(vec![(key(&blob_link(repository, digest)), Bytes::new())], None)?;
        }
        linking.local(|| {
            self.ensure_repository(repository)?;
            let dir = self.root.open_dir(repository.path("_blobs"))?;
            match dir.create_file(&file_name(digest), Mode::RUSR | Mode::WUSR) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => touch(&dir, digest)?,
                Err(e) => return Err(e),
            }
            sync(&dir)
        })
    }

    /// Makes what the bucket has, for one who holds it, a blob of the repository. Blocks.
    ///
    /// # Errors
    /// `DENIED` (507) for a quota; then it is removed again where it is new.
    pub(super) fn link_uploaded(
        &self,
        held: Held,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<()> {
        let failed = || Error::io("store a blob");
        let new = self.content_size(digest).map_err(failed())?.is_none();
        let linking = self.linking_held(Some(held));
        // Known from here on, so that the collector finds it, whatever becomes of the link.
        self.note_content(digest, size).map_err(failed())?;
        let linked = self.charged(repository, "_blobs", digest, size, || {
            self.link_blob(&linking, repository, digest).map_err(failed())
        });
        if let (Err(error), Some(bucket)) = (&linked, &self.bucket)
            && new
            && error.code() == Code::Denied
        {
            self.forget_content(bucket, digest).map_err(failed())?;
        }
        linked
    }

    /// Links `to` to a blob that `from` has; false when it has not.
    ///
    /// # Errors
    /// `DENIED` (507) for a quota.
    pub(crate) fn mount_blob(&self, from: &RepositoryName, to: &RepositoryName, digest: &Digest) -> Result<bool> {
        let failed = || Error::io("mount a blob");
        let linking = self.linking(&[*digest], &[]).map_err(failed())?;
        let size = match self.has_link(from, "_blobs", digest).map_err(failed())? {
            true => self.content_size(digest).map_err(failed())?,
            false => None,
        };
        let Some(size) = size else { return Ok(false) };
        self.charged(to, "_blobs", digest, size, || self.link_blob(&linking, to, digest).map_err(failed()))?;
        Ok(true)
    }

    /// Runs `store`, which makes a file and a link to it, when the quotas allow it, and counts what it stores.
    pub(super) fn charged(
        &self,
        repository: &RepositoryName,
        part: &str,
        digest: &Digest,
        size: u64,
        store: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if !self.usage.counts() {
            return store();
        }
        let _turn = self.usage.turn(digest);
        let failed = || Error::io("count what is stored");
        let new = !self.has_link(repository, part, digest).map_err(failed())?;
        self.usage.charge(repository, digest, size, new)?;
        let stored = store();
        if stored.is_err() {
            // Counted is what is there: half of it may be.
            if self.content_size(digest).map_err(failed())?.is_none() {
                self.usage.content_gone(digest);
            }
            if new && !self.has_link(repository, part, digest).map_err(failed())? {
                self.usage.link_gone(repository, digest);
            }
        }
        stored
    }

    /// Takes a blob from a repository; false when it has none. Its file is the collector's.
    pub(crate) fn unlink_blob(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        let linking = self.linking(&[*digest], &[])?;
        let removed = linking.local(|| -> io::Result<bool> {
            let Some(dir) = self.part(repository, "_blobs")? else { return Ok(false) };
            let _turn = self.usage.turn(digest);
            let removed = found(dir.unlink(&file_name(digest)))?.is_some();
            if removed {
                self.usage.link_gone(repository, digest);
            }
            sync(&dir)?;
            Ok(removed)
        })?;
        if let Some(bucket) = &self.bucket {
            // Also where the mirror has none: an earlier request may have failed half-way.
            bucket.remove(vec![key(&blob_link(repository, digest))])?;
        }
        Ok(removed)
    }
}

/// The path of the link to a blob.
pub(super) fn blob_link(repository: &RepositoryName, digest: &Digest) -> PathBuf {
    repository.path("_blobs").join(file_name(digest))
}

fn touch(dir: &Dir, digest: &Digest) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    found(dir.set_times(&file_name(digest), &Timestamps { last_access: now, last_modification: now })).map(drop)
}
