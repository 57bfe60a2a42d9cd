//! `docker image prune`: images that no container uses.

use std::sync::Arc;

use docker_types::image::ImagePruneReport;
use types::Filters;

use super::Images;
use super::list::{bad_value, until};
use super::remove::users;
use crate::engine::Inner;
use crate::error::{Result, fail};

const FILTERS: &[&str] = &["dangling", "label", "label!", "until"];

impl Images {
    /// Remove unused images without a name, or with `dangling=false` every unused one.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub(crate) async fn prune(&self, inner: &Arc<Inner>, filters: &Filters) -> Result<ImagePruneReport> {
        if let Some(key) = filters.unknown_key(FILTERS) {
            return Err(fail!(Invalid, "invalid filter '{key}'"));
        }
        let dangling = filters.boolean("dangling", true).map_err(|values| bad_value("dangling", &values))?;
        let until = until(filters)?;
        let changing = self.changing.lock().await;
        let (images, names) = {
            let index = self.index();
            (index.images(), index.names())
        };
        let mut deleted = Vec::new();
        for image in images {
            let label = |key: &str| image.labels()?.get(key).map(String::as_str);
            let without = |want: &str| match want.split_once('=') {
                Some((key, value)) => label(key) != Some(value),
                None => label(want).is_none(),
            };
            let named = names.get(&image.id()).is_some_and(|names| !names.references.is_empty());
            let spared = (dangling && named) || self.marks.of(&image.id()).pinned;
            let chosen = !spared
                && until.is_none_or(|limit| image.created() < limit)
                && filters.match_labels("label", label)
                && filters.get("label!").all(without)
                && users(inner, &image.id()).is_empty();
            if chosen {
                deleted.extend(self.delete(inner, image).await?);
            }
        }
        let mut space_reclaimed = self.collect(inner, &changing).await?;
        if !dangling {
            // What broken pulls left is nobody's either, and the next pull can do without.
            let store = Arc::clone(&self.store);
            space_reclaimed += inner.blocking("remove unfinished blobs", move || Ok(store.remove_partials()?)).await?;
        }
        inner.events.publish("image", "prune", "", [("reclaimed".to_owned(), space_reclaimed.to_string())].into());
        Ok(ImagePruneReport { images_deleted: Some(deleted).filter(|list| !list.is_empty()), space_reclaimed })
    }
}
