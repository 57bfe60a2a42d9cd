//! An image's documents: made of a result's layers and what is said of it, as an output wants them.

use std::sync::Arc;

use store::Ingest;
use store::image::Compression;
use store::model::{Descriptor, History, Image, Index, Manifest, media_type};
use sys::path::Root;
use types::{Digest, Kind, Platform, Reference};

use super::annotations::{Annotations, Place};
use super::attrs::Attrs;
use super::layers::{self, Sources, Wanted};
use super::{Request, reference_of, result_trees};
use crate::attest::{About, STATEMENT, Statement, Subject, purl};
use crate::error::{Error, Result};
use crate::job::{Job, Solved};
use crate::tree::{Stored, Tree};

/// The metadata that has an image's configuration.
pub(crate) const CONFIG: &str = "containerimage.config";

/// What an image is asked to be like.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// Its names.
    pub names: Vec<Reference>,
    /// Docker's media types rather than OCI's.
    docker: bool,
    compression: Option<Compression>,
    force: bool,
    epoch: Epoch,
    rewrite: bool,
    annotations: Annotations,
}

/// The time that an output is to have instead of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Epoch {
    /// That of the build, if it has one.
    #[default]
    OfBuild,
    /// None, whatever the build has.
    None,
    /// This, in seconds since 1970.
    At(i64),
}

impl Epoch {
    /// Takes `source-date-epoch`.
    ///
    /// # Errors
    /// It is no number.
    pub(super) fn take(attrs: &mut Attrs) -> Result<Self> {
        match attrs.take("source-date-epoch") {
            None => Ok(Self::OfBuild),
            Some("") => Ok(Self::None),
            Some(value) => value
                .parse()
                .map(Self::At)
                .map_err(|_| attrs.invalid("source-date-epoch", value, "it is a number of seconds")),
        }
    }

    /// The time, given that of the build.
    pub(super) fn or(self, build: Option<i64>) -> Option<i64> {
        match self {
            Self::OfBuild => build,
            Self::None => None,
            Self::At(epoch) => Some(epoch),
        }
    }
}

impl Options {
    /// Takes what all images have. `docker` are the media types without a word about them.
    ///
    /// # Errors
    /// Values that make no sense, or that are not supported.
    pub(super) fn take(attrs: &mut Attrs, docker: bool) -> Result<Self> {
        let names = attrs.take("name").unwrap_or_default().split(',').filter(|name| !name.is_empty()).map(|name| {
            Reference::parse(name)
                .map(Reference::with_default_tag)
                .map_err(|e| Error::new(Kind::Invalid, format!("invalid tag \"{name}\": {e}")))
        });
        let names = names.collect::<Result<Vec<_>>>()?;
        let (compression, force) = layers::compression(attrs)?;
        let annotations = Annotations::take(attrs)?;
        let oci = attrs.flag("oci-mediatypes")?.unwrap_or(!docker);
        // What Docker's media types have no words for.
        let needs_oci = matches!(compression, Some(Compression::Zstd(_))) || !annotations.is_empty();
        if attrs.flag("oci-artifact")? == Some(true) {
            return Err(attrs.unsupported("oci-artifact", "attestations are manifests with a configuration"));
        }
        if attrs.flag("prefer-nondist-layers")? == Some(true) {
            return Err(attrs.unsupported("prefer-nondist-layers", "layers come with the image"));
        }
        // Left over from what BuildKit had once; it passes them over as well.
        for gone in ["buildinfo", "buildinfo-attrs"] {
            attrs.take(gone);
        }
        Ok(Self {
            names,
            docker: !oci && !needs_oci,
            compression,
            force,
            epoch: Epoch::take(attrs)?,
            rewrite: attrs.flag("rewrite-timestamp")?.unwrap_or(false),
            annotations,
        })
    }

