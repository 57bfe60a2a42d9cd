//! `docker save`: images as an archive.

use std::collections::BTreeMap;
use std::sync::Arc;

use store::image::Saved;
use types::{Platform, Reference};

use super::Images;
use super::index::no_such_image;
use crate::ByteStream;
use crate::archive::bridge;
use crate::engine::Inner;
use crate::error::{Result, fail};

impl Images {
    /// An archive of the images named; a repository without a tag means all its tags. Of an image for several
    /// platforms it has `platforms`, or all that are here. One alone is saved as an image of its own.
    ///
    /// # Errors
    /// Not found; everything is resolved before the first byte.
    pub(crate) fn save(inner: &Arc<Inner>, names: &[String], platforms: &[Platform]) -> Result<ByteStream> {
        let mut chosen: Vec<Saved> = Vec::new();
        let mut leases = Vec::new();
        for name in names {
            for (image, reference) in inner.images.named(name)? {
                let mut parts = Vec::new();
                for platform in platforms {
                    let found = image.require(name, platform);
                    let (part, _) = found.map_err(|e| fail!(NotFound, "no suitable export target found: {e}"))?;
                    parts.push(part.descriptor.clone());
                }
                let target = match parts.as_slice() {
                    [one] => one.clone(),
                    _ => image.target.clone(),
                };
                let only = (parts.len() > 1).then(|| parts.iter().map(|part| part.digest).collect());
                let called = reference.as_ref().map_or_else(|| image.id().to_string(), Reference::familiar);
                inner.images.publish(inner, "save", &image.id().to_string(), &called, Some(&image));
                match chosen.iter_mut().find(|saved| saved.target.digest == target.digest) {
                    Some(known) => known.references.extend(reference.filter(|r| !known.references.contains(r))),
                    None => {
                        chosen.push(Saved {
                            target,
                            references: reference.into_iter().collect(),
                            only,
                            annotations: BTreeMap::new(),
                        });
                    }
                }
                leases.push(image);
            }
        }
        let store = Arc::clone(&inner.images.store);
        // An archive that breaks off tells a client nothing.
        store::image::savable(&*store, &chosen)?;
        let platform = platforms.first().cloned().unwrap_or_else(Platform::host);
        Ok(bridge::stream(move |out| {
            // The images stay until they are written.
            let _leases = leases;
            Ok(store::image::save(&*store, &chosen, &platform, store::image::Form::Docker, out)?)
        }))
    }

    fn named(&self, name: &str) -> Result<Vec<(Arc<super::Image>, Option<Reference>)>> {
        let index = self.index();
        if let Ok(reference) = Reference::parse(name)
            && reference.is_name_only()
        {
            let tags = index.tags_of(&reference);
            if !tags.is_empty() {
                return Ok(tags.into_iter().map(|(image, name)| (image, Some(name))).collect());
            }
        }
        let found = index.find(name)?;
        if found.image.shown().is_none() {
            return Err(no_such_image(name));
        }
        Ok(vec![(found.image, found.name)])
    }
}
