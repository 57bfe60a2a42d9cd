//! Where caches are: a directory of the client's, which serves it on its session, or a repository of a registry.

use std::sync::Arc;

use buildkit::wire::content::{ReadContentRequest, ReadContentResponse};
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};
use store::Store;
use store::model::Descriptor;
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use types::{Digest, Kind, Reference};

use super::options;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::session::{Client, named};
use crate::solve::Build;

const READ: &str = "/containerd.services.content.v1.Content/Read";

/// A place for caches.
pub(crate) enum Remote {
    /// A directory of a client's.
    Local { client: Client, store: MetadataValue<tonic::metadata::Ascii> },
    /// A repository.
    Registry { host: Arc<dyn Host>, reference: Reference, session: Option<String> },
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { .. } => f.write_str("Local"),
            Self::Registry { reference, .. } => f.debug_tuple("Registry").field(reference).finish(),
        }
    }
}

impl Remote {
    pub(super) async fn local(build: &Build, path: &str) -> Result<Self> {
        let invalid = |_| {
            Error::new(
                Kind::Invalid,
                format!("the directory {path:?} of a build cache has a name that no client can send"),
            )
        };
        let store = MetadataValue::try_from(format!("local:{path}")).map_err(invalid)?;
        Self::of_session(build, None, store).await
    }

    /// An OCI layout that a client serves under a name.
    pub(crate) async fn layout(build: &Build, session: Option<&str>, name: &str) -> Result<Self> {
        let invalid =
            |_| Error::new(Kind::Invalid, format!("the OCI layout {name:?} has a name that no client can send"));
        let store = MetadataValue::try_from(format!("oci:{name}")).map_err(invalid)?;
        Self::of_session(build, session, store).await
    }

    async fn of_session(
        build: &Build,
        session: Option<&str>,
        store: MetadataValue<tonic::metadata::Ascii>,
    ) -> Result<Self> {
        let session = session.or(build.session.as_deref());
        let session = session.ok_or_else(|| Error::new(Kind::Invalid, "no session that has the content"))?;
        Ok(Self::Local { client: build.shared.sessions.get(session).await?, store })
    }

    pub(super) fn registry(build: &Build, name: &str) -> Result<Self> {
        let reference = options::reference(name)?;
        Ok(Self::Registry { host: Arc::clone(&build.shared.host), reference, session: build.session.clone() })
    }

    /// The manifest or index; in a directory the one of a digest.
    pub(super) async fn manifest(&self, digest: &str) -> Result<Vec<u8>> {
        match self {
            Self::Local { .. } => {
                let digest =
                    digest.parse().map_err(|_| Error::new(Kind::Invalid, format!("{digest:?} is no digest")))?;
                self.document(&digest, store::model::MAX_MANIFEST).await
            }
            Self::Registry { host, reference, session } => host.cache_manifest(reference, session.as_deref()).await,
        }
    }

    /// A manifest by its digest.
    pub(crate) async fn manifest_of(&self, digest: &Digest) -> Result<Vec<u8>> {
        match self {
            Self::Local { .. } => self.document(digest, store::model::MAX_MANIFEST).await,
            Self::Registry { host, reference, session } => {
                host.cache_manifest(&reference.clone().with_digest(*digest), session.as_deref()).await
            }
        }
    }

    /// A small blob whole.
    pub(crate) async fn document(&self, digest: &Digest, most: u64) -> Result<Vec<u8>> {
        let (chunks, mut received) = mpsc::channel::<Bytes>(8);
        let collecting = async move {
            let mut bytes = Vec::new();
            while let Some(chunk) = received.recv().await {
                if bytes.len() as u64 + chunk.len() as u64 > most {
                    return Err(Error::new(Kind::Invalid, format!("{digest} is larger than {most} bytes")));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes)
        };
        // What collects is gone when it has enough, and whoever sends notices.
        let (read, bytes) = tokio::join!(self.read(digest, chunks), collecting);
        let bytes = bytes?;
        read?;
        if format!("sha256:{}", faster_hex::hex_string(&Sha256::digest(&bytes))) != digest.to_string() {
            return Err(Error::new(Kind::Invalid, format!("what came for {digest} is something else")));
        }
        Ok(bytes)
    }

    /// A blob, piece by piece. A receiver that goes away ends it. Whoever receives checks it.
    pub(crate) async fn read(&self, digest: &Digest, chunks: mpsc::Sender<Bytes>) -> Result<()> {
        let (client, store) = match self {
            Self::Registry { host, reference, session } => {
                return host.cache_blob(reference, session.as_deref(), *digest, chunks).await;
            }
            Self::Local { client, store } => (client, store),
        };
        let question = ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 };
        let request = named(futures_util::stream::iter([question]), store);
        let answer = client.session().stream::<ReadContentRequest, ReadContentResponse>(READ, request).await;
        let mut pieces = answer.map_err(|status| refused(digest, status))?.into_inner();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|status| refused(digest, status))?;
            if chunks.send(piece.data.into()).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Writes blobs of the store, and then a manifest that names them.
    pub(super) async fn write(&self, store: &Arc<Store>, blobs: &[Descriptor], manifest: &Descriptor) -> Result<()> {
        match self {
            Self::Registry { host, reference, session } => {
                host.cache_push(reference, session.as_deref(), vec![manifest.clone()], blobs.to_vec()).await
            }
            Self::Local { .. } => {
                for blob in blobs.iter().chain([manifest]) {
                    self.write_blob(store, blob).await?;
                }
                Ok(())
            }
        }
    }

    async fn write_blob(&self, store: &Arc<Store>, blob: &Descriptor) -> Result<()> {
        let Self::Local { client, store: name } = self else { return Ok(()) };
        let (digest, store) = (blob.digest, Arc::clone(store));
        let open = move || Ok(Box::new(store.blobs().open(&digest)?) as _);
        client.send_blob(name, &digest, blob.size, open, |_| {}).await
    }
}

fn refused(digest: &Digest, status: tonic::Status) -> Error {
    Error::from(status).context(format_args!("{digest} in the client's directory"))
}