    /// The names as clients are told of them.
    pub(super) fn shown(&self) -> String {
        self.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Where an image is made.
#[derive(Clone)]
pub(super) struct Target {
    /// Content.
    pub sources: Sources,
    /// It leaves this machine.
    pub leaving: bool,
    /// It is to run here.
    pub unpack: bool,
    /// It gets the statements that are asked for.
    pub attested: Attested,
}

/// Which statements an image gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attested {
    /// All.
    Everything,
    /// Those that were asked for by name, not what clients ask for by themselves.
    Explicit,
}

impl Target {
    /// One whose content is that of the build: an image for the store.
    pub(super) fn store(job: &Arc<Job>, leaving: bool) -> Self {
        let build = Arc::clone(job.build.ingest());
        // What buildx asks for without a word from its user goes to others: here the image stays what is run.
        let attested = if leaving { Attested::Everything } else { Attested::Explicit };
        let compressed = Arc::clone(&job.build.shared.compressed);
        Self {
            sources: Sources { compressed, own: Arc::clone(&build), build, cancel: job.build.cancel.clone() },
            leaving,
            unpack: true,
            attested,
        }
    }

    /// One whose content is its own, and gone with it.
    pub(super) fn apart(job: &Job) -> Self {
        let own = Arc::new(job.build.shared.host.store().ingest());
        let build = Arc::clone(job.build.ingest());
        let compressed = Arc::clone(&job.build.shared.compressed);
        Self {
            sources: Sources { compressed, own, build, cancel: job.build.cancel.clone() },
            leaving: true,
            unpack: false,
            attested: Attested::Everything,
        }
    }
}

/// An image that was made.
#[derive(Clone, Debug)]
pub(super) struct Assembled {
    /// Its index or manifest.
    pub target: Descriptor,
    /// Its configuration, when there is one alone.
    pub config: Option<Digest>,
}

/// Makes the documents of an image, and what layers it wants otherwise.
///
/// # Errors
/// A step that failed; a configuration that is none; those of the disk.
pub(super) async fn assemble(
    job: &Arc<Job>,
    solved: &Solved,
    options: &Options,
    request: &Request,
    target: &Target,
) -> Result<Assembled> {
    let trees = result_trees(job, solved).await?;
    let epoch = options.epoch.or(request.epoch(solved)?);
    let attested = !request.attest.is_empty(target.attested == Attested::Everything);
    let wanted = Wanted {
        compression: options.compression,
        force: options.force,
        latest: epoch.filter(|_| options.rewrite),
        docker: options.docker && !attested,
        leaving: target.leaving,
        unpack: target.unpack,
    };
    let several = trees.iter().any(|(platform, _)| platform.is_some());
    // Docker's types have no place for statements.
    let options = &Options { docker: options.docker && !attested, ..options.clone() };
    if !several && !attested {
        options.annotations.without_index()?;
    }
    let mut manifests = Vec::with_capacity(trees.len());
    let mut attestations = Vec::new();
    let mut config = None;
    for (platform, tree) in trees {
        let image = configuration(solved, platform.as_deref())?;
        let layers = layers_of(target, tree.clone(), wanted).await?;
        let name = platform.clone().unwrap_or_else(|| image.platform().to_string());
        let image = timed(image, &layers, epoch);
        let (ingest, options) = (Arc::clone(&target.sources.own), options.clone());
        let (job, attest, everything) =
            (Arc::clone(job), request.attest.clone(), target.attested == Attested::Everything);
        let reference = reference_of(solved, platform.as_deref()).cloned();
        let written = move || {
            let (manifest, config) = manifest(&ingest, &image, &layers, &options, &name)?;
            let about = About {
                job: &job,
                reference: reference.as_ref(),
                platform: &image.platform(),
                created: image.created.clone(),
            };
            let root = || Ok(Root::from_fd(tree.mount_read_only(job.build.shared.host.store())?));
            let statements = attest.make(&about, everything, root)?;
            let attestation = match statements.as_slice() {
                [] => None,
                some => Some(attestation(&ingest, some, &manifest, &options.names, &image.platform())?),
            };
            Ok((manifest, config, attestation))
        };
        let (manifest, digest, attestation) = blocking(written).await?;
        manifests.push(manifest);
        attestations.extend(attestation);
        config = Some(digest);
    }
    // Statements come after the images: readers take the first that fits.
    manifests.extend(attestations);
    if !several
        && !attested
        && let Some(only) = manifests.pop()
    {
        return Ok(Assembled { target: only, config });
    }
    let (ingest, options) = (Arc::clone(&target.sources.own), options.clone());
    let target = blocking(move || index(&ingest, manifests, &options)).await?;
    Ok(Assembled { target, config: None })
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::io("making the output was interrupted", e))?
}

