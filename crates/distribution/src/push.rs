//! Pushing an image: blobs in parallel, then manifests from the leaves up, the named one last.
//!
//! A name at the registry changes only after everything behind it is there.

use crate::auth::Credentials;
use crate::client::Client;
use crate::endpoint::Purpose;
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::payload::Payload;
use crate::repository::Repository;
use crate::source::ContentSource;
use crate::upload::{Upload, check_stored};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use types::{Digest, Kind, Reference};

/// Longest manifest or index pushed; registries refuse longer ones (distribution-spec, "Pushing Manifests").
const MANIFEST_MAX: u64 = 4 << 20;

/// What to push.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// Name at the registry: with a tag, or with the digest of the last document.
    pub reference: Reference,
    /// For the reference's registry.
    pub credentials: Option<Credentials>,
    /// Manifests and indexes, each after those it names. The last is what the reference will stand for.
    pub documents: Vec<Descriptor>,
    /// Configurations and layers.
    pub blobs: Vec<Descriptor>,
}

/// A blob moved on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushProgress {
    /// First 12 characters of the blob's digest.
    pub id: String,
    /// Where it stands.
    pub status: PushStatus,
}

/// Where a blob stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushStatus {
    /// `Preparing`
    Preparing,
    /// `Waiting` for others to finish.
    Waiting,
    /// `Pushing`, in bytes.
    Pushing {
        /// Bytes sent.
        current: u64,
        /// Bytes to send.
        total: u64,
    },
    /// `Retrying in n seconds`
    Retrying {
        /// Seconds until the next try, rounded up.
        seconds: u64,
    },
    /// `Pushed`
    Pushed,
    /// `Layer already exists`
    Exists,
    /// `Mounted from` another repository of the registry.
    Mounted(String),
}

impl PushStatus {
    /// Docker's words, without the figures.
    pub fn words(&self) -> String {
        match self {
            PushStatus::Preparing => "Preparing".to_owned(),
            PushStatus::Waiting => "Waiting".to_owned(),
            PushStatus::Pushing { .. } => "Pushing".to_owned(),
            PushStatus::Retrying { seconds: 1 } => "Retrying in 1 second".to_owned(),
            PushStatus::Retrying { seconds } => format!("Retrying in {seconds} seconds"),
            PushStatus::Pushed => "Pushed".to_owned(),
            PushStatus::Exists => "Layer already exists".to_owned(),
            PushStatus::Mounted(from) => format!("Mounted from {from}"),
        }
    }
}

type Tell = Arc<dyn Fn(PushProgress) + Send + Sync>;

