//! `docker load`: images from an archive.

use std::sync::Arc;

use docker_types::message::JsonMessage;
use types::{Platform, Reference};

use super::{Images, made_here};
use crate::archive::bridge;
use crate::engine::Inner;
use crate::error::Result;
use crate::{AnyStream, ByteStream};

impl Images {
    /// Load, of every image what is for `platforms` or all of it, and tell which images came. As Docker does, failures are a message too.
    ///
    /// # Errors
    /// None: see the messages.
    pub(crate) async fn load(
        inner: &Arc<Inner>,
        body: ByteStream,
        platforms: Vec<Platform>,
    ) -> Result<AnyStream<JsonMessage>> {
        let messages = match load(inner, body, platforms).await {
            Ok(messages) => messages,
            Err(error) => vec![JsonMessage::error(error.to_string())],
        };
        Ok(Box::pin(futures_util::stream::iter(messages)))
    }
}

async fn load(inner: &Arc<Inner>, body: ByteStream, platforms: Vec<Platform>) -> Result<Vec<JsonMessage>> {
    let ingest = Arc::new(inner.images.store.ingest());
    let taking = Arc::clone(&ingest);
    let loaded = inner
        .blocking("load images", move || {
            bridge::read(body, |reader| Ok(store::image::load(&taking, reader, &platforms)?))
        })
        .await?;
    let mut messages = Vec::with_capacity(loaded.len());
    let mut rest = loaded.into_iter().peekable();
    while let Some(one) = rest.next() {
        let mut names: Vec<Reference> = one.reference.into_iter().collect();
        // The names of one image follow each other and are given together.
        while let Some(next) = rest.next_if(|next| next.target.digest == one.target.digest) {
            names.extend(next.reference);
        }
        let image = Images::admit(inner, Arc::clone(&ingest), one.target, names.clone(), ("load", made_here())).await?;
        let id = image.id().to_string();
        let words: Vec<String> = match names.as_slice() {
            [] => vec![format!("Loaded image ID: {id}\n")],
            names => names.iter().map(|name| format!("Loaded image: {}\n", name.familiar())).collect(),
        };
        messages.extend(words.into_iter().map(JsonMessage::stream));
        let called = names.first().map_or_else(|| id.clone(), Reference::familiar);
        inner.images.publish(inner, "load", &id, &called, Some(&image));
    }
    Ok(messages)
}
