//! Content in a bucket of an object store: S3, Google, Azure.
//!
//! ```text
//! PREFIX/owner                          the token of the server that serves the bucket
//! PREFIX/blobs/…, PREFIX/repositories/… as in a directory, see `storage`
//! ```
//!
//! The bucket is the truth. Beside it, in the server's own directory, lies a mirror of the same shape, in which
//! repositories are whole and each blob is an empty file of its size; questions are answered from it, and only content
//! comes from the bucket. The invariant: the bucket has whatever the mirror has. So what is added is first put into the
//! bucket, and what is removed is first taken from the mirror; what was acknowledged is in both. A mirror is believed by
//! the next server only when this one ended in good order and nobody else has served the bucket since; otherwise it is
//! made anew from a list of the bucket.

pub(crate) mod address;
pub(crate) mod failure;
pub(crate) mod holds;
#[cfg(feature = "buckets")]
mod http;
pub(crate) mod mirror;
#[cfg_attr(not(feature = "buckets"), path = "absent.rs")]
mod remote;

use std::collections::HashSet;
use std::fs::File;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use types::Digest;

use self::address::BucketAddress;
use self::failure::{Failure, Kind};
use self::holds::{Held, Holds};
use self::remote::Remote;

/// Object that says who serves the bucket.
const OWNER: &str = "owner";
/// Pieces of an answer in memory.
const AHEAD: usize = 4;

/// A bucket that is served.
#[derive(Debug)]
pub(crate) struct Bucket {
    remote: Remote,
    address: BucketAddress,
    /// Of its own, so that a bucket that hangs does not take the threads that answer requests.
    runtime: Option<Runtime>,
    holds: Arc<Holds>,
    /// Our token; nothing for a server that only reads.
    token: OnceLock<String>,
    /// Another server has put its token there.
    lost: AtomicBool,
    /// A change failed, so that the bucket may have what the mirror has not.
    behind: AtomicBool,
    /// Content the bucket was seen without, contrary to what the mirror says.
    missing: Mutex<HashSet<Digest>>,
}

/// An object and what it is to hold.
pub(crate) type Put = (String, Bytes);

