//! `docker push`: from the store to a registry, told step by step in Docker's words.
//!
//! An index goes as a whole when all of it is here. When parts are missing, as after a pull for one
//! platform, the one manifest that is complete goes in its place, and the client is told so.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use distribution::{Chunk, Chunks, ContentSource, Credentials, PushProgress, PushRequest, PushStatus, SinkError};
use docker_types::auth::AuthConfig;
use docker_types::image::DistributionInspect;
use docker_types::message::JsonMessage;
use serde_json::json;
use store::Store;
use store::model::{Descriptor, Document};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use types::{Digest, Kind, Platform, Reference};

use super::content::{Image, oci_descriptor, signed};
use super::pull::credentials;
use super::telling::{Teller, telling};
use super::{Images, content};
use crate::AnyStream;
use crate::engine::Inner;
use crate::error::{Result, fail};
use crate::facade::PushOptions;

/// Bytes read from the disk at a time.
const CHUNK: usize = 256 * 1024;
/// Chunks on their way between disk and socket.
const QUEUE: usize = 4;

/// What goes to the registry for one name.
struct Plan {
    request: PushRequest,
    /// The index that a single manifest stands for, with that manifest.
    instead: Option<(Descriptor, Descriptor)>,
    target: Descriptor,
    image: Arc<Image>,
}

impl Images {
    /// Push a tag, or every tag of a repository.
    ///
    /// # Errors
    /// Invalid for a name that cannot be pushed; everything else is the stream's last message.
    pub(crate) async fn push(inner: &Arc<Inner>, options: PushOptions) -> Result<AnyStream<JsonMessage>> {
        let reference: Reference = options.name.parse().map_err(|e| fail!(Invalid, "{e}"))?;
        if reference.digest().is_some() {
            return Err(fail!(Invalid, "cannot push a digest reference"));
        }
        let reference = match &options.tag {
            Some(tag) => reference.with_tag(tag).map_err(|e| fail!(Invalid, "{e}"))?,
            None => reference,
        };
        let inner = Arc::clone(inner);
        telling(async move |teller: Teller| push(&inner, reference, options, teller).await).await
    }

    /// Push what a build made; all of it is in the store.
    ///
    /// # Errors
    /// Those of the registry, in its words.
    pub(crate) async fn push_built(
        inner: &Arc<Inner>,
        push: build::host::Push,
        auth: Option<AuthConfig>,
    ) -> Result<()> {
        let build::host::Push { ingest, target, reference, by_digest, moved, cancel, .. } = push;
        let name = reference.clone();
        let reference = match by_digest {
            true => format!("{}@{}", reference.name(), target.digest).parse().map_err(|e| fail!(Invalid, "{e}"))?,
            false => reference,
        };
        let (store, whole) = (Arc::clone(&inner.images.store), target);
        let parts = inner.blocking("read an image", move || complete(&store, &whole)).await?;
        let parts = parts.ok_or_else(|| fail!(Internal, "content of {} is not in the store", name.familiar()))?;
        let request = PushRequest {
            reference,
            credentials: auth.map(credentials),
            documents: parts.documents.iter().map(descriptor).collect(),
            blobs: parts.blobs.iter().map(descriptor).collect(),
        };
        let source = Source::new(inner, &name, request.credentials.clone());
        let sent = std::sync::Mutex::new(std::collections::HashMap::<String, u64>::new());
        let told = move |step: PushProgress| {
            if let PushStatus::Pushing { current, .. } = step.status {
                let mut sent = sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let before = sent.insert(step.id, current).unwrap_or(0);
                moved(current.saturating_sub(before));
            }
        };
        let (client, runtime) = (inner.images.client.clone(), Handle::current());
        // As for pulls: the client's future stays on one thread.
        let pushed = inner.blocking("push an image", move || {
            runtime.block_on(async {
                tokio::select! {
                    pushed = client.push(&request, Arc::new(source), told) => Ok(pushed?),
                    () = cancel.cancelled() => Err(fail!(Cancelled, "context canceled")),
                }
            })
        });
        pushed.await?;
        drop(ingest);
        inner.images.publish(inner, "push", &name.familiar(), &name.familiar_name(), None);
        Ok(())
    }

