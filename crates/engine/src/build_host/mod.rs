//! The engine as the builder sees it: images to build upon, processes, names for what was built.

mod step;
mod web;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use build::host::{BaseImage, Ended, Fetched, Host, Pending, Push, Run, WantedImage};
use build::{Builder, Error as BuildError};
use bytes::Bytes;
use docker_types::auth::AuthConfig;
use state::{Durability, Op};
use store::model::{Descriptor, Document, MAX_CONFIG, MAX_MANIFEST};
use store::{Ingest, Store};
use tokio::sync::mpsc;
use types::{DiffId, Digest, Kind, Reference};

use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::facade::PullOptions;
use crate::image::Images;

impl From<Error> for BuildError {
    fn from(error: Error) -> Self {
        BuildError::new(error.kind(), error.to_string())
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        Error::new(error.kind(), error.to_string())
    }
}

/// What the builder holds of the engine: nothing that would keep it open.
struct EngineHost {
    inner: Weak<Inner>,
    store: Arc<Store>,
    work: PathBuf,
    secrets: PathBuf,
    places: PathBuf,
}

/// Opens the builder of an engine.
///
/// # Errors
/// That of the file system.
pub(crate) fn open(
    inner: &Arc<Inner>,
    results: &[(String, String)],
    builds: &[(String, String)],
) -> Result<Arc<Builder>> {
    let host = EngineHost {
        inner: Arc::downgrade(inner),
        store: Arc::clone(inner.images.store()),
        work: inner.config.data_root.join("build"),
        secrets: inner.config.exec_root.join("build"),
        places: inner.images.places().to_owned(),
    };
    let documents = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
    Ok(Builder::open(Arc::new(host), &documents(results), &documents(builds), &inner.config.builder)?)
}

impl EngineHost {
    fn inner(&self) -> build::Result<Arc<Inner>> {
        self.inner.upgrade().ok_or_else(|| BuildError::new(Kind::Unavailable, "the engine is shutting down"))
    }
}

impl Host for EngineHost {
    fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn work(&self) -> &Path {
        &self.work
    }

    fn secrets(&self) -> &Path {
        &self.secrets
    }

    fn places(&self) -> Option<&Path> {
        Some(&self.places)
    }

    fn gateway(&self) -> Option<std::net::IpAddr> {
        let inner = self.inner.upgrade()?;
        let bridge = inner.networks.named(crate::network::BRIDGE)?;
        let spec = inner.networks.fabric().network(&bridge.id)?;
        spec.subnets.iter().find_map(|subnet| subnet.gateway)
    }

    fn layers_of_images(&self) -> HashSet<DiffId> {
        self.inner.upgrade().map(|inner| inner.images.layers()).unwrap_or_default()
    }

