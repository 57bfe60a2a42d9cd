//! Pulling an image: manifest, configuration, layers in parallel, then the documents.

use crate::auth::Credentials;
use crate::blob::{Download, Failure, Step};
use crate::client::Client;
use crate::endpoint::Purpose;
use crate::error::Error;
use crate::fetch::Manifest;
use crate::manifest::{ACCEPT, Descriptor, Document, ImageFacts, Rejection, choose};
use crate::parts::Parts;
use crate::progress::{LayerStatus, Progress};
use crate::repository::Repository;
use crate::sink::{Chunk, ContentSink, LayerStream, SinkError};
use bytes::Bytes;
use http::{HeaderValue, header};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use types::{DiffId, Digest, Kind, Platform, Reference};

/// Longest manifest or index.
const MANIFEST_MAX: u64 = 4 << 20;
/// Longest image configuration.
const CONFIG_MAX: u64 = 8 << 20;
/// Shortest time between two progress figures of a layer.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Image to pull; without tag and digest `latest` is meant.
    pub reference: Reference,
    /// Platform the user insists on; none takes the host's, and any platform of an image that has
    /// only one.
    pub platform: Option<Platform>,
    /// For the reference's registry.
    pub credentials: Option<Credentials>,
    /// What the reference stands for locally, to tell "newer" from "up to date".
    pub current: Option<Digest>,
}

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// What the reference stands for at the registry: an index or a manifest.
    pub target: Descriptor,
    /// The manifest of the platform; the target itself when that is no index.
    pub manifest: Descriptor,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<(Descriptor, DiffId)>,
    /// The image's own platform.
    pub platform: Platform,
    /// False when everything was here already.
    pub updated: bool,
}

/// What a reference stands for at the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Index or manifest.
    pub target: Descriptor,
    /// The platforms of an index, or of the one image.
    pub platforms: Vec<Platform>,
}

type Tell = Arc<dyn Fn(Progress) + Send + Sync>;

/// A fetched document.
pub(crate) struct Fetched {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Bytes,
    pub(crate) document: Document,
}