    /// What a registry says of a name, without pulling it.
    ///
    /// # Errors
    /// Not found, denied and the like, in the registry's words.
    pub(crate) async fn distribution(
        inner: &Arc<Inner>,
        name: &str,
        auth: Option<AuthConfig>,
    ) -> Result<DistributionInspect> {
        let reference: Reference = name.parse().map_err(|e| fail!(Invalid, "{e}"))?;
        let (client, auth) = (inner.images.client.clone(), auth.map(credentials));
        let runtime = Handle::current();
        // As for pulls: the client's future stays on one thread.
        let asked =
            inner.blocking("ask a registry", move || Ok(runtime.block_on(client.resolve(&reference, auth.as_ref()))?));
        let resolved = asked.await?;
        let target = &resolved.target;
        let descriptor = Descriptor::new(target.media_type.clone(), target.digest, target.size);
        Ok(DistributionInspect {
            descriptor: oci_descriptor(&descriptor, None),
            platforms: resolved.platforms.iter().map(Into::into).collect(),
        })
    }

    /// The names to push: the one, or all of a repository.
    fn pushed(&self, reference: &Reference) -> Result<Vec<(Arc<Image>, Reference)>> {
        let index = self.index();
        let found = if reference.tag().is_some() {
            let entry = index.get(&reference.to_string());
            let image = entry.and_then(|entry| index.image(&entry.record.target.digest));
            image.map(|image| (Arc::clone(image), reference.clone())).into_iter().collect()
        } else {
            index.tags_of(reference)
        };
        if found.is_empty() {
            let name = reference.familiar_name();
            return Err(match reference.tag() {
                Some(_) => fail!(NotFound, "An image does not exist locally with the tag: {name}"),
                None => fail!(NotFound, "An image does not exist locally with the name: {name}"),
            });
        }
        Ok(found)
    }
}

async fn push(inner: &Arc<Inner>, reference: Reference, options: PushOptions, teller: Teller) -> Result<()> {
    teller.say(JsonMessage::status(format!("The push refers to repository [{}]", reference.name())));
    for (image, name) in inner.images.pushed(&reference)? {
        push_one(inner, image, name, &options, &teller).await?;
    }
    Ok(())
}

/// What builders put into registries and take from there beside images.
impl Images {
    /// Sends blobs of the store to a registry, and then documents; the last is what the name will stand for.
    ///
    /// # Errors
    /// Those of the registry, in its words; content that is not here.
    pub(crate) async fn push_content(
        inner: &Arc<Inner>,
        reference: Reference,
        auth: Option<AuthConfig>,
        documents: &[Descriptor],
        blobs: &[Descriptor],
    ) -> Result<()> {
        let request = PushRequest {
            reference,
            credentials: auth.map(credentials),
            documents: documents.iter().map(descriptor).collect(),
            blobs: blobs.iter().map(descriptor).collect(),
        };
        let source = Arc::new(Source {
            store: Arc::clone(&inner.images.store),
            inner: Arc::clone(inner),
            domain: request.reference.domain().to_owned(),
            credentials: request.credentials.clone(),
        });
        let (client, runtime) = (inner.images.client.clone(), Handle::current());
        // As for pulls: the client's future stays on one thread.
        inner.blocking("push", move || Ok(runtime.block_on(client.push(&request, source, |_| ()))?)).await
    }

    /// A manifest or index of a registry, of whatever kind.
    ///
    /// # Errors
    /// Not found, denied and the like, in the registry's words.
    pub(crate) async fn remote_manifest(
        &self,
        inner: &Arc<Inner>,
        reference: Reference,
        auth: Option<AuthConfig>,
    ) -> Result<Bytes> {
        let (client, auth, runtime) = (self.client.clone(), auth.map(credentials), Handle::current());
        let asked =
            inner.blocking("ask a registry", move || Ok(runtime.block_on(client.manifest(&reference, auth.as_ref()))?));
        Ok(asked.await?.bytes)
    }