    fn collect(&self) -> Pending<'_, ()> {
        Box::pin(async {
            let inner = self.inner()?;
            inner.images.sweep(&inner).await;
            Ok(())
        })
    }

    fn image<'a>(&'a self, wanted: &'a WantedImage) -> Pending<'a, BaseImage> {
        Box::pin(async {
            let inner = self.inner()?;
            let name = wanted.reference.to_string();
            if !wanted.fresh {
                match inner.images.resolve(&name, wanted.platform.as_ref()) {
                    Err(error) if error.kind() == Kind::NotFound => {}
                    found => return base_image(&inner, &name, found?).await,
                }
            }
            pull(&inner, wanted).await?;
            let found = inner.images.resolve(&name, wanted.platform.as_ref())?;
            base_image(&inner, &name, found).await
        })
    }

    fn fetch<'a>(&'a self, address: &'a str, headers: Vec<(&'static str, String)>) -> Pending<'a, Fetched> {
        Box::pin(async move {
            let inner = self.inner()?;
            Ok(inner.images.fetch(address, &headers).await?)
        })
    }

    fn run(&self, run: Run) -> Pending<'_, Ended> {
        Box::pin(async move {
            let inner = self.inner()?;
            // A step is carried to its end, or undone, also when nobody waits for it any more.
            let task = tokio::spawn(async move { step::run(&inner, run).await });
            let ended =
                task.await.map_err(|e| BuildError::new(Kind::Internal, format!("a step was interrupted: {e}")))?;
            Ok(ended?)
        })
    }

    fn admit(&self, ingest: Arc<Ingest>, target: Descriptor, names: Vec<Reference>) -> Pending<'_, String> {
        Box::pin(async move {
            let inner = self.inner()?;
            let how = ("build", crate::image::made_here());
            let image = Images::admit(&inner, ingest, target, names.clone(), how).await?;
            let id = image.id().to_string();
            for name in &names {
                inner.images.publish(&inner, "tag", &id, &name.familiar(), Some(&image));
            }
            Ok(id)
        })
    }

    fn push(&self, push: Push) -> Pending<'_, ()> {
        Box::pin(async move {
            let inner = self.inner()?;
            let auth = credentials(&inner, push.session.as_deref(), &push.reference).await?;
            Ok(Images::push_built(&inner, push, auth).await?)
        })
    }

    fn keep(&self, put: Vec<(String, String)>, forget: Vec<String>) -> Pending<'_, ()> {
        Box::pin(async move {
            let inner = self.inner()?;
            let forget = forget.into_iter().map(|key| Op::DeleteBuildResult { key });
            let put = put.into_iter().map(|(key, doc)| Op::PutBuildResult { key, doc });
            let ops: Vec<Op> = forget.chain(put).collect();
            if !ops.is_empty() {
                inner.commit(ops, Durability::Process).await?;
            }
            Ok(())
        })
    }

    fn cache_manifest<'a>(&'a self, name: &'a Reference, session: Option<&'a str>) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            let inner = self.inner()?;
            let auth = credentials(&inner, session, name).await?;
            let bytes = inner.images.remote_manifest(&inner, name.clone(), auth).await?;
            Ok(bytes.to_vec())
        })
    }

    fn cache_blob<'a>(
        &'a self,
        name: &'a Reference,
        session: Option<&'a str>,
        digest: Digest,
        chunks: mpsc::Sender<Bytes>,
    ) -> Pending<'a, ()> {
        Box::pin(async move {
            let inner = self.inner()?;
            let auth = credentials(&inner, session, name).await?;
            Ok(inner.images.remote_blob(&inner, name.clone(), auth, digest, chunks).await?)
        })
    }

    fn cache_push<'a>(
        &'a self,
        name: &'a Reference,
        session: Option<&'a str>,
        documents: Vec<Descriptor>,
        blobs: Vec<Descriptor>,
    ) -> Pending<'a, ()> {
        Box::pin(async move {
            let inner = self.inner()?;
            let auth = credentials(&inner, session, name).await?;
            Ok(Images::push_content(&inner, name.clone(), auth, &documents, &blobs).await?)
        })
    }

    fn remember(&self, put: Vec<(String, String)>, forget: Vec<String>) -> Pending<'_, ()> {
        Box::pin(async move {
            let inner = self.inner()?;
            let forget = forget.into_iter().map(|name| Op::DeleteBuild { name });
            let put = put.into_iter().map(|(name, doc)| Op::PutBuild { name, doc });
            inner.commit(forget.chain(put).collect(), Durability::Process).await?;
            Ok(())
        })
    }
}

/// The documents of an image that is here.
async fn base_image(inner: &Arc<Inner>, name: &str, found: crate::image::Resolved) -> build::Result<BaseImage> {
    Images::permit(inner, name, &found).await?;
    let fail = |what: &str| BuildError::new(Kind::Internal, format!("image {name}: {what}"));
    let manifest = found.manifest.as_ref().ok_or_else(|| fail("it has no manifest"))?;
    let digest: Digest = manifest.digest.parse().map_err(|_| fail("its manifest has no digest"))?;
    let store = Arc::clone(inner.images.store());
    let documents = inner.blocking("read an image", move || {
        let bytes = store.blobs().read(&digest, MAX_MANIFEST)?;
        let Document::Manifest(manifest) = Document::parse(&bytes, "")? else { return Ok(None) };
        let config = store.blobs().read(&manifest.config.digest, MAX_CONFIG)?;
        Ok(Some((manifest, store::model::Image::parse(&config)?)))
    });
    let (manifest, image) = documents.await?.ok_or_else(|| fail("its manifest is none"))?;
    Ok(BaseImage { digest: found.id.clone(), image, manifest, lease: Arc::new(found) })
}

/// What the client that builds has for a name's registry.
async fn credentials(inner: &Inner, session: Option<&str>, name: &Reference) -> build::Result<Option<AuthConfig>> {
    let found = match (session, inner.builder()) {
        (Some(session), Some(builder)) => builder.credentials(session, name.domain()).await?,
        _ => None,
    };
    Ok(found.map(auth))
}

fn auth((username, password): (String, String)) -> AuthConfig {
    AuthConfig { username, password, ..AuthConfig::default() }
}

/// Fetches an image, with the credentials of the client that builds.
async fn pull(inner: &Arc<Inner>, wanted: &WantedImage) -> build::Result<()> {
    use futures_util::StreamExt;
    let auth = match wanted.credentials.clone() {
        Some(given) => Some(auth(given)),
        None => credentials(inner, wanted.session.as_deref(), &wanted.reference).await?,
    };
    let options = PullOptions {
        reference: wanted.reference.to_string(),
        platform: wanted.platform.clone(),
        auth,
        ..PullOptions::default()
    };
    let mut told = Images::pull(inner, options).await?;
    while let Some(message) = told.next().await {
        if let Some(error) = message.error_detail {
            return Err(BuildError::new(Kind::NotFound, error.message));
        }
    }
    Ok(())
}
