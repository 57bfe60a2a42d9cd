//! `docker import`: an archive of a root file system becomes an image.

use std::sync::Arc;

use docker_types::message::JsonMessage;
use types::{Platform, Reference};

use super::{Images, changes, convert, made_here, target_name};
use crate::archive::bridge;
use crate::clock;
use crate::engine::Inner;
use crate::error::Result;
use crate::facade::ImportOptions;
use crate::{AnyStream, ByteStream};

impl Images {
    /// Import; the one message is the image's id.
    ///
    /// # Errors
    /// Invalid for names, changes or archives that make no sense; Exhausted when the disk is full.
    pub(crate) async fn import(
        inner: &Arc<Inner>,
        options: ImportOptions,
        body: ByteStream,
    ) -> Result<AnyStream<JsonMessage>> {
        let name = target_name(options.repo.as_deref(), options.tag.as_deref())?;
        let mut config = docker_types::image::ImageConfig::default();
        changes::apply(&mut config, &options.changes)?;
        let platform = options.platform.unwrap_or_else(Platform::host);
        let said = options.message.unwrap_or_else(|| "Imported from -".to_owned());
        let import = store::image::Import {
            config: convert::from_api(&config),
            platform,
            created: clock::rfc3339(clock::now_ns()),
            comment: said,
        };
        let ingest = Arc::new(inner.images.store.ingest());
        let taking = Arc::clone(&ingest);
        let target = inner
            .blocking("import an image", move || {
                bridge::read(body, |reader| Ok(store::image::import(&taking, reader, &import)?))
            })
            .await?;
        let image = Self::admit(inner, ingest, target, name.iter().cloned().collect(), ("import", made_here())).await?;
        let id = image.id().to_string();
        let called = name.as_ref().map_or_else(|| id.clone(), Reference::familiar);
        inner.images.publish(inner, "import", &id, &called, Some(&image));
        Ok(Box::pin(futures_util::stream::iter([JsonMessage::status(id)])))
    }
}