/// Where the bytes of a blob are.
pub(crate) fn blob_key(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/sha256/{}/{hex}", &hex[..2])
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops it may be where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

impl Bucket {
    pub(crate) fn new(address: &BucketAddress) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(16)
            .thread_name("bucket")
            .enable_all()
            .build()?;
        let remote = {
            let _entered = runtime.enter();
            Remote::new(address)?
        };
        Ok(Self {
            remote,
            address: address.clone(),
            runtime: Some(runtime),
            holds: Arc::default(),
            token: OnceLock::new(),
            lost: AtomicBool::new(false),
            behind: AtomicBool::new(false),
            missing: Mutex::default(),
        })
    }

    #[allow(clippy::expect_used, reason = "only dropping takes it")]
    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it runs until it is dropped")
    }

    /// Waits, on a thread that may.
    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime().block_on(work)
    }

    fn stopping(&self) -> Failure {
        Failure::new(Kind::Stopping, &self.address, "change", "the server is stopping")
    }

    /// Holds what is about to be changed and what is relied on meanwhile. Blocks.
    pub(crate) fn hold(&self, changed: &[Digest], relied_on: &[Digest]) -> io::Result<Held> {
        self.check_lost()?;
        self.wait(self.holds.take(changed, relied_on)).ok_or_else(|| self.stopping().into())
    }

    /// The same where nothing may block.
    pub(crate) async fn held(&self, changed: &[Digest]) -> io::Result<Held> {
        self.holds.take(changed, &[]).await.ok_or_else(|| self.stopping().into())
    }

    /// The same for the collector, which leaves what is held alone.
    pub(crate) fn try_hold(&self, changed: Digest) -> Option<Held> {
        self.holds.try_take(&[changed], &[])
    }

    /// Puts `first`, in any order, and when all of them are there `last`. When it returns nobody else has begun to
    /// serve the bucket without seeing them. Blocks.
    pub(crate) fn change(&self, first: Vec<Put>, last: Option<Put>) -> io::Result<()> {
        self.noted(self.wait(async {
            self.check_lost()?;
            try_join_all(first.iter().map(|(key, bytes)| self.remote.put(key, bytes.clone()))).await?;
            if let Some((key, bytes)) = last {
                self.remote.put(&key, bytes).await?;
            }
            self.still_ours().await
        }))
    }

    /// Removes objects, which the mirror has no more. Blocks.
    pub(crate) fn remove(&self, keys: Vec<String>) -> io::Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.noted(self.wait(async {
            // Also before: what another server has begun to rely on is not ours to remove.
            self.still_ours().await?;
            self.remote.delete(keys).await?;
            self.still_ours().await
        }))
    }

    /// Whether changes are ours to make, as far as is known without asking; costs nothing.
    pub(crate) fn check_lost(&self) -> Result<(), Failure> {
        if self.token.get().is_none() {
            return Err(Failure::new(Kind::Refused, &self.address, "change", "this server only reads"));
        }
        match self.lost.load(Ordering::Relaxed) {
            true => {
                Err(Failure::new(Kind::TakenOver, &self.address, "change", "another server has put its token there"))
            }
            false => Ok(()),
        }
    }

    /// Whether we are the one who serves the bucket. A server that takes over puts its token there and then lists the
    /// bucket, so what was put before a check that succeeds is in that list.
    async fn still_ours(&self) -> Result<(), Failure> {
        self.check_lost()?;
        let owner = self.remote.get(OWNER).await?;
        let ours = owner.as_deref() == self.token.get().map(String::as_bytes);
        if !ours {
            self.lost.store(true, Ordering::Relaxed);
        }
        self.check_lost()
    }

    fn noted<T>(&self, result: Result<T, Failure>) -> io::Result<T> {
        if result.is_err() {
            self.behind.store(true, Ordering::Relaxed);
        }
        Ok(result?)
    }

    fn missing(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether content that the mirror knows is there: asked of the bucket only where it was seen without it. Blocks.
    pub(crate) fn has(&self, digest: &Digest) -> io::Result<bool> {
        if !self.missing().contains(digest) {
            return Ok(true);
        }
        let here = self.wait(self.remote.size(&blob_key(digest)))?.is_some();
        if here {
            self.missing().remove(digest);
        }
        Ok(here)
    }

    /// Notes that the bucket has not what it should have: a push of it heals that.
    fn note_missing(&self, digest: &Digest) {
        self.missing().insert(*digest);
        self.behind.store(true, Ordering::Relaxed);
        tracing::error!(
            "blob {digest} is linked and not in the bucket {}: restore it there, or push it again",
            self.address
        );
    }

    /// A manifest's bytes. Blocks.
    pub(crate) fn small(&self, digest: &Digest) -> io::Result<Option<Bytes>> {
        let got = self.wait(self.remote.get(&blob_key(digest)))?;
        if got.is_none() {
            self.note_missing(digest);
        }
        Ok(got)
    }

    /// Sends the bytes of a blob from `start` up to `end`; nothing when the bucket has it not.
    pub(crate) async fn read(
        self: &Arc<Self>,
        digest: Digest,
        start: u64,
        end: u64,
    ) -> io::Result<Option<mpsc::Receiver<io::Result<Bytes>>>> {
        let bucket = Arc::clone(self);
        let opened = self.runtime().spawn(async move { bucket.remote.stream(&blob_key(&digest), start..end).await });
        let Some(mut pieces) = opened.await?? else {
            self.note_missing(&digest);
            return Ok(None);
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        let bucket = Arc::clone(self);
        self.runtime().spawn(async move {
            let mut left = end - start;
            while let Some(piece) = pieces.next().await {
                let piece = piece.and_then(|bytes| match bytes.len() as u64 <= left {
                    true => Ok(bytes),
                    false => {
                        let why = "more came than was asked for";
                        Err(Failure::new(Kind::Refused, &bucket.address, "read from", why))
                    }
                });
                let failed = piece.is_err();
                match &piece {
                    Ok(bytes) => left -= bytes.len() as u64,
                    Err(failure) => tracing::error!("blob {digest}: {failure}"),
                }
                if sender.send(piece.map_err(io::Error::from)).await.is_err() || failed {
                    return;
                }
            }
            if left > 0 {
                tracing::error!("blob {digest} ended {left} bytes early in the bucket {}", bucket.address);
                let _ = sender.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
            }
        });
        Ok(Some(receiver))
    }

    /// Has the bytes of an upload in the bucket as the blob they are, unless they are there.
    pub(crate) async fn upload(self: &Arc<Self>, digest: Digest, file: File, size: u64) -> io::Result<()> {
        let bucket = Arc::clone(self);
        let done = self.runtime().spawn(async move {
            bucket.check_lost()?;
            let key = blob_key(&digest);
            if bucket.remote.size(&key).await? != Some(size) {
                bucket.remote.upload(&key, Arc::new(file), size).await?;
            }
            bucket.missing().remove(&digest);
            Ok(())
        });
        self.noted(done.await?)
    }

    /// Ends all changes. Whether the mirror may be believed by the next server, and under which token.
    pub(crate) fn close(&self) -> Option<&str> {
        let idle = self.holds.close();
        let sound = idle && !self.behind.load(Ordering::Relaxed) && !self.lost.load(Ordering::Relaxed);
        self.token.get().filter(|_| sound).map(String::as_str)
    }
}