    /// A blob of a repository, piece by piece.
    ///
    /// # Errors
    /// As [`Images::remote_manifest`].
    pub(crate) async fn remote_blob(
        &self,
        inner: &Arc<Inner>,
        reference: Reference,
        auth: Option<AuthConfig>,
        digest: Digest,
        pieces: mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let (client, auth, runtime) = (self.client.clone(), auth.map(credentials), Handle::current());
        let found = inner.blocking("ask a registry", move || {
            Ok(runtime.block_on(client.blob(&reference, digest, auth.as_ref()))?)
        });
        let blob = found.await?;
        let (chunks, mut received) = mpsc::channel(QUEUE);
        let download = tokio::spawn(blob.download(chunks));
        while let Some(chunk) = received.recv().await {
            match chunk {
                Chunk::Data(bytes) if pieces.send(bytes.clone()).await.is_ok() => {}
                _ => break,
            }
        }
        drop(received);
        Ok(download.await.map_err(|e| fail!(Internal, "a download was interrupted: {e}"))??)
    }
}

async fn push_one(
    inner: &Arc<Inner>,
    image: Arc<Image>,
    name: Reference,
    options: &PushOptions,
    teller: &Teller,
) -> Result<()> {
    let images = &inner.images;
    let (store, platform, auth) = (Arc::clone(&images.store), options.platform.clone(), options.auth.clone());
    let (held, reference) = (Arc::clone(&image), name.clone());
    let plan = inner.blocking("read an image", move || plan(&store, held, reference, platform.as_ref())).await?;
    let request = PushRequest { credentials: auth.map(credentials), ..plan.request };
    let source = Source::new(inner, &name, request.credentials.clone());
    let source = Arc::new(source);
    let told = teller.clone();
    images.client.push(&request, source, move |step| tell(&told, step)).await?;
    let tag = name.tag().unwrap_or_default();
    let target = &plan.target;
    teller.say(JsonMessage::status(format!("{tag}: digest: {} size: {}", target.digest, target.size)));
    teller.say(JsonMessage::aux(json!({"Tag": tag, "Digest": target.digest.to_string(), "Size": target.size})));
    if let Some((index, manifest)) = &plan.instead {
        teller.say(JsonMessage::aux(json!({
            "manifestPushedInsteadOfIndex": true,
            "originalIndex": oci_descriptor(index, None),
            "selectedManifest": oci_descriptor(manifest, manifest.platform.as_ref()),
        })));
    }
    images.publish(inner, "push", &name.familiar(), &name.familiar_name(), Some(&plan.image));
    Ok(())
}

fn tell(teller: &Teller, step: PushProgress) {
    let words = step.status.words();
    match step.status {
        PushStatus::Pushing { current, total } => {
            teller.figure(JsonMessage::progress(step.id, words, signed(current), signed(total)));
        }
        _ => teller.say(JsonMessage::part(step.id, words)),
    }
}

