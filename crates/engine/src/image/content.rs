//! What an image name points at, read once: index, manifests, configurations and their sizes.
//!
//! An [`Image`] never changes: it is made from content that its own digest names. While somebody holds
//! one, its blobs and layers are not collected, so it is also the lease of whoever is using it.

use std::collections::{BTreeMap, HashSet};

use docker_types::StrSlice;
use docker_types::container::HealthConfig;
use docker_types::image::{AttestationData, ImageConfig, ImageData, ImageDataSize, ManifestSize, ManifestSummary};
use store::Store;
use store::model::{self, Descriptor, Document, MAX_CONFIG, MAX_MANIFEST, Manifest, media_type};
use types::{DiffId, Digest, Platform};

use crate::error::{Result, fail};

/// Everything below one target.
#[derive(Debug)]
pub(crate) struct Image {
    /// Index or manifest; its digest is the image's id.
    pub target: Descriptor,
    /// In the order of the index; one when the target is a manifest.
    pub variants: Vec<Variant>,
}

/// One manifest of an image.
#[derive(Debug)]
pub(crate) struct Variant {
    pub descriptor: Descriptor,
    /// Absent when the manifest itself was not pulled, or is none of an image.
    pub body: Option<Body>,
}

/// A manifest that is here.
#[derive(Debug)]
pub(crate) struct Body {
    pub manifest: Manifest,
    pub config: model::Image,
    /// Every layer is unpacked.
    pub available: bool,
    /// Bytes of manifest, configuration and the layers' blobs.
    pub content: u64,
    /// Bytes of each unpacked layer, lowest first.
    pub layer_sizes: Vec<u64>,
}

impl Image {
    /// Read what `target` stands for.
    ///
    /// # Errors
    /// When the target itself is missing or malformed; manifests of an index may be missing.
    pub(crate) fn read(store: &Store, target: Descriptor) -> Result<Self> {
        let bytes = store.blobs().read(&target.digest, MAX_MANIFEST)?;
        let variants = match Document::parse(&bytes, &target.media_type)? {
            Document::Manifest(manifest) => {
                let body = Body::read(store, target.digest, bytes.len() as u64, manifest)?;
                vec![Variant { descriptor: target.clone(), body: Some(body) }]
            }
            Document::Index(index) => index
                .manifests
                .into_iter()
                .map(|descriptor| Variant { body: Self::entry(store, &descriptor), descriptor })
                .collect(),
        };
        Ok(Self { target, variants })
    }

    /// An entry of an index that may not be here, or may be an artifact that is no image.
    fn entry(store: &Store, descriptor: &Descriptor) -> Option<Body> {
        let bytes = store.blobs().read(&descriptor.digest, MAX_MANIFEST).ok()?;
        match Document::parse(&bytes, &descriptor.media_type) {
            Ok(Document::Manifest(manifest)) => Body::read(store, descriptor.digest, bytes.len() as u64, manifest).ok(),
            _ => None,
        }
    }

    /// The image's id.
    pub(crate) fn id(&self) -> Digest {
        self.target.digest
    }

    /// Manifests of runnable images whose configuration is here, with it.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = (&Variant, &Body)> {
        self.variants.iter().filter(|v| !v.descriptor.is_attestation()).filter_map(|v| Some((v, v.body.as_ref()?)))
    }

    /// The manifest to use: the one for `wanted`, or else for this host, or else any that is here.
    pub(crate) fn choose(&self, wanted: Option<&Platform>) -> Option<(&Variant, &Body)> {
        if let Some(wanted) = wanted {
            return self.bodies().find(|(_, body)| wanted.matches(&body.config.platform()));
        }
        let host = Platform::host();
        let rank = |body: &Body| (!body.available, !host.matches(&body.config.platform()));
        self.bodies().min_by_key(|(_, body)| rank(body))
    }

    /// The manifest an inspection shows: always one when anything is here.
    pub(crate) fn shown(&self) -> Option<&Body> {
        self.choose(None).map(|(_, body)| body)
    }

    /// Every digest of content the image holds, present or not.
    pub(crate) fn references(&self, blobs: &mut HashSet<Digest>, layers: &mut HashSet<DiffId>) {
        blobs.insert(self.target.digest);
        for variant in &self.variants {
            blobs.insert(variant.descriptor.digest);
            if let Some(body) = &variant.body {
                blobs.insert(body.manifest.config.digest);
                blobs.extend(body.manifest.layers.iter().map(|layer| layer.digest));
                layers.extend(body.config.rootfs.diff_ids.iter().copied());
            }
        }
    }

    /// Bytes of blobs and unpacked layers, each counted once.
    pub(crate) fn size(&self) -> u64 {
        let mut seen = HashSet::new();
        let mut sum = 0;
        for (_, body) in self.bodies() {
            sum += body.content;
            for (diff_id, size) in body.config.rootfs.diff_ids.iter().zip(&body.layer_sizes) {
                if seen.insert(*diff_id) {
                    sum += size;
                }
            }
        }
        sum
    }

    /// When it was made, as it says itself: seconds since the epoch and nanoseconds, 0 when it does not.
    pub(crate) fn created(&self) -> (i64, u32) {
        let created = self.shown().and_then(|body| body.config.created.as_deref());
        created.and_then(docker_types::time::parse_rfc3339).unwrap_or_default()
    }

    /// The image's labels.
    pub(crate) fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.shown()?.config.config.labels.as_ref()
    }

    /// What lists with `manifests` show.
    pub(crate) fn manifest_summaries(&self, users: &dyn Fn(&Digest) -> Vec<String>) -> Vec<ManifestSummary> {
        self.variants.iter().map(|variant| variant.summary(users)).collect()
    }
}

