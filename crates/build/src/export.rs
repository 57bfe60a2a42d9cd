//! What becomes of a result: an image with its names.

use std::collections::HashMap;
use std::sync::Arc;

use buildkit::wire::control;
use sha2::{Digest as _, Sha256};
use store::Ingest;
use store::model::{Descriptor, History, Image, Index, media_type};
use types::{Kind, Platform, Reference};

use crate::error::{Error, Result};
use crate::job::{Job, Solved};
use crate::progress;
use crate::tree::{Stored, Tree};

/// The metadata that has an image's configuration.
pub const CONFIG: &str = "containerimage.config";

/// Carries out what is asked to become of a result. The answer is for the client.
///
/// # Errors
/// What is asked for is not supported; the disk is full; a step that was not needed before failed.
pub async fn export(job: &Job, solved: &Solved, exporters: &[control::Exporter]) -> Result<HashMap<String, String>> {
    let mut answer = HashMap::new();
    if exporters.is_empty() {
        for reference in solved.reference.iter().chain(solved.by_platform.iter().map(|(_, reference)| reference)) {
            job.tree(reference).await?;
        }
    }
    for exporter in exporters {
        match exporter.r#type.as_str() {
            "moby" | "image" => answer.extend(image(job, solved, &exporter.attrs).await?),
            other => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("output type \"{other}\" is not supported yet: build an image and use docker save"),
                ));
            }
        }
    }
    Ok(answer)
}

/// Options of an image that are known, in the sense that leaving them out changes nothing here.
const OPTIONS: [&str; 10] = [
    "name",
    "push",
    "unpack",
    "store",
    "name-canonical",
    "dangling-name-prefix",
    "oci-mediatypes",
    "buildinfo",
    "compression",
    "force-compression",
];

async fn image(job: &Job, solved: &Solved, attrs: &HashMap<String, String>) -> Result<HashMap<String, String>> {
    if attrs.get("push").is_some_and(|value| value == "true") {
        return Err(Error::new(
            Kind::Unsupported,
            "pushing at the end of a build is not supported yet: use docker push",
        ));
    }
    if let Some(option) = attrs.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
        return Err(Error::new(Kind::Unsupported, format!("the option {option} of images is not supported yet")));
    }
    let names = attrs.get("name").map(String::as_str).unwrap_or_default();
    let names = names.split(',').filter(|name| !name.is_empty()).map(|name| {
        Reference::parse(name)
            .map(Reference::with_default_tag)
            .map_err(|e| Error::new(Kind::Invalid, format!("invalid tag \"{name}\": {e}")))
    });
    let names = names.collect::<Result<Vec<_>>>()?;
    let mut trees = Vec::new();
    match (&solved.reference, solved.by_platform.as_slice()) {
        (Some(reference), _) => trees.push((None, job.tree(reference).await?)),
        (None, []) => trees.push((None, Tree::default())),
        (None, several) => {
            for (platform, reference) in several {
                trees.push((Some(platform.clone()), job.tree(reference).await?));
            }
        }
    }
    let export = Step::begin(job, "exporting to image");
    let exported = write(job, solved, trees, names, &export).await;
    export.end(exported.as_ref().err());
    exported
}

