//! Garbage collection while requests are served.
//!
//! Marked is what the manifests of a repository refer to, and every manifest. Removed are links to blobs that are not
//! marked and that nobody pushed, mounted or asked for within the grace period, then the files that nothing links to
//! for as long. The invariant: when marking fails anywhere, no file is removed; what a request relies on meanwhile is
//! kept by the gate. Uploads in progress are not among the blobs and are not touched.
//!
//! With a bucket the mirror loses each piece first, under the gate as ever; the bucket loses them in batches afterwards,
//! and until then they are held, so that nobody brings one back in between.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use types::Digest;

use super::blobs::blob_link;
use super::bucket::holds::Held;
use super::bucket::mirror::{MANIFESTS, key};
use super::bucket::{Bucket, blob_key};
use super::gate::Collection;
use super::{Storage, digests, file_name, found};
use crate::manifest::Manifest;
use crate::name::RepositoryName;

/// Objects removed from a bucket at once.
const BATCH: usize = 500;

/// What the mirror has lost and the bucket has not yet.
#[derive(Debug, Default)]
struct Batch {
    keys: Vec<String>,
    held: Vec<Held>,
}

impl Batch {
    /// Removes from the bucket what there is, if there is so much.
    fn flush(&mut self, bucket: Option<&Bucket>, least: usize) -> io::Result<()> {
        if let Some(bucket) = bucket.filter(|_| self.keys.len() >= least.max(1)) {
            let removed = bucket.remove(std::mem::take(&mut self.keys));
            self.held.clear();
            removed?;
        }
        Ok(())
    }
}

/// What a collection did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// Links of repositories to blobs that no manifest there refers to.
    pub links: u64,
    /// Files.
    pub blobs: u64,
    /// Their sizes, bytes.
    pub bytes: u64,
    /// Repositories that held nothing any more.
    pub repositories: u64,
}

impl Storage {
    /// Runs one collection; nothing when one runs already. Blocks for long.
    pub(crate) fn collect(&self, grace: Duration) -> io::Result<Option<Collected>> {
        if let Some(bucket) = &self.bucket {
            bucket.check_lost()?;
        }
        let Some(collection) = self.gate.collect() else { return Ok(None) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = i64::try_from(now.saturating_sub(grace).as_secs()).unwrap_or(0);
        let mut done = Collected::default();
        let mut linked = HashSet::new();
        let bucket = self.bucket.as_deref();
        for repository in self.repositories()? {
            self.collect_links(&collection, &repository, before, &mut linked, &mut done)?;
            if collection.alone(|| self.remove_if_empty(&repository))? {
                done.repositories += 1;
            }
        }
        let mut batch = Batch::default();
        for first in 0..=255_u8 {
            let dir = self.root.open_dir(Path::new("blobs/sha256").join(format!("{first:02x}")))?;
            for digest in digests(&dir)?.into_iter().filter(|digest| !linked.contains(digest)) {
                let name = file_name(&digest);
                let held = match bucket {
                    None => None,
                    Some(bucket) => match bucket.try_hold(digest) {
                        // Somebody is at work on it.
                        None => continue,
                        held => held,
                    },
                };
                let removed = collection.remove(&digest, || -> io::Result<Option<u64>> {
                    // The change time: the rename that published it, not the writing of its bytes.
                    let Some(stat) = found(dir.lstat(&name))?.filter(|stat| stat.st_ctime <= before) else {
                        return Ok(None);
                    };
                    let _turn = self.usage.turn(&digest);
                    dir.unlink(&name)?;
                    self.usage.content_gone(&digest);
                    Ok(Some(u64::try_from(stat.st_size).unwrap_or(0)))
                });
                if let Some(size) = removed.transpose()?.flatten() {
                    done.blobs += 1;
                    done.bytes += size;
                    if bucket.is_some() {
                        found(self.root.open_dir(MANIFESTS)?.unlink(&name))?;
                        batch.keys.push(blob_key(&digest));
                        batch.held.extend(held);
                        batch.flush(bucket, BATCH)?;
                    }
                }
            }
        }
        batch.flush(bucket, 1)?;
        Ok(Some(done))
    }

    /// Removes a repository's links to what its manifests do not refer to, and adds the others to `linked`.
    fn collect_links(
        &self,
        collection: &Collection<'_>,
        repository: &RepositoryName,
        before: i64,
        linked: &mut HashSet<Digest>,
        done: &mut Collected,
    ) -> io::Result<()> {
        let mut marked = HashSet::new();
        let manifests = match self.part(repository, "_manifests")? {
            Some(dir) => digests(&dir)?,
            None => return Ok(()),
        };
        for digest in manifests {
            linked.insert(digest);
            let Some(stored) = self.manifest(repository, &digest)? else { continue };
            let manifest = Manifest::parse(&stored.media_type, stored.bytes)
                .map_err(|e| io::Error::other(format!("manifest {digest} of {}: {e}", repository.as_str())))?;
            marked.extend(manifest.mentioned);
        }
        let Some(dir) = self.part(repository, "_blobs")? else { return Ok(()) };
        let bucket = self.bucket.as_deref();
        let mut batch = Batch::default();
        for digest in digests(&dir)? {
            let name = file_name(&digest);
            let held = bucket.filter(|_| !marked.contains(&digest)).and_then(|bucket| bucket.try_hold(digest));
            let removed = !marked.contains(&digest)
                && (bucket.is_none() || held.is_some())
                && collection
                    .remove(&digest, || -> io::Result<bool> {
                        match found(dir.lstat(&name))? {
                            Some(stat) if stat.st_mtime <= before => {
                                let _turn = self.usage.turn(&digest);
                                dir.unlink(&name)?;
                                self.usage.link_gone(repository, &digest);
                                Ok(true)
                            }
                            _ => Ok(false),
                        }
                    })
                    .transpose()?
                    .unwrap_or(false);
            if removed {
                done.links += 1;
                if bucket.is_some() {
                    batch.keys.push(key(&blob_link(repository, &digest)));
                    batch.held.extend(held);
                    batch.flush(bucket, BATCH)?;
                }
            } else {
                linked.insert(digest);
            }
        }
        batch.flush(bucket, 1)
    }
}
