//! Content itself, wherever it is: as files of the directory, or in the bucket with its size in the directory.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::Mode;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use types::Digest;

use super::bucket::mirror::MANIFESTS;
use super::bucket::{Bucket, blob_key};
use super::{FILE_MODE, Storage, Temporary, file_name, found, temporary_name};
use crate::manifest::MANIFEST_MAX;

/// Where the bytes of a blob come from.
#[derive(Debug)]
pub(crate) enum Content {
    File(File),
    Object(Object),
}

/// A blob in the bucket.
#[derive(Debug)]
pub(crate) struct Object {
    bucket: Arc<Bucket>,
    digest: Digest,
}

impl Object {
    /// The bytes from `start` up to `end` as they come; nothing when the bucket has lost it.
    pub(crate) async fn read(&self, start: u64, end: u64) -> io::Result<Option<mpsc::Receiver<io::Result<Bytes>>>> {
        self.bucket.read(self.digest, start, end).await
    }
}

impl Storage {
    /// Opens content whatever links to it, with its size in bytes; the caller has seen a link.
    pub(super) fn open_content(&self, digest: &Digest) -> io::Result<Option<(Content, u64)>> {
        if let Some(bucket) = &self.bucket {
            let Some(size) = self.content_size(digest)? else { return Ok(None) };
            let object = Object { bucket: Arc::clone(bucket), digest: *digest };
            return Ok(bucket.has(digest)?.then_some((Content::Object(object), size)));
        }
        Ok(self.open_file(digest)?.map(|(file, size)| (Content::File(file), size)))
    }

    fn open_file(&self, digest: &Digest) -> io::Result<Option<(File, u64)>> {
        let Some(fd) = found(self.blob_dir(digest)?.open_file(&file_name(digest)))? else {
            tracing::error!(
                "blob {digest} is linked and its file is missing: restore the registry's directory, or push the blob again"
            );
            return Ok(None);
        };
        let file = File::from(fd);
        let size = file.metadata()?.len();
        Ok(Some((file, size)))
    }

    /// Size of the content in bytes, if it is there.
    pub(crate) fn content_size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        let stat = found(self.blob_dir(digest)?.lstat(&file_name(digest)))?;
        Ok(stat.map(|stat| u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// The bytes of a manifest.
    pub(super) fn read_manifest(&self, digest: &Digest) -> io::Result<Option<Bytes>> {
        let Some(bucket) = &self.bucket else {
            let Some((file, size)) = self.open_file(digest)? else { return Ok(None) };
            return read_whole(file, size).map(Some);
        };
        let read = self.root.open_dir(MANIFESTS)?;
        if let Some(fd) = found(read.open_file(&file_name(digest)))? {
            let file = File::from(fd);
            let size = file.metadata()?.len();
            return read_whole(file, size).map(Some);
        }
        let Some(bytes) = bucket.small(digest)? else { return Ok(None) };
        if Digest::sha256(Sha256::digest(&bytes).into()) != *digest {
            return Err(io::Error::other(format!("{} in the bucket is not what its name says", blob_key(digest))));
        }
        self.keep_manifest(digest, &bytes)?;
        Ok(Some(bytes))
    }

    /// Keeps a manifest that is in the bucket to be read from here.
    pub(super) fn keep_manifest(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        self.write_atomic(&self.root.open_dir(MANIFESTS)?, &file_name(digest), bytes, Mode::RUSR)
    }

    /// Notes that the bucket has content of so many bytes. Not synced: a mirror that was not left in good order is not
    /// believed.
    pub(super) fn note_content(&self, digest: &Digest, size: u64) -> io::Result<()> {
        let mut temporary = Temporary { dir: &self.staging, name: temporary_name()?, armed: false };
        let file = File::from(self.staging.create_file(&temporary.name, FILE_MODE)?);
        temporary.armed = true;
        file.set_len(size)?;
        self.staging.rename(&temporary.name, &self.blob_dir(digest)?, &file_name(digest))?;
        temporary.armed = false;
        Ok(())
    }

    /// Takes content nothing links to from the bucket and the mirror, for one who holds it. Blocks.
    pub(super) fn forget_content(&self, bucket: &Bucket, digest: &Digest) -> io::Result<()> {
        found(self.blob_dir(digest)?.unlink(&file_name(digest)))?;
        bucket.remove(vec![blob_key(digest)])
    }
}

fn read_whole(file: File, size: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(MANIFEST_MAX)).unwrap_or(0));
    file.take(MANIFEST_MAX).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}
