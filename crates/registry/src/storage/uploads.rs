//! All uploads in progress: their number is bounded, the idle ones end, a restarted server finds them again.
//!
//! The invariant: a session in the table has its directory, and a directory without a session is removed at the next
//! start. Digests that do not match leave nothing.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use types::Digest;

use super::bucket::holds::Held;
use super::linking::Linking;
use super::session::Session;
use super::{DIR_MODE, Storage, file_name, sync};
use crate::error::{Code, Error, Result};
use crate::name::{RepositoryName, UploadId};

/// See the file's paragraph.
#[derive(Debug)]
pub(crate) struct Uploads {
    sessions: Mutex<HashMap<UploadId, Arc<Session>>>,
    max: usize,
}

impl Uploads {
    /// Takes over what an earlier server left in `uploads`, and removes what cannot go on. Blocks.
    pub(crate) fn recover(storage: &Storage, max: usize) -> io::Result<Self> {
        let mut sessions = HashMap::new();
        for entry in storage.staging.list()? {
            let session = entry.name.to_str().and_then(|name| UploadId::parse(name).ok());
            match session.and_then(|id| Session::resume(id, &storage.root)) {
                Some(session) if sessions.len() < max => {
                    sessions.insert(session.id.clone(), Arc::new(session));
                }
                _ => storage.staging.remove_tree(&entry.name)?,
            }
        }
        Ok(Self { sessions: Mutex::new(sessions), max })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Begins one. Blocks.
    ///
    /// # Errors
    /// `TOOMANYREQUESTS` (429) when as many are open as may be.
    pub(crate) fn begin(&self, storage: &Storage, repository: &RepositoryName) -> Result<Arc<Session>> {
        let full = || {
            Error::new(
                Code::TooManyRequests,
                "too many uploads are open: finish or cancel some, or wait until idle ones expire",
            )
        };
        if self.count() >= self.max {
            return Err(full());
        }
        let make = || -> io::Result<Session> {
            let id = UploadId::random()?;
            let name = OsStr::new(id.as_str());
            storage.staging.mkdir(name, DIR_MODE)?;
            let made =
                storage.staging.open_dir(name).and_then(|dir| Session::begin(id.clone(), repository.clone(), dir));
            if made.is_err() {
                let _ = storage.staging.remove_tree(name);
            }
            made
        };
        let session = Arc::new(make().map_err(Error::io("begin an upload"))?);
        {
            let mut sessions = self.lock();
            if sessions.len() < self.max {
                sessions.insert(session.id.clone(), Arc::clone(&session));
                return Ok(session);
            }
        }
        let _ = storage.staging.remove_tree(OsStr::new(session.id.as_str()));
        Err(full())
    }

    /// The upload of this id in this repository; another repository's is unknown.
    pub(crate) fn get(&self, repository: &RepositoryName, id: &UploadId) -> Result<Arc<Session>> {
        let session = self.lock().get(id).filter(|session| session.repository == *repository).cloned();
        session.ok_or_else(Error::upload_unknown)
    }

    /// Whether a session is still in the table: a request that waited for its turn must ask again.
    pub(crate) fn is_open(&self, session: &Session) -> bool {
        self.lock().contains_key(&session.id)
    }

    /// Ends an upload and removes its bytes; false when it had ended already. Blocks.
    pub(crate) fn cancel(&self, storage: &Storage, session: &Session) -> io::Result<bool> {
        let open = self.lock().remove(&session.id).is_some();
        storage.staging.remove_tree(OsStr::new(session.id.as_str()))?;
        Ok(open)
    }

    /// Makes an upload a blob of its repository and returns when that is on disk, or, where `uploaded` says that the
    /// bucket has its bytes, in the bucket. The upload has ended whether this succeeds or not, except when the disk or
    /// the bucket fails. Blocks.
    ///
    /// # Errors
    /// `DIGEST_INVALID` when the content has another digest.
    pub(crate) fn commit(
        &self,
        storage: &Storage,
        session: &Session,
        digest: &Digest,
        uploaded: Option<Held>,
    ) -> Result<()> {
        let actual = session.digest();
        if actual != *digest {
            self.cancel(storage, session).map_err(Error::io("remove an upload"))?;
            return Err(Error::new(
                Code::DigestInvalid,
                format!(
                    "the {} bytes received are {actual} and not {digest}: they were thrown away, push the blob again",
                    session.offset()
                ),
            ));
        }
        let publish = |linking: &Linking<'_>| -> io::Result<()> {
            linking.rely_on(digest);
            let dir = storage.blob_dir(digest)?;
            // Also over a file that is there: it is the same content, and heals what a disk has damaged.
            session.publish(&dir, &file_name(digest))?;
            sync(&dir)?;
            storage.link_blob(linking, &session.repository, digest)
        };
        let failed = || Error::io("store a blob");
        let (repository, size) = (&session.repository, session.offset());
        let stored = match uploaded {
            Some(held) => storage.link_uploaded(held, repository, digest, size),
            None => {
                session.seal().map_err(failed())?;
                let linking = storage.linking_held(None);
                storage.charged(repository, "_blobs", digest, size, || publish(&linking).map_err(failed()))
            }
        };
        match stored {
            // No room for it: what was received is of no use.
            Err(error) if error.code() == Code::Denied => {
                self.cancel(storage, session).map_err(Error::io("remove an upload"))?;
                return Err(error);
            }
            other => other?,
        }
        self.cancel(storage, session).map_err(Error::io("remove an upload"))?;
        Ok(())
    }

    /// Has the bytes of an upload in the bucket, if there is one, and holds them for [`Uploads::commit`].
    ///
    /// # Errors
    /// Those of the bucket; then the upload stays, and finishing it can be tried again.
    pub(crate) async fn send(&self, storage: &Storage, session: &Session, digest: &Digest) -> Result<Option<Held>> {
        let Some(bucket) = &storage.bucket else { return Ok(None) };
        let failed = || Error::io("store a blob in the bucket");
        // Another digest is for `commit` to refuse; there is nothing to send.
        if session.digest() != *digest {
            return Ok(None);
        }
        let held = bucket.held(&[*digest]).await.map_err(failed())?;
        let file = session.reader().map_err(failed())?;
        bucket.upload(*digest, file, session.offset()).await.map_err(failed())?;
        Ok(Some(held))
    }

    /// Whether the quotas have room for more bytes of an upload.
    ///
    /// # Errors
    /// `DENIED` (507).
    pub(crate) fn room(&self, storage: &Storage, session: &Session, more: u64) -> Result<()> {
        storage.usage.room(&session.repository, more, |covers| {
            self.lock().values().filter(|other| covers(&other.repository)).map(|other| other.offset()).sum()
        })
    }

    /// Keeps the state of every upload for the next server. Blocks.
    pub(crate) fn keep_all(&self) {
        for session in self.lock().values() {
            if let Err(e) = session.keep() {
                tracing::error!("cannot keep the state of an upload: {e}");
            }
        }
    }

    /// Ends the uploads no client was seen at for `limit`. Blocks.
    pub(crate) fn expire(&self, storage: &Storage, limit: Duration) -> usize {
        let idle: Vec<Arc<Session>> =
            self.lock().values().filter(|session| session.idle() >= limit).map(Arc::clone).collect();
        let mut ended = 0;
        for session in idle {
            // One whose turn is taken is being written to.
            let Ok(_turn) = session.turn.try_lock() else { continue };
            match self.cancel(storage, &session) {
                Ok(open) => ended += usize::from(open),
                Err(e) => tracing::error!("cannot remove an idle upload: {e}"),
            }
        }
        ended
    }
}