async fn write(
    job: &Job,
    solved: &Solved,
    trees: Vec<(Option<String>, Tree)>,
    names: Vec<Reference>,
    step: &Step<'_>,
) -> Result<HashMap<String, String>> {
    let ingest = Arc::clone(job.build.ingest());
    let metadata = solved.metadata.clone();
    let layers = step.part("exporting layers");
    let images = tokio::task::spawn_blocking(move || {
        let mut images = Vec::new();
        for (platform, tree) in trees {
            let key = match &platform {
                Some(platform) => format!("{CONFIG}/{platform}"),
                None => CONFIG.to_owned(),
            };
            let image = match metadata.get(&key).or_else(|| metadata.get(CONFIG)) {
                Some(bytes) => Image::parse(bytes)
                    .map_err(|e| Error::new(Kind::Invalid, format!("the image's configuration cannot be read: {e}")))?,
                None => scratch(),
            };
            images.push(manifest(&ingest, image, &tree.store(&ingest)?)?);
        }
        let single = images.len() == 1;
        Ok::<_, Error>(if single { images.remove(0) } else { index(&ingest, images)? })
    });
    let target = images.await.map_err(|e| Error::io("exporting was interrupted", e))??;
    layers.end();
    step.part(&format!("exporting manifest {}", target.digest)).end();
    let naming: Vec<_> = names.iter().map(|name| step.part(&format!("naming to {name}"))).collect();
    // What the image does not have, steps on the way to it, goes to the disk when nobody waits.
    let (ingest, part) = (Arc::clone(job.build.ingest()), target.clone());
    let ingest = tokio::task::spawn_blocking(move || ingest.split(&part));
    let ingest = Arc::new(ingest.await.map_err(|e| Error::io("exporting was interrupted", e))??);
    let shown = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let digest = target.digest.to_string();
    let descriptor = serde_json::to_string(&target).map_err(|e| Error::io("cannot encode a descriptor", e))?;
    job.build.shared.host.admit(ingest, target, names).await?;
    naming.into_iter().for_each(Part::end);
    let mut answer = HashMap::from([
        ("containerimage.digest".to_owned(), digest),
        ("containerimage.descriptor".to_owned(), base64(&descriptor)),
    ]);
    if !shown.is_empty() {
        answer.insert("image.name".to_owned(), shown);
    }
    Ok(answer)
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The configuration of a result that came without one.
fn scratch() -> Image {
    let host = Platform::host();
    Image { os: host.os, architecture: host.arch, variant: host.variant, ..Image::default() }
}

/// An image's documents: its configuration with the layers as they are, and times where it left them open.
fn manifest(ingest: &Ingest, mut image: Image, layers: &[Stored]) -> Result<Descriptor> {
    image.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let mut below = layers.iter();
    let mut last = image.history.iter().find_map(|entry| entry.created.clone());
    for entry in &mut image.history {
        if !entry.empty_layer {
            match below.next() {
                Some(layer) => {
                    if let Some(time) = layer.created_ns.map(rfc3339) {
                        entry.created.get_or_insert(time);
                    }
                }
                None => entry.empty_layer = true,
            }
        }
        match &entry.created {
            Some(time) => last = Some(time.clone()),
            None => entry.created.clone_from(&last),
        }
    }
    for layer in below {
        let created = layer.created_ns.map(rfc3339).or_else(|| last.clone());
        last.clone_from(&created);
        image.history.push(History { created, ..History::default() });
    }
    if image.created.is_none() {
        image.created = last;
    }
    let blobs: Vec<Descriptor> = layers.iter().map(|layer| layer.blob.clone()).collect();
    Ok(store::image::write(ingest, &image, &blobs)?)
}

/// An image of several platforms.
fn index(ingest: &Ingest, manifests: Vec<Descriptor>) -> Result<Descriptor> {
    let index =
        Index { schema_version: 2, media_type: Some(media_type::OCI_INDEX.to_owned()), manifests, annotations: None };
    let bytes = serde_json::to_vec(&index).map_err(|e| Error::io("cannot encode an index", e))?;
    let digest = ingest.document(&bytes, None)?;
    Ok(Descriptor::new(media_type::OCI_INDEX, digest, bytes.len() as u64))
}

/// As Go writes times.
fn rfc3339(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map(|time| time.to_string()).unwrap_or_default()
}

/// A step that is none of the graph's.
pub(crate) struct Step<'a> {
    job: &'a Job,
    vertex: control::Vertex,
}

impl<'a> Step<'a> {
    /// Tells of its beginning.
    pub(crate) fn begin(job: &'a Job, name: &str) -> Self {
        let digest = format!("sha256:{}", faster_hex::hex_string(&Sha256::digest(name.as_bytes())));
        let vertex = control::Vertex {
            digest,
            name: name.to_owned(),
            started: Some(progress::now()),
            ..control::Vertex::default()
        };
        job.progress.vertex(vertex.clone());
        Self { job, vertex }
    }

    /// Tells of its end.
    pub(crate) fn end(mut self, error: Option<&Error>) {
        self.vertex.completed = Some(progress::now());
        self.vertex.error = error.map(ToString::to_string).unwrap_or_default();
        self.job.progress.vertex(self.vertex);
    }

    fn part(&self, id: &str) -> Part {
        let status = control::VertexStatus {
            id: id.to_owned(),
            vertex: self.vertex.digest.clone(),
            started: Some(progress::now()),
            timestamp: Some(progress::now()),
            ..control::VertexStatus::default()
        };
        self.job.progress.status(status.clone());
        Part { progress: Arc::clone(&self.job.progress), status }
    }
}

/// A part of such a step.
struct Part {
    progress: Arc<progress::Progress>,
    status: control::VertexStatus,
}

impl Part {
    fn end(mut self) {
        self.status.completed = Some(progress::now());
        self.status.timestamp = self.status.completed;
        self.progress.status(self.status);
    }
}