/// Everything that must be at the registry for `reference`.
///
/// # Errors
/// Not found when content is missing or the platform is.
fn plan(store: &Store, image: Arc<Image>, reference: Reference, platform: Option<&Platform>) -> Result<Plan> {
    let whole = image.target.clone();
    let mut target = whole.clone();
    let mut parts = None;
    if let Some(platform) = platform {
        let (variant, body) = image.require(&reference.familiar(), platform)?;
        target = Descriptor { platform: Some(variant.platform(body)), ..variant.descriptor.clone() };
    } else {
        parts = complete(store, &target)?;
        if parts.is_none() {
            let host = Platform::host();
            let mut here: Vec<&content::Variant> = Vec::new();
            for (variant, _) in image.bodies() {
                if complete(store, &variant.descriptor)?.is_some() {
                    here.push(variant);
                }
            }
            let of_host = |variant: &&&content::Variant| {
                variant.body.as_ref().is_some_and(|body| host.matches(&variant.platform(body)))
            };
            let chosen = here.iter().find(of_host).or(here.first()).ok_or_else(|| {
                let name = reference.familiar();
                fail!(NotFound, "content of image {name} is missing: pull it again before pushing it")
            })?;
            target = chosen.descriptor.clone();
        }
    }
    let parts = match parts {
        Some(parts) => parts,
        None => complete(store, &target)?.ok_or_else(|| {
            let name = reference.familiar();
            fail!(NotFound, "content of image {name} is missing: pull it again before pushing it")
        })?,
    };
    let instead = (target.digest != whole.digest && platform.is_none()).then(|| (whole, target.clone()));
    let request = PushRequest {
        reference,
        credentials: None,
        documents: parts.documents.iter().map(descriptor).collect(),
        blobs: parts.blobs.iter().map(descriptor).collect(),
    };
    Ok(Plan { request, instead, target, image })
}

/// What a target leads to.
struct Parts {
    documents: Vec<Descriptor>,
    blobs: Vec<Descriptor>,
}

/// Everything behind `target`; `None` when something of it is not here.
fn complete(store: &Store, target: &Descriptor) -> Result<Option<Parts>> {
    let walked = match store::image::walk(store, target) {
        Err(store::Error::NoBlob(_)) => return Ok(None),
        other => other?,
    };
    let mut parts = Parts { documents: Vec::new(), blobs: Vec::new() };
    let here = |descriptor: &Descriptor| walked.iter().any(|(known, _)| known.digest == descriptor.digest);
    for (descriptor, document) in &walked {
        match document {
            Document::Index(index) => {
                if !index.manifests.iter().all(here) {
                    return Ok(None);
                }
            }
            Document::Manifest(manifest) => {
                for part in manifest.layers.iter().chain([&manifest.config]) {
                    if store.blobs().size(&part.digest).is_err() {
                        return Ok(None);
                    }
                    parts.blobs.push(part.clone());
                }
            }
        }
        parts.documents.push(descriptor.clone());
    }
    // Found from the top down; a registry wants what a document names before the document.
    parts.documents.reverse();
    Ok(Some(parts))
}

fn descriptor(from: &Descriptor) -> distribution::Descriptor {
    let plain = distribution::Descriptor::new(from.media_type.clone(), from.digest, from.size);
    distribution::Descriptor { platform: from.platform.clone(), ..plain }
}

/// Gives what the store holds.
struct Source {
    store: Arc<Store>,
    inner: Arc<Inner>,
    /// The registry that is pushed to, and who asks it.
    domain: String,
    credentials: Option<Credentials>,
}

impl ContentSource for Source {
    async fn open(&self, descriptor: &distribution::Descriptor, offset: u64) -> std::result::Result<Chunks, SinkError> {
        let (store, digest, size) = (Arc::clone(&self.store), descriptor.digest, descriptor.size);
        if store.blobs().is_released(&digest) {
            return self.fetch(digest, size, offset).await;
        }
        let (chunks, received) = mpsc::channel(QUEUE);
        let opened = tokio::task::spawn_blocking(move || {
            let failed = |kind, message| SinkError { kind, message };
            let mut blob = store.blobs().open(&digest).map_err(|e| failed(e.kind(), e.to_string()))?;
            if blob.size() != size {
                let actual = blob.size();
                let message =
                    format!("blob {digest} has {actual} bytes where the manifest names {size}: it cannot be pushed");
                return Err(failed(Kind::Internal, message));
            }
            blob.skip(offset).map_err(|e| failed(Kind::Internal, format!("blob {digest}: {e}")))?;
            Ok(blob)
        });
        let interrupted = |e: tokio::task::JoinError| SinkError { kind: Kind::Internal, message: e.to_string() };
        let blob = opened.await.map_err(interrupted)??;
        tokio::task::spawn_blocking(move || send(blob, &chunks));
        Ok(received)
    }