impl Client {
    /// Pulls an image into `sink`. Dropping the future abandons the pull; streams that have not
    /// seen their end are then to be thrown away by the sink.
    ///
    /// # Errors
    /// [`Error`], with Docker's words where clients match on them.
    pub async fn pull<S: ContentSink>(
        &self,
        request: &PullRequest,
        sink: Arc<S>,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Pulled, Error> {
        let tell: Tell = Arc::new(progress);
        let reference = request.reference.clone().with_default_tag();
        let name = reference.manifest_name();
        let (top, repository) = self.fetch_top(&reference, request.credentials.as_ref()).await?;
        tell(Progress::Pulling { path: reference.path().to_owned(), tag: name });

        let (index, manifest) = of_platform(&repository, top, request.platform.as_ref()).await?;
        let Document::Manifest { config, layers } = &manifest.document else {
            return Err(invalid(&repository, "index", "its entry is another index".to_owned()));
        };
        let documents: Vec<Manifest> = index.iter().chain([&manifest]).map(Fetched::served).collect();
        sink.admit(&documents).await.map_err(sink_error)?;
        let config_bytes = fetch_config(&repository, config).await?;
        let facts = ImageFacts::parse(&config_bytes, layers.len())
            .map_err(|why| invalid(&repository, "image configuration", why))?;
        if let Some(wanted) = request.platform.as_ref().filter(|_| index.is_none())
            && !wanted.matches(&facts.platform)
        {
            let platform = wanted.to_string();
            return Err(Error::WrongPlatform { reference: repository.familiar.clone(), platform });
        }

        let pairs: Vec<(Descriptor, DiffId)> = layers.iter().cloned().zip(facts.diff_ids).collect();
        let fetched = fetch_layers(self, &repository, &pairs, &sink, &tell).await?;
        for blob in pairs.iter().map(|(blob, _)| blob).chain([config]) {
            self.holders.note(reference.domain(), reference.path(), blob.digest);
        }

        let target = index.as_ref().unwrap_or(&manifest).descriptor.clone();
        let mut documents = vec![(config.clone(), config_bytes), (manifest.descriptor.clone(), manifest.bytes.clone())];
        documents.extend(index.map(|i| (i.descriptor, i.bytes)));
        let mut stored = false;
        for (descriptor, bytes) in documents {
            if !sink.has_document(&descriptor.digest) {
                stored = true;
                sink.document(&descriptor, bytes).await.map_err(sink_error)?;
            }
        }
        let updated = fetched || stored || request.current != Some(target.digest);
        tell(Progress::Digest(target.digest));
        tell(if updated { Progress::Downloaded(reference) } else { Progress::UpToDate(reference) });
        let (manifest, config) = (manifest.descriptor.clone(), config.clone());
        Ok(Pulled { target, manifest, config, layers: pairs, platform: facts.platform, updated })
    }

    /// Fetches the documents a pull would show its sink first ([`ContentSink::admit`]).
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn documents(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Manifest>, Error> {
        let reference = reference.clone().with_default_tag();
        let name = reference.manifest_name();
        let (top, repository) = self
            .with_repository(&reference, credentials, Purpose::Pull, async |repository| {
                fetch_manifest(repository, &name, reference.digest().copied(), None).await
            })
            .await?;
        let (index, manifest) = of_platform(&repository, top, platform).await?;
        Ok(index.iter().chain([&manifest]).map(Fetched::served).collect())
    }

    /// Asks what a reference stands for, without pulling it.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn resolve(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Resolved, Error> {
        let reference = reference.clone().with_default_tag();
        let (top, repository) = self.fetch_top(&reference, credentials).await?;
        let platforms = match &top.document {
            Document::Index(entries) => entries.iter().filter_map(|e| e.platform.clone()).collect(),
            Document::Manifest { config, layers } => {
                let bytes = fetch_config(&repository, config).await?;
                let facts = ImageFacts::parse(&bytes, layers.len())
                    .map_err(|why| invalid(&repository, "image configuration", why))?;
                vec![facts.platform]
            }
        };
        Ok(Resolved { target: top.descriptor, platforms })
    }

    /// Fetches what a reference stands for.
    async fn fetch_top(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<(Fetched, Arc<Repository>), Error> {
        let reference = self.pinned(reference, credentials).await?;
        let name = reference.manifest_name();
        self.with_repository(&reference, credentials, Purpose::Pull, async |repository| {
            fetch_manifest(repository, &name, reference.digest().copied(), None).await
        })
        .await
    }

    /// The reference by its digest, where the registry has hosts that may say what a tag stands for and others that
    /// may only be asked for content; as it is otherwise.
    pub(crate) async fn pinned(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Reference, Error> {
        if reference.digest().is_some() || !self.resolves_apart(reference.domain()).await? {
            return Ok(reference.clone());
        }
        let name = reference.manifest_name();
        let asked = self.with_repository(reference, credentials, Purpose::Resolve, async |repository| {
            fetch_manifest(repository, &name, None, None).await
        });
        Ok(reference.with_digest(asked.await?.0.descriptor.digest))
    }
}

impl Fetched {
    fn served(&self) -> Manifest {
        Manifest { descriptor: self.descriptor.clone(), bytes: self.bytes.clone() }
    }
}

/// The index, if `top` is one, and the manifest of a platform: the host's when none is asked for.
async fn of_platform(
    repository: &Arc<Repository>,
    top: Fetched,
    platform: Option<&Platform>,
) -> Result<(Option<Fetched>, Fetched), Error> {
    let Document::Index(entries) = &top.document else { return Ok((None, top)) };
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let chosen = choose(entries, &wanted).cloned().ok_or_else(|| Error::NoPlatform { platform: wanted.to_string() })?;
    let manifest = fetch_child(repository, &chosen).await?;
    Ok((Some(top), manifest))
}

fn invalid(repository: &Repository, what: &'static str, why: String) -> Error {
    Error::Document { what, reference: repository.familiar.clone(), why }
}

fn sink_error(error: SinkError) -> Error {
    Error::Sink { kind: error.kind, message: error.message }
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}

/// How a document is read: [`Document::parse`] or [`Document::parse_any`].
type Parse = fn(&[u8], Option<&str>) -> Result<(Document, String), Rejection>;

/// Fetches and checks an image's manifest or an index by tag or digest.
pub(crate) async fn fetch_manifest(
    repository: &Repository,
    name: &str,
    expected: Option<Digest>,
    media_type: Option<&str>,
) -> Result<Fetched, Error> {
    fetch_document(repository, name, expected, media_type, Document::parse).await
}

/// Fetches and checks a manifest or index by tag or digest.
pub(crate) async fn fetch_document(
    repository: &Repository,
    name: &str,
    expected: Option<Digest>,
    media_type: Option<&str>,
    parse: Parse,
) -> Result<Fetched, Error> {
    let headers = [(header::ACCEPT, HeaderValue::from_static(ACCEPT))];
    let answer = repository.get(&format!("manifests/{name}"), &headers, &|_| ()).await?;
    let text = |name: &str| answer.response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (content_type, served) = (text("content-type"), text("docker-content-digest"));
    let bytes = repository.transport.read_capped(answer.response, MANIFEST_MAX, "GET", &answer.url).await?;
    let digest = sha256(&bytes);
    if let Some(expected) = expected.filter(|e| *e != digest) {
        return Err(Error::Digest { what: "manifest", expected, actual: digest });
    }
    if let Some(served) = served.and_then(|s| s.parse::<Digest>().ok()).filter(|s| *s != digest) {
        return Err(Error::Digest { what: "manifest", expected: served, actual: digest });
    }
    let content_type = media_type.map(str::to_owned).or(content_type);
    let (document, media_type) = parse(&bytes, content_type.as_deref()).map_err(|rejection| match rejection {
        Rejection::Schema1 => Error::Schema1 { reference: repository.familiar.clone() },
        Rejection::Invalid(why) => invalid(repository, "manifest", why),
    })?;
    let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
    Ok(Fetched { descriptor, bytes, document })
}

/// Fetches the manifest an index entry names.
async fn fetch_child(repository: &Arc<Repository>, entry: &Descriptor) -> Result<Fetched, Error> {
    let name = entry.digest.to_string();
    let asked = repository.or_next(async |repository| {
        fetch_manifest(repository, &name, Some(entry.digest), Some(&entry.media_type)).await
    });
    let mut fetched = asked.await?.0;
    check_size(entry, fetched.descriptor.size)?;
    fetched.descriptor.platform = entry.platform.clone();
    Ok(fetched)
}

fn check_size(descriptor: &Descriptor, actual: u64) -> Result<(), Error> {
    if descriptor.size == actual {
        return Ok(());
    }
    Err(Error::Size { digest: descriptor.digest, expected: descriptor.size, actual })
}

pub(crate) async fn fetch_config(repository: &Arc<Repository>, config: &Descriptor) -> Result<Bytes, Error> {
    Ok(repository.or_next(async |repository| fetch_config_from(repository, config).await).await?.0)
}

async fn fetch_config_from(repository: &Repository, config: &Descriptor) -> Result<Bytes, Error> {
    if config.size > CONFIG_MAX {
        return Err(Error::TooLarge { what: "the image configuration".to_owned(), limit: CONFIG_MAX });
    }
    let answer = repository.get(&format!("blobs/{}", config.digest), &[], &|_| ()).await?;
    let bytes = repository.transport.read_capped(answer.response, CONFIG_MAX, "GET", &answer.url).await?;
    check_size(config, bytes.len() as u64)?;
    let actual = sha256(&bytes);
    if actual != config.digest {
        return Err(Error::Digest { what: "image configuration", expected: config.digest, actual });
    }
    Ok(bytes)
}

/// Fetches the layers that are missing; false when none was.
async fn fetch_layers<S: ContentSink>(
    client: &Client,
    repository: &Arc<Repository>,
    layers: &[(Descriptor, DiffId)],
    sink: &Arc<S>,
    tell: &Tell,
) -> Result<bool, Error> {
    let mut seen = HashSet::new();
    let mut missing = Vec::new();
    for (descriptor, diff_id) in layers {
        if !seen.insert(descriptor.digest) {
            continue;
        }
        let here = sink.has_layer(descriptor, diff_id);
        let status = if here { LayerStatus::AlreadyExists } else { LayerStatus::PullingFsLayer };
        tell(Progress::Layer { id: descriptor.digest.short(), status });
        if !here {
            missing.push((descriptor.clone(), *diff_id));
        }
    }
    let fetched = !missing.is_empty();
    let slots = Arc::new(Semaphore::new(client.config().limits.parallel_layers.max(1)));
    // Dropped with this future: aborts every download.
    let mut tasks = JoinSet::new();
    for (descriptor, diff_id) in missing {
        let layer = Layer { repository: repository.clone(), descriptor, diff_id, tell: tell.clone() };
        tasks.spawn(layer.fetch(sink.clone(), slots.clone()));
    }
    while let Some(result) = tasks.join_next().await {
        result.map_err(|e| Error::Sink { kind: Kind::Internal, message: format!("a layer's task ended: {e}") })??;
    }
    Ok(fetched)
}

/// Why a layer was not received.
struct Received {
    error: Error,
    /// What an earlier try left may be the reason.
    resumed: bool,
}

/// Lets progress figures through now and then.
#[derive(Default)]
struct Pace(Mutex<Option<Instant>>);

impl Pace {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

struct Layer {
    repository: Arc<Repository>,
    descriptor: Descriptor,
    diff_id: DiffId,
    tell: Tell,
}

impl Layer {
    fn say(&self, status: LayerStatus) {
        (self.tell)(Progress::Layer { id: self.descriptor.digest.short(), status });
    }

    async fn fetch<S: ContentSink>(self, sink: Arc<S>, slots: Arc<Semaphore>) -> Result<(), Error> {
        let slot = match slots.clone().try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                self.say(LayerStatus::Waiting);
                let closed = |_| Error::Sink { kind: Kind::Cancelled, message: "the pull was abandoned".to_owned() };
                slots.acquire_owned().await.map_err(closed)?
            }
        };
        let mut slot = Some(slot);
        if self.patch(sink.as_ref()).await {
            self.say(LayerStatus::PullComplete);
            return Ok(());
        }
        let mut attempt = self.receive(sink.as_ref(), &mut slot).await;
        if let Err(Received { error, resumed: true }) = &attempt {
            tracing::warn!(%error, layer = %self.descriptor.digest, "what was left of a layer is unusable: fetching all of it");
            attempt = self.receive(sink.as_ref(), &mut slot).await;
        }
        attempt.map_err(|failed| failed.error)?;
        self.say(LayerStatus::PullComplete);
        Ok(())
    }

    /// Lets the sink make the layer of what it has and of parts of the blob; false when it does not.
    async fn patch<S: ContentSink>(&self, sink: &S) -> bool {
        if self.descriptor.annotations.is_empty() {
            return false;
        }
        let (tell, total) = (self.tell.clone(), self.descriptor.size);
        let (id, pace) = (self.descriptor.digest.short(), Pace::default());
        let told = move |current| {
            if pace.is_due() {
                tell(Progress::Layer { id: id.clone(), status: LayerStatus::Downloading { current, total } });
            }
        };
        let parts = Parts::new(self.repository.clone(), self.descriptor.clone(), Box::new(told));
        match sink.patch(&self.descriptor, self.diff_id, parts).await {
            Ok(patched) => patched,
            Err(error) => {
                tracing::info!(%error, layer = %self.descriptor.digest, "fetching all of a layer");
                false
            }
        }
    }

    /// Fetches the layer, or the rest of it, into a stream of the sink's.
    async fn receive<S: ContentSink>(&self, sink: &S, slot: &mut Option<OwnedSemaphorePermit>) -> Result<(), Received> {
        let fresh = |error| Received { error, resumed: false };
        let opened = sink.layer(&self.descriptor, self.diff_id).await;
        let LayerStream { chunks, mut done, verifies, offset } = opened.map_err(|e| fresh(sink_error(e)))?;
        let offset = if verifies { offset } else { 0 };
        // Only content can be wrong because of what was left; a broken registry is broken either way.
        let stored = |error: SinkError| {
            let resumed = offset > 0 && error.kind == Kind::Invalid;
            Received { error: sink_error(error), resumed }
        };
        tokio::select! {
            result = self.download(&chunks, verifies, offset) => match result {
                Ok(()) => {}
                Err(Failure::Registry(error)) => return Err(fresh(error)),
                Err(Failure::Abandoned) => match done.await {
                    Err(error) => return Err(stored(error)),
                    Ok(()) => return Err(fresh(self.abandoned())),
                },
            },
            result = &mut done => match result {
                Err(error) => return Err(stored(error)),
                Ok(()) => return Err(fresh(self.abandoned())),
            },
        }
        // Let the next layer download while this one's tail is unpacked.
        drop(slot.take());
        self.say(LayerStatus::DownloadComplete);
        let size = self.descriptor.size;
        self.say(LayerStatus::Extracting { current: size, total: size });
        drop(chunks);
        done.await.map_err(stored)
    }

    /// The error of a sink that stopped before the end and calls that success.
    fn abandoned(&self) -> Error {
        let message = format!("the store stopped taking layer {} before its end", self.descriptor.digest);
        Error::Sink { kind: Kind::Internal, message }
    }

    async fn download(&self, chunks: &mpsc::Sender<Chunk>, verifies: bool, offset: u64) -> Result<(), Failure> {
        let total = self.descriptor.size;
        let pace = Pace::default();
        let tell = |step| match step {
            Step::Received(current) => {
                if pace.is_due() {
                    self.say(LayerStatus::Downloading { current, total });
                }
            }
            Step::Retrying(wait) => {
                let seconds = wait.as_millis().div_ceil(1000);
                self.say(LayerStatus::Retrying { seconds: u64::try_from(seconds).unwrap_or(u64::MAX) });
            }
        };
        Download::new(self.repository.clone(), &self.descriptor, chunks, !verifies, offset).run(&tell).await?;
        self.say(LayerStatus::VerifyingChecksum);
        chunks.send(Chunk::End).await.map_err(|_| Failure::Abandoned)
    }
}