/// Layers as they are wanted, several at a time.
async fn layers_of(target: &Target, tree: Tree, wanted: Wanted) -> Result<Vec<Stored>> {
    let ingest = Arc::clone(&target.sources.build);
    let stored = blocking(move || tree.store(&ingest)).await?;
    let each = stored.into_iter().map(|layer| {
        let sources = target.sources.clone();
        blocking(move || layers::finished(&sources, layer, &wanted))
    });
    futures_util::future::try_join_all(each).await
}

/// The configuration that came with a result.
///
/// # Errors
/// It is none.
pub(super) fn configuration(solved: &Solved, platform: Option<&str>) -> Result<Image> {
    let own = platform.and_then(|platform| solved.metadata.get(&format!("{CONFIG}/{platform}")));
    match own.or_else(|| solved.metadata.get(CONFIG)) {
        Some(bytes) => Image::parse(bytes)
            .map_err(|e| Error::new(Kind::Invalid, format!("the image's configuration cannot be read: {e}"))),
        None => {
            let host = Platform::host();
            Ok(Image { os: host.os, architecture: host.arch, variant: host.variant, ..Image::default() })
        }
    }
}

/// A configuration with the layers as they are, and times where it left them open. With an epoch, that is when the image was
/// made, and nothing that this build did is younger; what a base image says of itself stays.
fn timed(mut image: Image, layers: &[Stored], epoch: Option<i64>) -> Image {
    image.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let epoch = epoch.map(|epoch| (epoch, rfc3339(epoch.saturating_mul(1_000_000_000))));
    let mut below = layers.iter();
    let mut last = image.history.iter().find_map(|entry| entry.created.clone());
    for entry in &mut image.history {
        if !entry.empty_layer {
            match below.next() {
                Some(layer) => {
                    if let Some(time) = layer.created_ns.map(rfc3339) {
                        entry.created.get_or_insert(time);
                        if let Some((_, time)) = epoch.as_ref().filter(|(epoch, _)| !older(entry, *epoch)) {
                            entry.created = Some(time.clone());
                        }
                    }
                }
                None => entry.empty_layer = true,
            }
        }
        if let (None, Some((_, time))) = (&entry.created, &epoch) {
            entry.created = Some(time.clone());
        }
        match &entry.created {
            Some(time) => last = Some(time.clone()),
            None => entry.created.clone_from(&last),
        }
    }
    for layer in below {
        let own = layer.created_ns.map(|made| epoch.as_ref().map_or_else(|| rfc3339(made), |(_, time)| time.clone()));
        let created = own.or_else(|| last.clone());
        last.clone_from(&created);
        image.history.push(History { created, ..History::default() });
    }
    if image.created.is_none() {
        image.created = last;
    }
    if let Some((_, time)) = epoch {
        image.created = Some(time);
    }
    image
}

/// Whether an entry says that it is older than the epoch.
fn older(entry: &History, epoch: i64) -> bool {
    let created = entry.created.as_ref().and_then(|created| created.parse::<jiff::Timestamp>().ok());
    created.is_some_and(|created| created.as_second() < epoch)
}