    fn origins(&self, domain: &str, digest: &Digest) -> Vec<String> {
        let names = self.inner.images.holding(digest).into_iter().filter(|name| name.domain() == domain);
        names.map(|name| name.path().to_owned()).collect()
    }
}

impl Source {
    fn new(inner: &Arc<Inner>, name: &Reference, credentials: Option<Credentials>) -> Self {
        Self {
            store: Arc::clone(&inner.images.store),
            inner: Arc::clone(inner),
            domain: name.domain().to_owned(),
            credentials,
        }
    }

    /// A blob that is not here, from a registry that it came from.
    async fn fetch(&self, digest: Digest, size: u64, offset: u64) -> std::result::Result<Chunks, SinkError> {
        let names: Vec<(Reference, Option<Credentials>)> = self
            .inner
            .images
            .holding(&digest)
            .into_iter()
            .map(|name| {
                let credentials = self.credentials.clone().filter(|_| name.domain() == self.domain);
                (name, credentials)
            })
            .collect();
        let (client, runtime) = (self.inner.images.client.clone(), Handle::current());
        // The client's future stays on one thread.
        let asked = tokio::task::spawn_blocking(move || {
            names.into_iter().find_map(|(name, credentials)| {
                match runtime.block_on(client.blob(&name, digest, credentials.as_ref())) {
                    Ok(blob) => {
                        tracing::info!(%digest, from = %name.familiar_name(), "fetching a blob that is not here, to push it");
                        Some(blob).filter(|blob| blob.size() == size)
                    }
                    Err(error) => {
                        tracing::debug!(%error, %digest, "a blob that is not here");
                        None
                    }
                }
            })
        });
        let Ok(Some(blob)) = asked.await else {
            self.store.blobs().miss(&digest);
            let error = store::Error::Released(digest);
            return Err(SinkError { kind: error.kind(), message: error.to_string() });
        };
        let store = Arc::clone(&self.store);
        let (whole, mut fetched) = mpsc::channel(QUEUE);
        let (chunks, received) = mpsc::channel(QUEUE);
        let download = tokio::spawn(blob.checked().download(whole));
        tokio::spawn(async move {
            let mut skip = offset;
            while let Some(chunk) = fetched.recv().await {
                let Chunk::Data(mut data) = chunk else { return };
                let skipped = usize::try_from(skip).map_or(data.len(), |skip| skip.min(data.len()));
                skip -= skipped as u64;
                if chunks.send(Ok(data.split_off(skipped))).await.is_err() {
                    return;
                }
            }
            // Another pull brings it, whatever is wrong with this way.
            store.blobs().miss(&digest);
            let why = match download.await {
                Ok(Err(error)) => error.to_string(),
                _ => "fetching it from its registry ended early".to_owned(),
            };
            let _ = chunks.send(Err(io::Error::other(why))).await;
        });
        Ok(received)
    }
}

/// Read until the end, an error, or nobody wants more.
fn send(mut file: impl Read, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut buffer = vec![0; CHUNK];
        let read = match file.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) => {
                let _ = chunks.blocking_send(Err(error));
                return;
            }
        };
        buffer.truncate(read);
        if chunks.blocking_send(Ok(Bytes::from(buffer))).is_err() {
            return;
        }
    }
}

impl Images {
    /// Names of images with this blob, one of each repository.
    fn holding(&self, digest: &Digest) -> Vec<Reference> {
        let index = self.index();
        let mut names: Vec<Reference> = Vec::new();
        for image in index.images() {
            let holds = |body: &content::Body| {
                body.manifest.config.digest == *digest || body.manifest.layers.iter().any(|l| l.digest == *digest)
            };
            if image.bodies().any(|(_, body)| holds(body)) {
                names.extend(index.names_of(&image.id()).references);
            }
        }
        let repository = |name: &Reference| (name.domain().to_owned(), name.path().to_owned());
        names.sort_by_cached_key(repository);
        names.dedup_by_key(|name| repository(name));
        names
    }
}