impl Variant {
    fn summary(&self, users: &dyn Fn(&Digest) -> Vec<String>) -> ManifestSummary {
        let digest = self.descriptor.digest;
        let content = self.body.as_ref().map_or(0, |body| body.content);
        let unpacked = self.body.as_ref().map_or(0, Body::unpacked);
        let subject = self.descriptor.annotation("vnd.docker.reference.digest").unwrap_or_default();
        let attestation = self.descriptor.is_attestation();
        let kind = match (attestation, &self.body) {
            (true, _) => "attestation",
            (false, None) if self.descriptor.platform.is_none() => "unknown",
            (false, _) => "image",
        };
        let platform =
            self.body.as_ref().map(|body| body.config.platform()).or_else(|| self.descriptor.platform.clone());
        let image_data = (kind == "image").then(|| ImageData {
            platform: platform.as_ref().map(docker_types::oci::Platform::from).unwrap_or_default(),
            containers: users(&digest),
            size: ImageDataSize { unpacked: signed(unpacked) },
        });
        ManifestSummary {
            id: digest.to_string(),
            descriptor: oci_descriptor(&self.descriptor, platform.as_ref()),
            available: self.body.as_ref().is_some_and(|body| body.available),
            size: ManifestSize { content: signed(content), total: signed(content + unpacked) },
            kind: kind.to_owned(),
            image_data,
            attestation_data: attestation.then(|| AttestationData { subject: subject.to_owned() }),
        }
    }
}

impl Body {
    fn read(store: &Store, digest: Digest, manifest_size: u64, manifest: Manifest) -> Result<Self> {
        if manifest.layers.iter().any(|layer| !media_type::is_layer(&layer.media_type)) {
            return Err(fail!(Invalid, "manifest {digest} is not one of an image: it has layers of another type"));
        }
        let bytes = store.blobs().read(&manifest.config.digest, MAX_CONFIG)?;
        let config = model::Image::parse(&bytes)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            let (layers, ids) = (manifest.layers.len(), diff_ids.len());
            return Err(fail!(Invalid, "manifest {digest} has {layers} layers, its configuration names {ids}"));
        }
        let available = diff_ids.iter().all(|diff_id| store.layers().has(diff_id));
        let layer_sizes = diff_ids.iter().map(|diff_id| store.layers().size(diff_id).unwrap_or(0)).collect();
        let blobs: u64 = manifest.layers.iter().filter(|l| store.blobs().has(&l.digest)).map(|l| l.size).sum();
        let content = manifest_size + bytes.len() as u64 + blobs;
        Ok(Self { manifest, config, available, content, layer_sizes })
    }

    /// Bytes of the unpacked layers.
    pub(crate) fn unpacked(&self) -> u64 {
        self.layer_sizes.iter().sum()
    }

    /// The layers' uncompressed digests, lowest first.
    pub(crate) fn layers(&self) -> Vec<String> {
        self.config.rootfs.diff_ids.iter().map(ToString::to_string).collect()
    }
}

/// Counts of the API are signed.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A descriptor as the API shows it.
pub(super) fn oci_descriptor(from: &Descriptor, platform: Option<&Platform>) -> docker_types::oci::Descriptor {
    docker_types::oci::Descriptor {
        media_type: from.media_type.clone(),
        digest: from.digest.to_string(),
        size: signed(from.size),
        annotations: from.annotations.clone().unwrap_or_default(),
        platform: platform.map(Into::into),
        artifact_type: from.artifact_type.clone().unwrap_or_default(),
        ..docker_types::oci::Descriptor::default()
    }
}

/// The configuration in the API's form.
pub(crate) fn to_api(config: &model::ImageConfig) -> ImageConfig {
    let set = |map: &Option<BTreeMap<String, model::Empty>>| {
        map.as_ref().map(|map| map.keys().map(|key| (key.clone(), docker_types::Empty {})).collect())
    };
    let words = |list: &Option<Vec<String>>| list.clone().map(StrSlice);
    ImageConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: words(&config.entrypoint),
        cmd: words(&config.cmd),
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.as_ref().map(|check| HealthConfig {
            test: check.test.clone().unwrap_or_default(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: config.on_build.clone(),
        shell: words(&config.shell),
    }
}

/// The API's form as it is stored.
pub(crate) fn from_api(config: &ImageConfig) -> model::ImageConfig {
    let set = |map: &Option<BTreeMap<String, docker_types::Empty>>| {
        map.as_ref().map(|map| map.keys().map(|key| (key.clone(), model::Empty {})).collect())
    };
    let words = |list: &Option<StrSlice>| list.clone().map(|list| list.0);
    model::ImageConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: words(&config.entrypoint),
        cmd: words(&config.cmd),
        args_escaped: config.args_escaped,
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        healthcheck: config.healthcheck.as_ref().map(|check| model::Healthcheck {
            test: Some(check.test.clone()).filter(|test| !test.is_empty()),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: config.on_build.clone(),
        shell: words(&config.shell),
        stop_timeout: None,
    }
}
