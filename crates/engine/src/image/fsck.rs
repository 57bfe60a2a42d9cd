//! `system fsck`: is what the store holds still what it was, and with `--repair` making it so again.
//!
//! A layer is made anew out of its blob; a blob is fetched again from a registry its image is named after.
//! Nothing else is touched: other layers of the image are neither fetched nor unpacked again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use docker_types::message::JsonMessage;
use serde_json::json;
use store::Verdict;
use types::{DiffId, Digest, Platform, Reference};

use super::content::{Body, Image};
use super::fetch::{Wanted, fetch};
use super::telling::{Teller, telling};
use super::{Images, parse_layers};
use crate::AnyStream;
use crate::engine::Inner;
use crate::error::{Result, fail};

/// What was found.
#[derive(Default)]
struct Report {
    checked: u64,
    damaged: u64,
    unknown: u64,
    repaired: u64,
}

/// Something to be repaired.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Blob(Digest),
    Layer(DiffId),
}

impl Part {
    fn name(self) -> String {
        match self {
            Self::Blob(digest) => format!("blob {digest}"),
            Self::Layer(diff_id) => format!("layer {diff_id}"),
        }
    }

    fn id(self) -> String {
        match self {
            Self::Blob(digest) => digest.short(),
            Self::Layer(diff_id) => diff_id.0.short(),
        }
    }

    fn is_of(self, body: &Body) -> bool {
        match self {
            Self::Blob(digest) => {
                body.manifest.config.digest == digest || body.manifest.layers.iter().any(|layer| layer.digest == digest)
            }
            Self::Layer(diff_id) => body.config.rootfs.diff_ids.contains(&diff_id),
        }
    }
}

impl Images {
    /// Check everything, and repair what can be repaired.
    ///
    /// # Errors
    /// None; failures are messages.
    pub(crate) async fn fsck(inner: &Arc<Inner>, repair: bool) -> Result<AnyStream<JsonMessage>> {
        let inner = Arc::clone(inner);
        telling(async move |teller: Teller| fsck(&inner, repair, teller).await).await
    }

    /// Names of the images a part belongs to, and their digests where they have none.
    fn users(&self, part: Part) -> Vec<String> {
        let index = self.index();
        let mut users = Vec::new();
        for image in index.images() {
            let whole = match part {
                Part::Blob(digest) => {
                    image.id() == digest || image.variants.iter().any(|variant| variant.descriptor.digest == digest)
                }
                Part::Layer(_) => false,
            };
            if whole || image.bodies().any(|(_, body)| part.is_of(body)) {
                let names = index.names_of(&image.id()).references;
                users.extend(names.iter().map(Reference::familiar));
                if names.is_empty() {
                    users.push(image.id().to_string());
                }
            }
        }
        users.sort();
        users
    }

    /// Whether neither an image nor a container needs the blob.
    fn is_free(&self, inner: &Inner, digest: &Digest) -> bool {
        !self.referenced(inner).0.contains(digest)
    }

    /// Images with the part, the names to ask registries for them by, and the platform.
    fn sources(&self, part: Part) -> Vec<(Arc<Image>, Reference, Platform)> {
        let index = self.index();
        let mut sources = Vec::new();
        for image in index.images() {
            for (variant, body) in image.bodies() {
                let whole =
                    matches!(part, Part::Blob(digest) if digest == image.id() || digest == variant.descriptor.digest);
                if whole || part.is_of(body) {
                    let names = index.names_of(&image.id()).references;
                    sources.extend(names.into_iter().map(|name| (Arc::clone(&image), name, body.config.platform())));
                }
            }
        }
        sources
    }

    /// Layers that images or containers need and that are not here.
    fn missing(&self, inner: &Inner) -> Vec<Part> {
        let mut needed: HashSet<DiffId> = HashSet::new();
        for image in self.index().images() {
            for (_, body) in image.bodies() {
                // Of another platform nothing but documents may be here, which is no fault.
                let here = body.manifest.layers.iter().any(|layer| self.store.blobs().has(&layer.digest));
                if here || body.config.rootfs.diff_ids.iter().any(|layer| self.store.layers().has(layer)) {
                    needed.extend(body.config.rootfs.diff_ids.iter().copied());
                }
            }
        }
        for container in inner.containers.all() {
            needed.extend(parse_layers(&container.record().layers).unwrap_or_default());
        }
        let missing = needed.into_iter().filter(|layer| !self.store.layers().has(layer));
        missing.map(Part::Layer).collect()
    }
}

