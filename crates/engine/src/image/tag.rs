//! `docker tag`: another name for an image.

use std::sync::Arc;

use super::{Images, target_name};
use crate::engine::Inner;
use crate::error::{Result, fail};

impl Images {
    /// Name the image `source` `repo:tag` too, taking that name from another image if need be.
    ///
    /// # Errors
    /// Not found, or invalid for what can be no name.
    pub(crate) async fn tag(&self, inner: &Arc<Inner>, source: &str, repo: &str, tag: &str) -> Result<()> {
        let name = target_name(Some(repo), Some(tag))?.ok_or_else(|| fail!(Invalid, "invalid reference format"))?;
        let _changing = self.changing.lock().await;
        let image = self.index().find(source)?.image;
        self.point(inner, &[name.to_string()], &image, "tag", None).await?;
        self.publish(inner, "tag", &image.id().to_string(), &name.familiar(), Some(&image));
        Ok(())
    }
}
