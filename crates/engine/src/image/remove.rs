//! `docker rmi`: taking names from images, and images with their last name.
//!
//! The rules are Docker's: a name goes easily while others remain; the last one goes only when no
//! container uses the image, unless forced; an image of a running container is never deleted.

use std::sync::Arc;

use docker_types::image::ImageDeleteItem;
use state::{Durability, Op};
use types::Digest;

use super::Images;
use super::content::Image;
use super::versions::Change;
use crate::container::Container;
use crate::engine::Inner;
use crate::error::{Result, fail};

impl Images {
    /// Remove the name or image that `text` means.
    ///
    /// # Errors
    /// Not found; Conflict in Docker's words when something still uses it.
    pub(crate) async fn remove(&self, inner: &Arc<Inner>, text: &str, force: bool) -> Result<Vec<ImageDeleteItem>> {
        let changing = self.changing.lock().await;
        let found = self.index().find(text)?;
        let (image, id) = (found.image, found.name);
        let keys = self.index().keys_of(&image.id());
        let users = users(inner, &image.id());
        let running = users.iter().find(|c| c.phase().is_live());
        if let Some(name) = id {
            let others = keys.iter().any(|key| *key != name.to_string());
            if others || !users.is_empty() {
                if let Some(user) = users.first().filter(|_| !others && !force) {
                    return Err(fail!(
                        Conflict,
                        "conflict: unable to remove repository reference \"{text}\" (must force) - container {} is using its referenced image {}",
                        &user.id()[..12],
                        image.id().short()
                    ));
                }
                // Another name remains, or the image stays for its containers under its digest.
                return self.untag(inner, &image, &[name.to_string()], !others).await;
            }
        } else {
            let short = image.id().short();
            if let Some(user) = running {
                return Err(fail!(
                    Conflict,
                    "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
                    &user.id()[..12]
                ));
            }
            let repositories = self.names_of(&image.id()).digests(image.id()).len();
            if repositories > 1 && !force {
                return Err(fail!(
                    Conflict,
                    "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
                ));
            }
            if let Some(user) = users.first().filter(|_| !force) {
                return Err(fail!(
                    Conflict,
                    "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {}",
                    &user.id()[..12]
                ));
            }
        }
        if self.marks.of(&image.id()).pinned && !force {
            let short = image.id().short();
            return Err(fail!(
                Conflict,
                "conflict: unable to delete {short} (must be forced) - image is pinned: unpin it first, or force its removal"
            ));
        }
        let deleted = self.delete(inner, image).await?;
        // Nobody who needs the content can come any more: free it before answering.
        self.collect(inner, &changing).await?;
        Ok(deleted)
    }

    /// Take names away; `keep` leaves the image under its digest.
    async fn untag(
        &self,
        inner: &Arc<Inner>,
        image: &Arc<Image>,
        names: &[String],
        keep: bool,
    ) -> Result<Vec<ImageDeleteItem>> {
        let id = image.id().to_string();
        let mut ops: Vec<Op> = names.iter().map(|name| Op::DeleteImage { name: name.clone() }).collect();
        let now = crate::clock::now_ns();
        let known = self.index().recorded_of(&image.id());
        let kept = super::record(image, now, now, known);
        if keep {
            let doc =
                serde_json::to_string(&kept).map_err(|e| crate::Error::io("cannot encode an image's record", e))?;
            ops.push(Op::PutImage { name: id.clone(), doc });
        }
        let changes = self.untagging(names)?;
        ops.extend(changes.iter().map(Change::op));
        inner.commit(ops, Durability::Synced).await?;
        self.versions.keep(changes);
        {
            let mut index = self.index();
            if keep {
                index.put(&id, kept, image);
            }
            names.iter().for_each(|name| index.remove(name));
        }
        let untagged = names.iter().map(|name| {
            self.publish(inner, "untag", &id, &id, Some(image));
            ImageDeleteItem { untagged: familiar(name), deleted: String::new() }
        });
        Ok(untagged.collect())
    }

    /// Take every name of an image away, and with them the image. `changing` must be held; the
    /// content goes with the next collection.
    pub(super) async fn delete(&self, inner: &Arc<Inner>, image: Arc<Image>) -> Result<Vec<ImageDeleteItem>> {
        let id = image.id().to_string();
        let keys = self.index().keys_of(&image.id());
        let mut ops: Vec<Op> = keys.iter().map(|name| Op::DeleteImage { name: name.clone() }).collect();
        let (changes, excess) = (self.untagging(&keys)?, self.versions.excess());
        ops.extend(changes.iter().map(Change::op));
        ops.extend(excess.iter().map(|name| Op::DeleteImageVersions { name: name.clone() }));
        ops.push(Op::DeleteImageMark { id: id.clone() });
        inner.commit(ops, Durability::Synced).await?;
        self.versions.keep(changes);
        self.versions.forget(&excess);
        self.marks.forget(&image.id());
        {
            let mut index = self.index();
            keys.iter().for_each(|key| index.remove(key));
        }
        let mut items = Vec::with_capacity(keys.len() + 1);
        for key in keys.iter().filter(|key| **key != id) {
            self.publish(inner, "untag", &id, &id, Some(&image));
            items.push(ImageDeleteItem { untagged: familiar(key), deleted: String::new() });
        }
        self.publish(inner, "delete", &id, &id, Some(&image));
        items.push(ImageDeleteItem { untagged: String::new(), deleted: id });
        Ok(items)
    }
}

/// Containers made from an image.
pub(super) fn users(inner: &Inner, id: &Digest) -> Vec<Arc<Container>> {
    let id = id.to_string();
    inner.containers.all().into_iter().filter(|container| container.record().image_id == id).collect()
}

fn familiar(key: &str) -> String {
    key.parse::<types::Reference>().map_or_else(|_| key.to_owned(), |reference| reference.familiar())
}