impl Client {
    /// Pushes an image out of `source`. Dropping the future abandons the push; what was sent is not sent
    /// again by the next one.
    ///
    /// # Errors
    /// [`Error`], with Docker's words where clients match on them.
    pub async fn push<S: ContentSource>(
        &self,
        request: &PushRequest,
        source: Arc<S>,
        progress: impl Fn(PushProgress) + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let tell: Tell = Arc::new(progress);
        let reference = &request.reference;
        let Some(target) = request.documents.last() else {
            return Err(Error::Reference(reference.to_string(), "there is nothing to push".to_owned()));
        };
        let rest = format!("manifests/{}", target.digest);
        let (_, repository) =
            self.with_repository(reference, request.credentials.as_ref(), Purpose::Push, async |repository| {
                match repository.send("HEAD", &rest, &[], &Payload::empty(), &|_| ()).await {
                    Ok(_) | Err(Error::ManifestUnknown { .. } | Error::NameUnknown { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            })
            .await?;
        self.push_blobs(request, &repository, &source, &tell).await?;
        for (at, descriptor) in request.documents.iter().enumerate() {
            let last = at + 1 == request.documents.len();
            let name = match reference.tag() {
                Some(tag) if last => tag.to_owned(),
                _ => descriptor.digest.to_string(),
            };
            push_document(&repository, source.as_ref(), descriptor, &name).await?;
        }
        Ok(())
    }

    async fn push_blobs<S: ContentSource>(
        &self,
        request: &PushRequest,
        repository: &Arc<Repository>,
        source: &Arc<S>,
        tell: &Tell,
    ) -> Result<(), Error> {
        let domain = request.reference.domain();
        let slots = Arc::new(Semaphore::new(self.config().limits.parallel_uploads.max(1)));
        let mut seen = HashSet::new();
        // Dropped with this future: aborts every upload.
        let mut tasks = JoinSet::new();
        for descriptor in request.blobs.iter().filter(|blob| seen.insert(blob.digest)) {
            tell(PushProgress { id: descriptor.digest.short(), status: PushStatus::Preparing });
            let (client, descriptor, repository) = (self.clone(), descriptor.clone(), repository.clone());
            let (source, slots, tell, domain) = (source.clone(), slots.clone(), tell.clone(), domain.to_owned());
            tasks.spawn(async move {
                let id = descriptor.digest.short();
                let say = move |status| tell(PushProgress { id: id.clone(), status });
                if slots.available_permits() == 0 {
                    say(PushStatus::Waiting);
                }
                let closed = |_| Error::Sink { kind: Kind::Cancelled, message: "the push was abandoned".to_owned() };
                let _slot = slots.acquire_owned().await.map_err(closed)?;
                let origins = client.origins(&domain, &repository.path, &descriptor.digest, source.as_ref());
                let upload = Upload {
                    repository: &repository,
                    descriptor: &descriptor,
                    source: source.as_ref(),
                    sessions: &client.sessions,
                    origins,
                    tell: &say,
                };
                let status = upload.run().await?;
                client.holders.note(&domain, &repository.path, descriptor.digest);
                say(status);
                Ok::<(), Error>(())
            });
        }
        while let Some(result) = tasks.join_next().await {
            result.map_err(|e| Error::Sink { kind: Kind::Internal, message: format!("an upload ended: {e}") })??;
        }
        Ok(())
    }

    /// Repositories to mount a blob from: where it was seen, then where the source thinks it is.
    fn origins(&self, domain: &str, path: &str, digest: &Digest, source: &impl ContentSource) -> Vec<String> {
        let mut origins = self.holders.of(domain, digest);
        for named in source.origins(domain, digest) {
            if !origins.contains(&named) {
                origins.push(named);
            }
        }
        origins.retain(|origin| origin != path);
        origins.truncate(ORIGINS_MAX);
        origins
    }
}

/// Repositories tried for a mount.
const ORIGINS_MAX: usize = 2;

async fn push_document(
    repository: &Repository,
    source: &impl ContentSource,
    descriptor: &Descriptor,
    name: &str,
) -> Result<(), Error> {
    let bytes = read(source, descriptor).await?;
    let media_type = HeaderValue::from_str(&descriptor.media_type)
        .map_err(|_| Error::Reference(descriptor.digest.to_string(), "its media type is not printable".to_owned()))?;
    let headers = [(header::CONTENT_TYPE, media_type)];
    let rest = format!("manifests/{name}");
    let answer = repository.send("PUT", &rest, &headers, &Payload::Bytes(bytes), &|_| ()).await?;
    check_stored(&answer, "manifest", descriptor.digest)
}

/// Reads a document whole.
async fn read(source: &impl ContentSource, descriptor: &Descriptor) -> Result<Bytes, Error> {
    if descriptor.size > MANIFEST_MAX {
        return Err(Error::TooLarge { what: format!("manifest {}", descriptor.digest), limit: MANIFEST_MAX });
    }
    let failed = |kind, message| Error::Sink { kind, message };
    let mut chunks = source.open(descriptor, 0).await.map_err(|e| failed(e.kind, e.message))?;
    let mut out = BytesMut::new();
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk.map_err(|e| failed(Kind::Internal, format!("manifest {}: {e}", descriptor.digest)))?;
        out.extend_from_slice(&chunk);
    }
    if out.len() as u64 != descriptor.size {
        let (expected, actual) = (descriptor.size, out.len() as u64);
        return Err(failed(
            Kind::Internal,
            format!("manifest {} has {actual} bytes where {expected} are named", descriptor.digest),
        ));
    }
    Ok(out.freeze())
}
