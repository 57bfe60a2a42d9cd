//! `docker rmi --platform`: taking platforms from an image that stays under its names.
//!
//! A manifest that is removed is gone from the disk, which is how a restarted engine knows; so it goes
//! from every index that has it, and cannot go while a container or an image of its own needs it.

use std::collections::HashSet;
use std::sync::Arc;

use docker_types::image::ImageDeleteItem;
use types::{Digest, Platform};

use super::content::{Image, Variant};
use super::remove::users;
use super::{Images, content};
use crate::engine::Inner;
use crate::error::{Result, fail};

impl Images {
    /// Remove the manifests for `platforms`, what only they need, and what is attested of them.
    ///
    /// # Errors
    /// Not found for a platform that is not here; Conflict when a container uses its manifest, when another image
    /// is that manifest, or, unless forced, has it too.
    pub(crate) async fn remove_platforms(
        &self,
        inner: &Arc<Inner>,
        text: &str,
        platforms: &[Platform],
        force: bool,
    ) -> Result<Vec<ImageDeleteItem>> {
        let changing = self.changing.lock().await;
        let image = self.index().find(text)?.image;
        let mut removed: Vec<Digest> = Vec::new();
        for platform in platforms {
            let before = removed.len();
            let fitting = image.bodies().filter(|(variant, body)| platform.matches(&variant.platform(body)));
            removed.extend(fitting.map(|(variant, _)| variant.descriptor.digest));
            if removed.len() == before {
                return Err(content::no_platform(text, platform));
            }
        }
        let mut seen = HashSet::new();
        removed.retain(|digest| seen.insert(*digest));
        if removed.contains(&image.id()) {
            return Err(fail!(
                Conflict,
                "conflict: unable to delete {} (cannot be forced) - the image is for this platform alone: remove it without a platform",
                image.id().short()
            ));
        }
        let mut changed = vec![Arc::clone(&image)];
        changed.extend(self.sharing(inner, &image, &removed, force)?);
        let attested = |variant: &&Variant| {
            let subject = variant.descriptor.annotation("vnd.docker.reference.digest");
            let subject = subject.filter(|_| variant.descriptor.is_attestation() && !variant.parts.is_empty());
            subject.is_some_and(|subject| removed.iter().any(|digest| digest.to_string() == subject))
        };
        let attestations: Vec<Digest> =
            image.variants.iter().filter(attested).map(|variant| variant.descriptor.digest).collect();
        removed.extend(attestations.iter().filter(|digest| seen.insert(**digest)));
        let gone: HashSet<Digest> = removed.iter().copied().collect();
        // Whoever holds an image as it was keeps all of it.
        let changed: Vec<Arc<Image>> = changed.into_iter().map(|image| Arc::new(image.without(&gone))).collect();
        for left in &changed {
            self.hold(left);
            self.index().refresh(left);
        }
        drop(image);
        self.collect(inner, &changing).await?;
        let left = &changed[0];
        let id = left.id().to_string();
        self.publish(inner, "delete", &id, &id, Some(left));
        Ok(removed.iter().map(|digest| ImageDeleteItem { deleted: digest.to_string(), ..Default::default() }).collect())
    }

    /// Checks that manifests of an image can go; gives the other images they go from too.
    fn sharing(&self, inner: &Inner, image: &Image, removed: &[Digest], force: bool) -> Result<Vec<Arc<Image>>> {
        let goes = |digest: &Digest| removed.contains(digest);
        let holds = |other: &&Arc<Image>| other.bodies().any(|(variant, _)| goes(&variant.descriptor.digest));
        let images = self.index().images();
        let sharing: Vec<&Arc<Image>> = images.iter().filter(|other| other.id() != image.id()).filter(holds).collect();
        let refused = |id: Digest, why: String| {
            fail!(Conflict, "conflict: unable to delete {} (cannot be forced) - {why}", id.short())
        };
        for id in sharing.iter().map(|other| other.id()).chain([image.id()]) {
            for container in users(inner, &id) {
                let manifest = container.record().manifest.as_ref().and_then(|m| m.digest.parse().ok());
                if manifest.is_some_and(|manifest| goes(&manifest)) {
                    let state = if container.phase().is_live() { "running" } else { "stopped" };
                    let user = &container.id()[..12];
                    return Err(refused(id, format!("image is being used by {state} container {user}")));
                }
            }
        }
        if let Some(alone) = sharing.iter().find(|other| goes(&other.id())) {
            let why = format!("image {} is this manifest alone: remove that first", alone.id().short());
            return Err(refused(image.id(), why));
        }
        if !sharing.is_empty() && !force {
            return Err(fail!(
                Conflict,
                "Content will be removed from all images referencing this variant. Use --force to force delete."
            ));
        }
        Ok(sharing.into_iter().cloned().collect())
    }
}
