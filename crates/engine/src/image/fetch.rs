//! Fetching an image by its digest, without giving it a name: for a version that was pruned, and for content
//! that is damaged.

use std::sync::Arc;

use distribution::{Credentials, PullRequest};
use store::Ingest;
use store::model::Descriptor;
use types::{DiffId, Digest, Platform, Reference};

use super::content::Image;
use super::guard::Gate;
use super::sink::Sink;
use crate::engine::Inner;
use crate::error::Result;

/// What to fetch.
pub(super) struct Wanted<'a> {
    /// Tells the registry and the repository.
    pub reference: &'a Reference,
    pub target: &'a Descriptor,
    pub platform: Option<Platform>,
    pub credentials: Option<Credentials>,
    /// A blob that is here and damaged: it is replaced when the new one is whole.
    pub blob: Option<Digest>,
    /// The same for a layer.
    pub layer: Option<DiffId>,
    /// Judges it, unless it was let in before and is here.
    pub gate: Option<Arc<Gate>>,
}

/// Fetch what is missing of an image. The ingest protects it until the caller holds the image.
///
/// # Errors
/// The registry's and the store's; what is here stays as it is then.
pub(super) async fn fetch(inner: &Arc<Inner>, ingest: &Arc<Ingest>, wanted: Wanted<'_>) -> Result<Arc<Image>> {
    let images = &inner.images;
    let mut sink = Sink::new(Arc::clone(ingest), Arc::clone(&images.verified));
    for digest in wanted.blob.into_iter().chain(wanted.layer.map(|layer| layer.0)) {
        sink = sink.distrust(digest);
    }
    if let Some(gate) = &wanted.gate {
        sink = sink.behind(gate);
    }
    let sink = Arc::new(sink);
    let request = PullRequest {
        reference: wanted.reference.clone().with_digest(wanted.target.digest),
        platform: wanted.platform,
        credentials: wanted.credentials,
        current: None,
    };
    let pulled = images.client.pull(&request, Arc::clone(&sink), |_| ()).await?;
    let (store, taking, target) = (Arc::clone(&images.store), Arc::clone(ingest), wanted.target.clone());
    let layer = wanted.layer;
    inner
        .blocking("store an image", move || {
            sink.check(&pulled.layers)?;
            if let Some(layer) = layer.filter(|layer| store.layers().has(layer)) {
                // A layer that is there would stay.
                store.discard_layer(&layer)?;
            }
            taking.commit()?;
            Ok(Arc::new(Image::read(&store, target)?))
        })
        .await
}
