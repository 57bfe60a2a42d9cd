//! Pulling through: repositories that are copies of another registry's, filled when they are asked for.
//!
//! A tag is asked for upstream each time, so that it is never older than there; when the upstream cannot be reached, what
//! is here is served. What is named by digest is fetched once, however many clients ask at a time, and goes to all of
//! them while it arrives. The invariant: of content that is not what its digest says no client gets the last byte, and
//! none of it stays.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use distribution::{Chunk, Client, Credentials};
use http::StatusCode;
use tokio::sync::{OnceCell, mpsc, watch};
use types::{Digest, Reference};

use crate::config::Upstream;
use crate::error::{Code, Error, Result};
use crate::http::{Service, blocking};
use crate::manifest::Manifest;
use crate::name::{Reference as Wanted, RepositoryName};
use crate::storage::session::Session;

/// Bytes handed to the disk, and to a client, at once.
const PIECE: usize = 256 << 10;
/// Chunks of the upstream in memory, per download.
const AHEAD: usize = 16;

type Flights = HashMap<(RepositoryName, Digest), Arc<OnceCell<Flight>>>;

/// The registries that are copied.
pub(crate) struct Upstreams {
    client: Client,
    all: Vec<Upstream>,
    flights: Mutex<Flights>,
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstreams").field("all", &self.all).finish_non_exhaustive()
    }
}

/// The repository that one of ours is a copy of.
#[derive(Debug)]
pub(crate) struct Source {
    name: RepositoryName,
    reference: Reference,
    credentials: Option<Credentials>,
}

/// A download in progress.
#[derive(Debug, Clone)]
struct Flight {
    session: Arc<Session>,
    size: u64,
    progress: watch::Receiver<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// So many bytes are in the file.
    Received(u64),
    /// All of it is there and is what its digest says.
    Done,
    Failed,
}

/// A blob that arrives while it is read.
#[derive(Debug)]
pub(crate) struct Arriving {
    flight: Flight,
    file: File,
}

