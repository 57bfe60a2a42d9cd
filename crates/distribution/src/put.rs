//! Putting one manifest or index into a registry, with the blobs it names brought from another repository there:
//! mounted, or copied through here where the registry does not mount.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use types::{Digest, Kind, Reference};

use crate::auth::Credentials;
use crate::blob::{Download, Failure};
use crate::client::Client;
use crate::endpoint::Purpose;
use crate::error::Error;
use crate::manifest::{Descriptor, Document, Rejection};
use crate::payload::Payload;
use crate::pull::sha256;
use crate::push::PushRequest;
use crate::repository::Repository;
use crate::sink::{Chunk, SinkError};
use crate::source::{Chunks, ContentSource};

/// Chunks of a copied blob under way.
const QUEUE: usize = 4;

/// What to put.
#[derive(Debug, Clone)]
pub struct PutRequest {
    /// Its name: with a tag, or with its own digest.
    pub reference: Reference,
    /// For the registry.
    pub credentials: Option<Credentials>,
    /// Type of the document.
    pub media_type: String,
    /// The manifest or index.
    pub document: Bytes,
    /// A repository of the same registry that has the blobs; without it they are where they are needed.
    pub from: Option<Reference>,
}

impl Client {
    /// Puts a manifest of any kind or an index; gives its digest.
    ///
    /// # Errors
    /// [`Error::Document`] for what is neither; [`Error::Reference`] for a repository of another registry;
    /// otherwise as [`Client::push`].
    pub async fn put(&self, request: PutRequest) -> Result<Digest, Error> {
        let PutRequest { reference, credentials, media_type, document, from } = request;
        let familiar = reference.familiar();
        let refused = |why: String| Error::Document { what: "manifest", reference: familiar.clone(), why };
        let (parsed, media_type) =
            Document::parse_any(&document, Some(&media_type)).map_err(|rejection| match rejection {
                Rejection::Schema1 => Error::Schema1 { reference: familiar.clone() },
                Rejection::Invalid(why) => refused(why),
            })?;
        let digest = sha256(&document);
        if let Some(named) = reference.digest().filter(|named| **named != digest) {
            return Err(refused(format!("its digest is {digest}, not {named} as its name says")));
        }
        let (blobs, from) = match (parsed, from) {
            (Document::Manifest { config, layers }, Some(from)) => {
                if from.domain() != reference.domain() {
                    let (one, other) = (from.domain(), reference.domain());
                    let why = format!("its blobs cannot come from a different registry: {one} != {other}");
                    return Err(Error::Reference(familiar, why));
                }
                let asked = self.with_repository(&from, credentials.as_ref(), Purpose::Pull, async |repository| {
                    let rest = format!("manifests/{digest}");
                    match repository.send("HEAD", &rest, &[], &Payload::empty(), &|_| ()).await {
                        // Its blobs may be there without it.
                        Ok(_) | Err(Error::ManifestUnknown { .. }) => Ok(()),
                        Err(error) => Err(error),
                    }
                });
                (layers.into_iter().chain([config]).collect(), Some((from.path().to_owned(), asked.await?.1)))
            }
            _ => (Vec::new(), None),
        };
        let size = document.len() as u64;
        let documents = vec![Descriptor::new(media_type, digest, size)];
        let request = PushRequest { reference, credentials, documents, blobs };
        self.push(&request, Arc::new(Relay { digest, document, from }), |_| ()).await?;
        Ok(digest)
    }
}

/// Gives the document, and blobs out of the repository they are in.
struct Relay {
    digest: Digest,
    document: Bytes,
    from: Option<(String, Arc<Repository>)>,
}

impl ContentSource for Relay {
    async fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<Chunks, SinkError> {
        let (chunks, received) = mpsc::channel(QUEUE);
        if descriptor.digest == self.digest {
            // The queue is empty and its end is here: it takes one.
            let _ = chunks.try_send(Ok(self.document.clone()));
            return Ok(received);
        }
        let missing = || SinkError { kind: Kind::NotFound, message: format!("blob {} is missing", descriptor.digest) };
        let (_, repository) = self.from.as_ref().ok_or_else(missing)?;
        tokio::spawn(copy(repository.clone(), descriptor.clone(), offset, chunks));
        Ok(received)
    }

    fn origins(&self, _domain: &str, _digest: &Digest) -> Vec<String> {
        self.from.iter().map(|(path, _)| path.clone()).collect()
    }
}

/// Sends a blob from `offset` on. The registry that takes it checks its digest.
async fn copy(repository: Arc<Repository>, blob: Descriptor, offset: u64, chunks: mpsc::Sender<io::Result<Bytes>>) {
    let (sender, mut arriving) = mpsc::channel(QUEUE);
    let pass = async {
        while let Some(Chunk::Data(bytes)) = arriving.recv().await {
            if chunks.send(Ok(bytes)).await.is_err() {
                // Whoever wanted it has left; so does the download.
                arriving.close();
                return;
            }
        }
    };
    let download = async {
        let sender = sender;
        Download::new(repository, &blob, &sender, false, offset).run(&|_| ()).await
    };
    if let (Err(Failure::Registry(error)), ()) = tokio::join!(download, pass) {
        let _ = chunks.send(Err(io::Error::other(error.to_string()))).await;
    }
}