async fn fsck(inner: &Arc<Inner>, repair: bool, teller: Teller) -> Result<()> {
    let images = &inner.images;
    let store = &images.store;
    let (blobs, layers) = (store.blobs().list()?, store.layers().list()?);
    teller.say(JsonMessage::status(format!("Checking {} blobs and {} layers", blobs.len(), layers.len())));
    let mut report = Report::default();
    let mut damaged: BTreeMap<Part, String> = BTreeMap::new();
    for name in &images.unreadable {
        report.damaged += 1;
        teller.say(JsonMessage::status(format!(
            "Damaged: image {name}: its documents cannot be read; pull or load it again"
        )));
    }
    let parts = blobs.into_iter().map(Part::Blob).chain(layers.into_iter().map(Part::Layer));
    for part in parts {
        let reading = Arc::clone(store);
        let verdict = inner
            .blocking("check the store", move || {
                Ok(match part {
                    Part::Blob(digest) => reading.check_blob(&digest),
                    Part::Layer(diff_id) => reading.check_layer(&diff_id),
                })
            })
            .await?;
        report.checked += 1;
        match verdict {
            Ok(Verdict::Sound) => {}
            Ok(Verdict::Unknown(why)) => {
                report.unknown += 1;
                teller.say(JsonMessage::part(part.id(), format!("Unknown: {}: {why}", part.name())));
            }
            Ok(Verdict::Damaged(why)) => drop(damaged.insert(part, why)),
            // Removed meanwhile.
            Err(store::Error::NoBlob(_) | store::Error::NoLayer(_)) => {}
            Err(error) => drop(damaged.insert(part, error.to_string())),
        }
    }
    for part in images.missing(inner) {
        damaged.insert(part, "it is not here".to_owned());
    }
    report.damaged += damaged.len() as u64;
    for (part, why) in &damaged {
        let users = images.users(*part);
        let users = if users.is_empty() { "no image".to_owned() } else { users.join(", ") };
        teller.say(JsonMessage::part(part.id(), format!("Damaged: {}: {why}; used by {users}", part.name())));
    }
    if repair {
        for part in damaged.keys() {
            match mend(inner, *part).await {
                Ok(how) => {
                    report.repaired += 1;
                    teller.say(JsonMessage::part(part.id(), format!("Repaired: {}: {how}", part.name())));
                }
                Err(error) => {
                    teller.say(JsonMessage::part(part.id(), format!("Not repaired: {}: {error}", part.name())));
                }
            }
        }
    }
    let Report { checked, damaged, unknown, repaired } = report;
    teller.say(JsonMessage::status(format!(
        "{checked} checked, {damaged} damaged, {repaired} repaired, {unknown} unknown"
    )));
    teller.say(JsonMessage::aux(
        json!({"Checked": checked, "Damaged": damaged, "Repaired": repaired, "Unknown": unknown}),
    ));
    Ok(())
}

/// Make one part what it was; says how. What is damaged stays until there is something in its place.
async fn mend(inner: &Arc<Inner>, part: Part) -> Result<&'static str> {
    let images = &inner.images;
    match part {
        Part::Layer(diff_id) if from_blob(inner, diff_id, None).await? => return Ok("made anew from its blob"),
        Part::Blob(digest) if images.is_free(inner, &digest) => {
            let (store, changing) = (Arc::clone(&images.store), images.changing.lock().await);
            inner.blocking("remove a damaged blob", move || Ok(store.discard_blob(&digest)?)).await?;
            drop(changing);
            return Ok("removed, as nothing needs it");
        }
        _ => {}
    }
    let mut last = fail!(NotFound, "no image with it is named after a registry: load or build it again");
    for (image, name, platform) in images.sources(part) {
        let ingest = Arc::new(images.store.ingest());
        let (blob, layer) = match part {
            Part::Blob(digest) => (Some(digest), None),
            // A layer that has no sound blob is fetched with it.
            Part::Layer(diff_id) => (image.blob_of(&diff_id), Some(diff_id)),
        };
        if let Some(digest) = blob.filter(|digest| image.is_document(digest)) {
            // Of no use to anybody, and kept by the store as long as one of its name is there.
            let store = Arc::clone(&images.store);
            inner.blocking("remove a damaged document", move || Ok(store.discard_blob(&digest)?)).await?;
        }
        let wanted = Wanted {
            reference: &name,
            target: &image.target,
            platform: Some(platform),
            credentials: None,
            blob,
            layer,
            gate: None,
        };
        match fetch(inner, &ingest, wanted).await {
            Ok(read) => {
                images.hold(&read);
                images.index().refresh(&read);
                return Ok("fetched again");
            }
            Err(error) => last = error.context(name.familiar()),
        }
    }
    Err(last)
}

/// Make a layer anew out of a blob that is sound; false when there is none.
pub(super) async fn from_blob(inner: &Arc<Inner>, diff_id: DiffId, known: Option<Digest>) -> Result<bool> {
    let images = &inner.images;
    let mut blobs: Vec<Digest> = known.into_iter().collect();
    for image in images.index().images() {
        for (_, body) in image.bodies() {
            let pairs = body.config.rootfs.diff_ids.iter().zip(&body.manifest.layers);
            blobs.extend(pairs.filter(|(layer, _)| **layer == diff_id).map(|(_, blob)| blob.digest));
        }
    }
    blobs.sort();
    blobs.dedup();
    let store = Arc::clone(&images.store);
    inner
        .blocking("unpack a layer", move || {
            for blob in blobs {
                if !matches!(store.check_blob(&blob), Ok(Verdict::Sound)) {
                    continue;
                }
                let ingest = store.ingest();
                if ingest.unpack_blob(&blob, Some(&diff_id)).is_ok() {
                    if store.layers().has(&diff_id) {
                        store.discard_layer(&diff_id)?;
                    }
                    ingest.commit()?;
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
}