impl Upstreams {
    /// Nothing when there is none.
    pub(crate) fn new(all: &[Upstream]) -> Option<Self> {
        if all.is_empty() {
            return None;
        }
        let insecure = all
            .iter()
            .filter(|upstream| upstream.plain)
            .filter_map(|upstream| upstream.registry.split('/').next().map(str::to_owned));
        let config = distribution::Config { insecure: insecure.collect(), ..distribution::Config::default() };
        let mut all = all.to_vec();
        // The longest prefix first: the first that matches is the one.
        all.sort_by_key(|upstream| std::cmp::Reverse(upstream.prefix.as_ref().map_or(0, String::len)));
        Some(Self { client: Client::new(config), all, flights: Mutex::default() })
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a repository is a copy of; nothing for one that is pushed to.
    pub(crate) fn source(&self, name: &RepositoryName) -> Option<Source> {
        self.all.iter().find_map(|upstream| {
            let rest = match &upstream.prefix {
                None => name.as_str(),
                Some(prefix) => name.as_str().strip_prefix(prefix.as_str())?.strip_prefix('/')?,
            };
            let reference = format!("{}/{rest}", upstream.registry).parse().ok()?;
            Some(Source { name: name.clone(), reference, credentials: upstream.credentials.clone() })
        })
    }

    /// Brings a manifest here, if it is not, and says which it is. Nothing when the upstream has none.
    ///
    /// # Errors
    /// What of the upstream's failures cannot be bridged by what is here.
    pub(crate) async fn manifest(
        &self,
        service: &Arc<Service>,
        source: &Source,
        wanted: &Wanted,
    ) -> Result<Option<Digest>> {
        let name = source.name.clone();
        let asked = wanted.clone();
        let here = blocking(service, move |service| {
            let look = || match service.storage.resolve(&name, &asked)? {
                Some(digest) => Ok(service.storage.manifest(&name, &digest)?.map(|stored| stored.digest)),
                None => Ok(None),
            };
            look().map_err(Error::io("read a manifest"))
        })
        .await?;
        let reference = match wanted {
            Wanted::Digest(digest) => {
                if here.is_some() {
                    return Ok(here);
                }
                source.reference.with_digest(*digest)
            }
            Wanted::Tag(tag) => {
                source.reference.with_tag(tag.as_str()).map_err(|e| Error::new(Code::ManifestInvalid, e.to_string()))?
            }
        };
        let fetched = self.fetch(service, source, wanted, here, reference).await;
        match (fetched, here) {
            (Err(failure), Some(here)) if !matches!(failure, distribution::Error::ManifestUnknown { .. }) => {
                tracing::warn!("{}:{wanted} is served as it was: {failure}", source.reference);
                Ok(Some(here))
            }
            (Err(failure), _) => match is_unknown(&failure) {
                true => Ok(None),
                false => Err(upstream_error(&failure)),
            },
            (Ok(fetched), _) => fetched,
        }
    }

    /// Asks the upstream what a reference is and fetches it when that is not what is here.
    async fn fetch(
        &self,
        service: &Arc<Service>,
        source: &Source,
        wanted: &Wanted,
        here: Option<Digest>,
        reference: Reference,
    ) -> std::result::Result<Result<Option<Digest>>, distribution::Error> {
        let (client, credentials) = (self.client.clone(), source.credentials.clone());
        let fetched = waiting(move || async move {
            if here.is_some() && client.digest(&reference, credentials.as_ref()).await? == here {
                return Ok(None);
            }
            client.manifest(&reference, credentials.as_ref()).await.map(Some)
        });
        let Some(fetched) = fetched.await? else { return Ok(Ok(here)) };
        let (name, tag) = (
            source.name.clone(),
            match wanted {
                Wanted::Tag(tag) => Some(tag.clone()),
                Wanted::Digest(_) => None,
            },
        );
        let stored = blocking(service, move |service| {
            let manifest = Manifest::parse(&fetched.descriptor.media_type, fetched.bytes)?;
            service.storage.put_copied(&name, &manifest, tag.as_ref())?;
            Ok(Some(manifest.digest))
        });
        Ok(stored.await)
    }

    /// The blob as it arrives, for one of its readers, and its size in bytes.
    ///
    /// # Errors
    /// `BLOB_UNKNOWN` when the upstream has none; 502 when it cannot be asked.
    pub(crate) async fn blob(
        &self,
        service: &Arc<Service>,
        source: &Source,
        digest: Digest,
    ) -> Result<(Arriving, u64)> {
        let key = (source.name.clone(), digest);
        let cell = Arc::clone(self.flights().entry(key.clone()).or_default());
        let begun = cell.get_or_try_init(|| self.begin(service, source, digest)).await;
        let flight = match begun {
            Ok(flight) => flight.clone(),
            Err(error) => {
                // Unless another request is at it by now.
                let mut flights = self.flights();
                if flights.get(&key).is_some_and(|other| !other.initialized()) {
                    flights.remove(&key);
                }
                return Err(error);
            }
        };
        let size = flight.size;
        let file = flight.session.reader().map_err(Error::io("read an upload"))?;
        Ok((Arriving { flight, file }, size))
    }

    /// Finds out how large a blob is and begins to download it.
    async fn begin(&self, service: &Arc<Service>, source: &Source, digest: Digest) -> Result<Flight> {
        let (client, reference, credentials) =
            (self.client.clone(), source.reference.clone(), source.credentials.clone());
        let blob = waiting(move || async move { client.blob(&reference, digest, credentials.as_ref()).await });
        let blob = blob.await.map_err(|failure| match is_unknown(&failure) {
            true => Error::new(Code::BlobUnknown, format!("neither this registry nor its upstream has {digest}")),
            false => upstream_error(&failure),
        })?;
        let size = blob.size();
        let name = source.name.clone();
        let session = blocking(service, move |service| {
            let session = service.uploads.begin(&service.storage, &name)?;
            if let Err(error) = service.uploads.room(&service.storage, &session, size) {
                service.uploads.cancel(&service.storage, &session).map_err(Error::io("remove an upload"))?;
                return Err(error);
            }
            Ok(session)
        })
        .await?;
        let (tell, progress) = watch::channel(Progress::Received(0));
        let flight = Flight { session: Arc::clone(&session), size, progress };
        let (service, key) = (Arc::clone(service), (source.name.clone(), digest));
        tokio::spawn(async move {
            let (chunks, arriving) = mpsc::channel(AHEAD);
            let (downloaded, stored) =
                tokio::join!(blob.download(chunks), store(&service, &session, digest, arriving, &tell));
            let done = match (downloaded, stored) {
                (Ok(()), Ok(())) => Progress::Done,
                (downloaded, stored) => {
                    let why = downloaded.err().map(|e| e.to_string()).or(stored.err().map(|e| e.to_string()));
                    tracing::error!("cannot copy {digest}: {}", why.unwrap_or_default());
                    let ended = Arc::clone(&session);
                    let _ = blocking(&service, move |service| {
                        service.uploads.cancel(&service.storage, &ended).map_err(Error::io("remove an upload"))
                    })
                    .await;
                    Progress::Failed
                }
            };
            // First out of the table: whoever comes now finds the blob, or begins anew.
            if let Some(upstreams) = &service.upstreams {
                upstreams.flights().remove(&key);
            }
            tell.send_replace(done);
        });
        Ok(flight)
    }
}

/// Waits for the client on a thread that may block: its futures stay where they were made.
async fn waiting<T: Send + 'static, F: Future<Output = T>>(make: impl FnOnce() -> F + Send + 'static) -> T {
    let runtime = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || runtime.block_on(make())).await;
    done.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

