//! `image log` and `image rollback`: looking at the versions of a name, and pointing it back at one.

use std::sync::Arc;

use docker_types::auth::AuthConfig;
use docker_types::image::ImageVersion;
use docker_types::message::JsonMessage;
use serde_json::json;
use store::model::Descriptor;
use types::Reference;

use super::Images;
use super::content::{Image, signed};
use super::fetch::{Wanted, fetch};
use super::guard::Gate;
use super::index::no_such_image;
use super::pull::credentials;
use super::telling::{Teller, telling};
use super::versions;
use crate::AnyStream;
use crate::clock;
use crate::engine::Inner;
use crate::error::{Result, fail};

impl Images {
    /// Versions of a name, latest first.
    ///
    /// # Errors
    /// Not found when nothing is known of the name.
    pub(crate) fn log(&self, name: &str) -> Result<Vec<ImageVersion>> {
        let reference = tagged(name)?;
        let key = reference.to_string();
        let (present, mut list) = {
            let index = self.index();
            (index.get(&key).map(|entry| entry.record.clone()), self.versions.of(&key))
        };
        if list.is_empty() {
            let record = present.clone().ok_or_else(|| no_such_image(name))?;
            let how = "before".to_owned();
            list.push(versions::Version { target: Some(record.target), at_ns: record.created_ns, how });
        }
        let latest = list.len();
        Ok(list
            .iter()
            .enumerate()
            .rev()
            .map(|(at, version)| {
                let target = version.target.as_ref();
                let image = target.and_then(|target| self.stored(target));
                ImageVersion {
                    id: target.map(|target| target.digest.to_string()).unwrap_or_default(),
                    created: clock::rfc3339(version.at_ns),
                    action: version.how.clone(),
                    current: at + 1 == latest && target.is_some(),
                    available: image.is_some(),
                    size: image.map_or(0, |image| signed(image.size())),
                }
            })
            .collect())
    }

    /// An image that is whole in the store, with or without a name.
    fn stored(&self, target: &Descriptor) -> Option<Arc<Image>> {
        let known = self.index().image(&target.digest).cloned();
        let image = known.or_else(|| Image::read(&self.store, target.clone()).ok().map(Arc::new))?;
        image.shown().is_some_and(|body| body.available).then_some(image)
    }

    /// Point a name back; `wanted` is a number of steps or an id. What is not here is fetched by digest.
    ///
    /// # Errors
    /// Not found for a version there is none of; everything else is the stream's last message.
    pub(crate) async fn rollback(
        inner: &Arc<Inner>,
        name: &str,
        wanted: &str,
        auth: Option<AuthConfig>,
    ) -> Result<AnyStream<JsonMessage>> {
        let reference = tagged(name)?;
        let (inner, wanted) = (Arc::clone(inner), wanted.to_owned());
        telling(async move |teller: Teller| rollback(&inner, &reference, &wanted, auth, &teller).await).await
    }
}

fn tagged(name: &str) -> Result<Reference> {
    let reference: Reference = name.parse().map_err(|e| fail!(Invalid, "{e}"))?;
    if reference.digest().is_some() {
        return Err(fail!(Invalid, "{name} names content by its digest, which never changes: give a tag"));
    }
    Ok(reference.with_default_tag())
}

async fn rollback(
    inner: &Arc<Inner>,
    reference: &Reference,
    wanted: &str,
    auth: Option<AuthConfig>,
    teller: &Teller,
) -> Result<()> {
    let images = &inner.images;
    let (key, familiar) = (reference.to_string(), reference.familiar());
    let present = images.index().get(&key).map(|entry| entry.record.target.digest);
    let Some(target) = versions::find(&images.versions.of(&key), present, wanted) else {
        return Err(fail!(NotFound, "{familiar} has no version {wanted}: image log {familiar} shows those it has"));
    };
    // Taken before looking, so that nothing is collected between looking and naming.
    let ingest = Arc::new(images.store.ingest());
    let mut came = None;
    let image = match images.stored(&target) {
        Some(image) => image,
        None => {
            let credentials = auth.map(credentials);
            let warned = teller.clone();
            let say = move |words| warned.say(JsonMessage::status(words));
            let gate = Arc::new(Gate::open(inner, &reference.with_digest(target.digest), credentials.clone(), say)?);
            teller.say(JsonMessage::status(format!("Fetching {} of {}", target.digest, reference.familiar_name())));
            let wanted = Wanted {
                reference,
                target: &target,
                platform: None,
                credentials,
                blob: None,
                layer: None,
                gate: Some(Arc::clone(&gate)),
            };
            let image = fetch(inner, &ingest, wanted).await?;
            came = gate.recorded();
            image
        }
    };
    let changing = images.changing.lock().await;
    images.hold(&image);
    // It may have been collected before it was held.
    if images.stored(&target).is_none() {
        return Err(fail!(NotFound, "the content of {} was removed meanwhile: try again", target.digest));
    }
    images.point(inner, &[key], &image, "rollback", came.as_ref()).await?;
    drop(changing);
    drop(ingest);
    let id = image.id().to_string();
    images.publish(inner, "rollback", &id, &familiar, Some(&image));
    let from = present.map(|digest| digest.to_string()).unwrap_or_default();
    let before = present.map_or_else(|| "nothing".to_owned(), |digest| digest.short());
    teller.say(JsonMessage::status(format!("{familiar}: {before} -> {}", image.id().short())));
    teller.say(JsonMessage::aux(json!({"Name": familiar, "From": from, "Id": id})));
    Ok(())
}
