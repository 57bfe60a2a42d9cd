//! Garbage collection while requests are served.
//!
//! Marked is what the manifests of a repository refer to, and every manifest. Removed are links to blobs that are not
//! marked and that nobody pushed, mounted or asked for within the grace period, then the files that nothing links to
//! for as long. The invariant: when marking fails anywhere, no file is removed; what a request relies on meanwhile is
//! kept by the gate. Uploads in progress are not among the blobs and are not touched.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use types::Digest;

use super::gate::Collection;
use super::{Storage, digests, file_name, found};
use crate::manifest::Manifest;
use crate::name::RepositoryName;

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
        let Some(collection) = self.gate.collect() else { return Ok(None) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = i64::try_from(now.saturating_sub(grace).as_secs()).unwrap_or(0);
        let mut done = Collected::default();
        let mut linked = HashSet::new();
        for repository in self.repositories()? {
            self.collect_links(&collection, &repository, before, &mut linked, &mut done)?;
            if collection.alone(|| self.remove_if_empty(&repository))? {
                done.repositories += 1;
            }
        }
        for first in 0..=255_u8 {
            let dir = self.root.open_dir(Path::new("blobs/sha256").join(format!("{first:02x}")))?;
            for digest in digests(&dir)?.into_iter().filter(|digest| !linked.contains(digest)) {
                let name = file_name(&digest);
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
                }
            }
        }
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
        for digest in digests(&dir)? {
            let name = file_name(&digest);
            let removed = !marked.contains(&digest)
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
            } else {
                linked.insert(digest);
            }
        }
        Ok(())
    }
}