/// Takes what arrives into the session and makes it a blob.
async fn store(
    service: &Arc<Service>,
    session: &Arc<Session>,
    digest: Digest,
    mut arriving: mpsc::Receiver<Chunk>,
    tell: &watch::Sender<Progress>,
) -> Result<()> {
    let _turn = Arc::clone(&session.turn).lock_owned().await;
    loop {
        let (mut pieces, mut size, mut ended) = (Vec::<Bytes>::new(), 0, false);
        let mut next = arriving.recv().await;
        loop {
            match next {
                Some(Chunk::Data(bytes)) => {
                    size += bytes.len();
                    pieces.push(bytes);
                }
                Some(Chunk::End) => ended = true,
                // The download failed, and says why itself.
                None => return Err(Error::new(Code::BlobUploadInvalid, "the upstream broke off")),
            }
            if ended || size >= PIECE {
                break;
            }
            match arriving.try_recv() {
                Ok(chunk) => next = Some(chunk),
                Err(_) => break,
            }
        }
        session.touch();
        let kept = Arc::clone(session);
        blocking(service, move |_| kept.append(&pieces).map_err(Error::io("write an upload"))).await?;
        if ended {
            let uploaded = service.uploads.send(&service.storage, session, &digest).await?;
            let kept = Arc::clone(session);
            return blocking(service, move |service| {
                service.uploads.commit(&service.storage, &kept, &digest, uploaded)
            })
            .await;
        }
        tell.send_replace(Progress::Received(session.offset()));
    }
}

impl Arriving {
    /// Sends the bytes from `start` up to `end` as they come; the last byte of the blob only once all of it was checked.
    pub(crate) fn stream(self, start: u64, end: u64) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(2);
        let Flight { size, mut progress, .. } = self.flight;
        let file = Arc::new(self.file);
        tokio::spawn(async move {
            let mut next = start;
            while next < end {
                let now = *progress.borrow_and_update();
                let ready = match now {
                    Progress::Received(count) => count.min(size.saturating_sub(1)).min(end),
                    Progress::Done => end,
                    Progress::Failed => {
                        let _ = sender.send(Err(io::Error::other("the upstream broke off"))).await;
                        return;
                    }
                };
                if next >= ready {
                    if progress.changed().await.is_err() {
                        let _ = sender.send(Err(io::Error::other("the download ended"))).await;
                        return;
                    }
                    continue;
                }
                let length = usize::try_from(ready - next).unwrap_or(PIECE).min(PIECE);
                let from = Arc::clone(&file);
                let read = tokio::task::spawn_blocking(move || crate::http::body::read(&from, next, length)).await;
                let read = read.map_err(io::Error::other).flatten();
                next += length as u64;
                let failed = read.is_err();
                // A client that went away does not stop the download: others wait for it, or will ask.
                if sender.send(read).await.is_err() || failed {
                    return;
                }
            }
        });
        receiver
    }
}

fn is_unknown(failure: &distribution::Error) -> bool {
    use distribution::Error as E;
    matches!(failure, E::ManifestUnknown { .. } | E::NameUnknown { .. } | E::Status { status: 404, .. })
}

fn upstream_error(failure: &distribution::Error) -> Error {
    use distribution::Error as E;
    let text = format!("the upstream registry could not be asked: {failure}");
    match failure {
        E::TooManyRequests { .. } => Error::new(Code::TooManyRequests, text),
        E::Denied { .. } | E::Unauthorized { .. } => Error::new(Code::Denied, text),
        _ => Error::new(Code::Unknown, text).with_status(StatusCode::BAD_GATEWAY),
    }
}