/// Writes configuration and manifest; gives the manifest, and the digest of the configuration.
fn manifest(
    ingest: &Ingest,
    image: &Image,
    layers: &[Stored],
    options: &Options,
    platform: &str,
) -> Result<(Descriptor, Digest)> {
    let kind = |oci: &'static str, docker: &'static str| if options.docker { docker } else { oci };
    let bytes = image.to_bytes()?;
    let digest = ingest.document(&bytes, None)?;
    let config = kind(media_type::OCI_CONFIG, media_type::DOCKER_CONFIG);
    let config = Descriptor::new(config, digest, bytes.len() as u64);
    let own = kind(media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST);
    let mut manifest = Manifest::new(config, layers.iter().map(|layer| layer.blob.clone()).collect());
    manifest.media_type = Some(own.to_owned());
    manifest.annotations = options.annotations.of(Place::Manifest, Some(platform));
    let bytes = manifest.to_bytes()?;
    let mut target = Descriptor::new(own, ingest.document(&bytes, None)?, bytes.len() as u64);
    target.platform = Some(image.platform());
    target.annotations = options.annotations.of(Place::ManifestDescriptor, Some(platform));
    Ok((target, digest))
}

/// Writes statements about a manifest, as BuildKit keeps them: in a manifest of their own, whose configuration is none.
fn attestation(
    ingest: &Ingest,
    statements: &[Statement],
    about: &Descriptor,
    names: &[Reference],
    platform: &Platform,
) -> Result<Descriptor> {
    let sha256 = about.digest.hex().to_string();
    let mut subjects: Vec<Subject> =
        names.iter().map(|name| Subject { name: purl(name, Some(platform)), sha256: sha256.clone() }).collect();
    if subjects.is_empty() {
        subjects.push(Subject { name: "_".to_owned(), sha256 });
    }
    let mut layers = Vec::with_capacity(statements.len());
    for statement in statements {
        let bytes = statement.about(&subjects)?;
        let mut layer = Descriptor::new(STATEMENT, ingest.document(&bytes, None)?, bytes.len() as u64);
        let kind = ("in-toto.io/predicate-type".to_owned(), statement.predicate_type.to_owned());
        layer.annotations = Some([kind].into());
        layers.push(layer);
    }
    let mut image = Image { os: "unknown".to_owned(), architecture: "unknown".to_owned(), ..Image::default() };
    image.rootfs.diff_ids = layers.iter().map(|layer| types::DiffId(layer.digest)).collect();
    let bytes = image.to_bytes()?;
    let config = Descriptor::new(media_type::OCI_CONFIG, ingest.document(&bytes, None)?, bytes.len() as u64);
    let bytes = Manifest::new(config, layers).to_bytes()?;
    let mut target = Descriptor::new(media_type::OCI_MANIFEST, ingest.document(&bytes, None)?, bytes.len() as u64);
    target.platform = Some(image.platform());
    target.annotations = Some(
        [
            ("vnd.docker.reference.digest".to_owned(), about.digest.to_string()),
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
        ]
        .into(),
    );
    Ok(target)
}

/// Writes the index of an image of several manifests.
fn index(ingest: &Ingest, manifests: Vec<Descriptor>, options: &Options) -> Result<Descriptor> {
    let own = if options.docker { media_type::DOCKER_LIST } else { media_type::OCI_INDEX };
    let annotations = options.annotations.of(Place::Index, None);
    let index = Index { schema_version: 2, media_type: Some(own.to_owned()), manifests, annotations };
    let bytes = serde_json::to_vec(&index).map_err(|e| Error::io("cannot encode an index", e))?;
    let mut target = Descriptor::new(own, ingest.document(&bytes, None)?, bytes.len() as u64);
    target.annotations = options.annotations.of(Place::IndexDescriptor, None);
    Ok(target)
}

/// As Go writes times.
pub(super) fn rfc3339(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map(|time| time.to_string()).unwrap_or_default()
}
