//! `docker history`: the steps an image's configuration tells of, newest first.

use docker_types::image::HistoryItem;
use docker_types::time::parse_rfc3339;
use types::Platform;

use super::Images;
use super::content::{no_platform, signed};
use crate::error::Result;

impl Images {
    /// The steps with the size of the layer each made. What the configuration says is not checked
    /// against anything; steps beyond the layers have no size.
    ///
    /// # Errors
    /// Not found.
    pub(crate) fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryItem>> {
        let (image, names) = {
            let index = self.index();
            let image = index.find(name)?.image;
            let names = index.names_of(&image.id());
            (image, names)
        };
        let wanted = || platform.cloned().unwrap_or_else(Platform::host);
        let (_, body) = image.choose(platform).ok_or_else(|| no_platform(name, &wanted()))?;
        let mut sizes = body.layer_sizes.iter().copied();
        let mut items: Vec<HistoryItem> = body
            .config
            .history
            .iter()
            .map(|step| HistoryItem {
                comment: step.comment.clone(),
                created: step.created.as_deref().and_then(parse_rfc3339).map_or(0, |(seconds, _)| seconds),
                created_by: step.created_by.clone(),
                id: "<missing>".to_owned(),
                size: if step.empty_layer { 0 } else { sizes.next().map_or(0, signed) },
                tags: None,
            })
            .collect();
        // Layers that no step tells of.
        items.extend(sizes.map(|size| HistoryItem {
            id: "<missing>".into(),
            size: signed(size),
            ..HistoryItem::default()
        }));
        items.reverse();
        if let Some(newest) = items.first_mut() {
            newest.id = image.id().to_string();
            newest.tags = Some(names.tags()).filter(|tags| !tags.is_empty());
        }
        Ok(items)
    }
}
