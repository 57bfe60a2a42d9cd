//! Where trees come from: images, a client's files.

mod fetched;
mod git;
mod http;
mod layout;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buildkit::wire::{control, llb};
use types::{Kind, Platform, Reference};

pub use fetched::FetchedTrees;
pub(crate) use layout::parse as parse_layout;

use super::{Build, Outcome};
use crate::error::{Error, Result};
use crate::graph::Vertex;
use crate::host::{BaseImage, WantedImage};
use crate::progress;
use crate::session::Wanted;
use crate::tree::{Files, Stored, Tree};

impl Build {
    /// Loads what a source names.
    pub(super) async fn load(self: &Arc<Self>, vertex: &Vertex, source: &llb::SourceOp) -> Result<Outcome> {
        let (scheme, rest) = source.identifier.split_once("://").unwrap_or(("", &source.identifier));
        match scheme {
            "docker-image" => {
                let platform = vertex.op.platform.as_ref().map(platform);
                self.image(rest, platform, source.attrs.get("image.resolvemode").map(String::as_str)).await
            }
            "local" => self.local(vertex, rest, &source.attrs).await,
            "http" | "https" => self.http(vertex, source).await,
            "git" => self.git(vertex, rest, &source.attrs).await,
            "oci-layout" => self.layout(vertex, rest, &source.attrs).await,
            "blob" => Err(Error::new(
                Kind::Unsupported,
                format!("sources of the kind {scheme}:// are not supported yet: fetch it and send it with the context"),
            )),
            _ => Err(Error::new(
                Kind::Invalid,
                format!("unsupported source {}: the kind is not known", source.identifier),
            )),
        }
    }

    /// An image by its name, for a platform.
    ///
    /// # Errors
    /// It is nowhere to be had.
    pub async fn base_image(&self, name: &str, platform: Option<Platform>, mode: Option<&str>) -> Result<BaseImage> {
        let reference = Reference::parse(name)
            .map_err(|e| Error::new(Kind::Invalid, format!("invalid image reference \"{name}\": {e}")))?
            .with_default_tag();
        let credentials = self.given().and_then(|given| given.credentials.get(reference.domain())).cloned();
        let fresh = mode == Some("pull");
        let wanted = WantedImage { reference, platform, fresh, session: self.session.clone(), credentials };
        self.shared.host.image(&wanted).await
    }

    async fn image(&self, name: &str, platform: Option<Platform>, mode: Option<&str>) -> Result<Outcome> {
        let image = self.base_image(name, platform.clone(), mode).await?;
        self.materials
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert((name.to_owned(), platform), image.digest.clone());
        let layers = layers(&image)?;
        let key = layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>().join(",");
        let tree = Tree::stored(layers, Some(image.lease));
        Ok(Outcome { key: format!("image {key}"), stable: true, outputs: vec![Some(tree)], cached: true })
    }

    async fn local(&self, vertex: &Vertex, name: &str, attrs: &HashMap<String, String>) -> Result<Outcome> {
        if let Some(files) = self.given().and_then(|given| given.locals.get(name)) {
            return arrived(Arc::clone(files));
        }
        let session = match attrs.get("local.session").or(self.session.as_ref()) {
            Some(session) => session.clone(),
            None => return Err(Error::new(Kind::Invalid, format!("no session to get the files of {name} from"))),
        };
        let list = |key: &str| match attrs.get(key).filter(|text| !text.is_empty()) {
            Some(text) => serde_json::from_str::<Vec<String>>(text)
                .map_err(|e| Error::new(Kind::Invalid, format!("{key} of the files of {name}: {e}"))),
            None => Ok(Vec::new()),
        };
        let wanted = Wanted {
            name: name.to_owned(),
            include: list("local.includepattern")?,
            exclude: list("local.excludepatterns")?,
            follow: list("local.followpaths")?,
            hint: attrs.get("local.sharedkeyhint").cloned().unwrap_or_default(),
        };
        let client = self.shared.sessions.get(&session).await?;
        let told = self.transfer(vertex, name);
        let moved = Arc::clone(&told);
        let files = client.files(&self.shared.pool, &wanted, move |bytes| moved.add(bytes)).await?;
        told.end();
        arrived(Arc::new(files))
    }

    fn transfer(&self, vertex: &Vertex, name: &str) -> Arc<Transfer> {
        let transfer = Transfer {
            progress: Arc::clone(&self.progress),
            status: control::VertexStatus {
                id: format!("transferring {name}:"),
                vertex: vertex.digest.clone(),
                started: Some(progress::now()),
                ..control::VertexStatus::default()
            },
            bytes: AtomicU64::new(0),
            told: AtomicU64::new(0),
        };
        transfer.tell(false);
        Arc::new(transfer)
    }
}

/// Files that are different every time.
fn arrived(files: Arc<dyn Files>) -> Result<Outcome> {
    Ok(Outcome {
        key: format!("files {}", crate::random::name()?),
        stable: false,
        outputs: vec![Some(Tree::files(files))],
        cached: false,
    })
}

/// Layers of an image, with the blobs that its manifest names.
pub(super) fn layers(image: &BaseImage) -> Result<Vec<Stored>> {
    let diff_ids = &image.image.rootfs.diff_ids;
    if diff_ids.len() != image.manifest.layers.len() {
        return Err(Error::new(Kind::Invalid, "the image's configuration and manifest name different layers"));
    }
    let pairs = diff_ids.iter().zip(&image.manifest.layers);
    Ok(pairs.map(|(diff_id, blob)| Stored { diff_id: *diff_id, blob: blob.clone(), created_ns: None }).collect())
}

/// A platform of a definition.
pub(crate) fn platform(platform: &llb::Platform) -> Platform {
    Platform::new(&platform.os, &platform.architecture, &platform.variant)
}

/// How far files have come, told now and then.
struct Transfer {
    progress: Arc<progress::Progress>,
    status: control::VertexStatus,
    bytes: AtomicU64,
    told: AtomicU64,
}

impl Transfer {
    fn add(&self, bytes: u64) {
        let now = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Every 4 MiB: clients draw a few times a second.
        if now - self.told.load(Ordering::Relaxed) >= 4 << 20 {
            self.told.store(now, Ordering::Relaxed);
            self.tell(false);
        }
    }

    fn end(&self) {
        self.tell(true);
    }

    fn tell(&self, ended: bool) {
        let mut status = self.status.clone();
        status.current = i64::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        status.timestamp = Some(progress::now());
        status.completed = ended.then(progress::now);
        self.progress.status(status);
    }
}
