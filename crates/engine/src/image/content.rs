//! What an image name points at, read once: index, manifests, configurations and their sizes.
//!
//! An [`Image`] never changes: it is made from content that its own digest names. While somebody holds
//! one, its blobs and layers are not collected, so it is also the lease of whoever is using it. Sizes are
//! those of what is on disk, never those a manifest claims, and an index may repeat a manifest as often
//! as it likes: each is read and kept once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use docker_types::image::{AttestationData, ImageData, ImageDataSize, ManifestSize, ManifestSummary};
use store::Store;
use store::model::{self, Descriptor, Document, MAX_CONFIG, MAX_MANIFEST, Manifest, media_type};
use types::{DiffId, Digest, Platform};

use crate::error::{Result, fail};

/// Bytes of manifests and configurations kept in memory of one index. Real ones have some tens of
/// manifests with a few KiB each; any single image fits, whatever its size.
const MAX_KEPT: u64 = MAX_MANIFEST + MAX_CONFIG + (4 << 20);

/// Everything below one target.
#[derive(Debug)]
pub(crate) struct Image {
    /// Index or manifest; its digest is the image's id.
    pub target: Descriptor,
    /// In the order of the index; one when the target is a manifest.
    pub variants: Vec<Variant>,
    /// What lists ask for of every image, worked out once.
    created: OnceLock<(i64, u32)>,
    size: OnceLock<u64>,
}

/// One manifest of an image.
#[derive(Debug)]
pub(crate) struct Variant {
    pub descriptor: Descriptor,
    /// Absent when the manifest itself was not pulled, is none of an image, or is one too many to keep.
    pub body: Option<Arc<Body>>,
    /// What a manifest that is none of an image names, such as an attestation's statements.
    pub parts: Arc<[Digest]>,
    /// Its platform was removed: nothing keeps the manifest any more.
    pub removed: bool,
}

/// A manifest that is here.
#[derive(Debug)]
pub(crate) struct Body {
    pub manifest: Manifest,
    pub config: Arc<model::Image>,
    /// Every layer is unpacked.
    pub available: bool,
    /// Bytes of the manifest.
    pub manifest_size: u64,
    /// Bytes of the configuration.
    pub config_size: u64,
    /// Bytes of each layer's blob, lowest first; 0 for one that is not here or kept as a recipe.
    pub blob_sizes: Vec<u64>,
    /// Bytes of each unpacked layer, lowest first.
    pub layer_sizes: Vec<u64>,
}

impl Image {
    pub(super) fn new(target: Descriptor, variants: Vec<Variant>) -> Self {
        Self { target, variants, created: OnceLock::new(), size: OnceLock::new() }
    }

    /// Read what `target` stands for.
    ///
    /// # Errors
    /// When the target itself is missing or malformed; manifests of an index may be missing.
    pub(crate) fn read(store: &Store, target: Descriptor) -> Result<Self> {
        let bytes = store.blobs().read(&target.digest, MAX_MANIFEST)?;
        let variants = match Document::parse(&bytes, &target.media_type)? {
            Document::Manifest(manifest) => {
                let body = Reading::new(store).body(target.digest, bytes.len() as u64, manifest)?;
                vec![Variant {
                    descriptor: target.clone(),
                    body: Some(Arc::new(body)),
                    parts: Arc::default(),
                    removed: false,
                }]
            }
            Document::Index(index) => {
                let mut reading = Reading::new(store);
                let entries = index.manifests.into_iter();
                let variant = |descriptor| {
                    let Entry { body, parts } = reading.entry(&descriptor);
                    Variant { descriptor, body, parts, removed: false }
                };
                entries.map(variant).collect()
            }
        };
        Ok(Self::new(target, variants))
    }

    /// The image's id.
    pub(crate) fn id(&self) -> Digest {
        self.target.digest
    }

    /// Manifests of runnable images whose configuration is here, with it.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = (&Variant, &Body)> {
        self.variants.iter().filter(|v| !v.descriptor.is_attestation()).filter_map(|v| Some((v, v.body.as_deref()?)))
    }

    /// The manifest to use: the one for `wanted`, or else for this host, or else any that is here.
    pub(crate) fn choose(&self, wanted: Option<&Platform>) -> Option<(&Variant, &Body)> {
        if let Some(wanted) = wanted {
            let fitting = self.bodies().filter(|(variant, body)| wanted.matches(&variant.platform(body)));
            return fitting.min_by_key(|(_, body)| !body.available);
        }
        let mut bodies = self.bodies();
        if let (only, None) = (bodies.next(), bodies.next()) {
            return only;
        }
        let host = Platform::host();
        self.bodies().min_by_key(|(variant, body)| (!body.available, !host.matches(&variant.platform(body))))
    }

    /// As [`Image::choose`] with a platform.
    ///
    /// # Errors
    /// Not found, in Docker's words; `name` is what the user called the image.
    pub(crate) fn require(&self, name: &str, wanted: &Platform) -> Result<(&Variant, &Body)> {
        self.choose(Some(wanted)).ok_or_else(|| no_platform(name, wanted))
    }

    /// The image as it is when these manifests and what only they need have gone.
    pub(crate) fn without(&self, manifests: &HashSet<Digest>) -> Self {
        let variant = |variant: &Variant| {
            let gone = manifests.contains(&variant.descriptor.digest);
            Variant {
                descriptor: variant.descriptor.clone(),
                body: variant.body.clone().filter(|_| !gone),
                parts: if gone { Arc::default() } else { Arc::clone(&variant.parts) },
                removed: gone || variant.removed,
            }
        };
        Self::new(self.target.clone(), self.variants.iter().map(variant).collect())
    }

    /// The manifest an inspection shows: always one when anything is here.
    pub(crate) fn shown(&self) -> Option<&Body> {
        self.choose(None).map(|(_, body)| body)
    }

    /// The blob a layer came in.
    pub(crate) fn blob_of(&self, diff_id: &DiffId) -> Option<Digest> {
        let mut pairs =
            self.bodies().flat_map(|(_, body)| body.config.rootfs.diff_ids.iter().zip(&body.manifest.layers));
        pairs.find(|(layer, _)| *layer == diff_id).map(|(_, blob)| blob.digest)
    }

    /// Whether a blob is an index, manifest or configuration of the image, rather than a layer.
    pub(crate) fn is_document(&self, digest: &Digest) -> bool {
        self.id() == *digest
            || self.variants.iter().any(|variant| {
                let config = variant.body.as_ref().map(|body| body.manifest.config.digest);
                variant.descriptor.digest == *digest || config == Some(*digest)
            })
    }

    /// Every digest of content the image holds, present or not.
    pub(crate) fn references(&self, blobs: &mut HashSet<Digest>, layers: &mut HashSet<DiffId>) {
        blobs.insert(self.target.digest);
        let mut seen = HashSet::new();
        for variant in self.variants.iter().filter(|variant| seen.insert(variant.descriptor.digest)) {
            if !variant.removed {
                blobs.insert(variant.descriptor.digest);
            }
            blobs.extend(variant.parts.iter().copied());
            if let Some(body) = &variant.body {
                blobs.insert(body.manifest.config.digest);
                blobs.extend(body.manifest.layers.iter().map(|layer| layer.digest));
                layers.extend(body.config.rootfs.diff_ids.iter().copied());
            }
        }
    }

    /// Bytes of the manifests' content and of unpacked layers, each manifest and each layer counted once.
    pub(crate) fn size(&self) -> u64 {
        *self.size.get_or_init(|| self.added_up())
    }

    fn added_up(&self) -> u64 {
        let (mut manifests, mut layers) = (HashSet::new(), HashSet::new());
        let mut sum: u64 = 0;
        for (_, body) in self.bodies().filter(|(variant, _)| manifests.insert(variant.descriptor.digest)) {
            sum = sum.saturating_add(body.content());
            for (diff_id, size) in body.config.rootfs.diff_ids.iter().zip(&body.layer_sizes) {
                if layers.insert(*diff_id) {
                    sum = sum.saturating_add(*size);
                }
            }
        }
        sum
    }

    /// When it was made, as it says itself: seconds since the epoch and nanoseconds, 0 when it does not.
    pub(crate) fn created(&self) -> (i64, u32) {
        *self.created.get_or_init(|| {
            let created = self.shown().and_then(|body| body.config.created.as_deref());
            created.and_then(docker_types::time::parse_rfc3339).unwrap_or_default()
        })
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

/// Docker's words for an image that is not here for a platform.
pub(super) fn no_platform(name: &str, wanted: &Platform) -> crate::Error {
    fail!(NotFound, "image with reference {name} was found but does not provide the specified platform ({wanted})")
}

impl Variant {
    /// What the manifest is for: as its index says, or else its configuration.
    pub(crate) fn platform(&self, body: &Body) -> Platform {
        self.descriptor.platform.clone().unwrap_or_else(|| body.config.platform())
    }

    fn summary(&self, users: &dyn Fn(&Digest) -> Vec<String>) -> ManifestSummary {
        let digest = self.descriptor.digest;
        let content = self.body.as_deref().map_or(0, Body::content);
        let unpacked = self.body.as_deref().map_or(0, Body::unpacked);
        let subject = self.descriptor.annotation("vnd.docker.reference.digest").unwrap_or_default();
        let attestation = self.descriptor.is_attestation();
        let kind = match (attestation, &self.body) {
            (true, _) => "attestation",
            (false, None) if self.descriptor.platform.is_none() => "unknown",
            (false, _) => "image",
        };
        let platform =
            self.descriptor.platform.clone().or_else(|| self.body.as_ref().map(|body| body.config.platform()));
        let image_data = (kind == "image").then(|| ImageData {
            platform: platform.as_ref().map(docker_types::oci::Platform::from).unwrap_or_default(),
            containers: users(&digest),
            size: ImageDataSize { unpacked: signed(unpacked) },
        });
        ManifestSummary {
            id: digest.to_string(),
            descriptor: oci_descriptor(&self.descriptor, platform.as_ref()),
            available: self.body.as_ref().is_some_and(|body| body.available || body.is_whole()),
            size: ManifestSize { content: signed(content), total: signed(content.saturating_add(unpacked)) },
            kind: kind.to_owned(),
            image_data,
            attestation_data: attestation.then(|| AttestationData { subject: subject.to_owned() }),
        }
    }
}

/// What was found of an entry of an index.
#[derive(Clone, Default)]
struct Entry {
    body: Option<Arc<Body>>,
    parts: Arc<[Digest]>,
}

/// One target being read: what several entries of its index share is read once.
struct Reading<'a> {
    store: &'a Store,
    /// By digest and declared type, as the type decides whether the document is taken for a manifest.
    manifests: HashMap<(Digest, String), Entry>,
    /// With their bytes.
    configs: HashMap<Digest, Option<(Arc<model::Image>, u64)>>,
    /// Bytes that may still be kept.
    left: u64,
}

impl<'a> Reading<'a> {
    fn new(store: &'a Store) -> Self {
        Self { store, manifests: HashMap::new(), configs: HashMap::new(), left: MAX_KEPT }
    }

    /// An entry of an index that may not be here, or may be an artifact that is no image.
    fn entry(&mut self, descriptor: &Descriptor) -> Entry {
        if !descriptor.media_type.is_empty() && !media_type::is_manifest(&descriptor.media_type) {
            return Entry::default();
        }
        let key = (descriptor.digest, descriptor.media_type.clone());
        if let Some(known) = self.manifests.get(&key) {
            return known.clone();
        }
        let entry = self.manifest(descriptor).unwrap_or_default();
        self.manifests.insert(key, entry.clone());
        entry
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Option<Entry> {
        let size = self.store.blobs().size(&descriptor.digest).ok()?;
        self.left.checked_sub(size)?;
        let bytes = self.store.blobs().read(&descriptor.digest, MAX_MANIFEST).ok()?;
        let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, &descriptor.media_type) else { return None };
        let parts: Arc<[Digest]> = manifest.layers.iter().chain([&manifest.config]).map(|part| part.digest).collect();
        match self.body(descriptor.digest, size, manifest) {
            Ok(body) => Some(Entry { body: Some(Arc::new(body)), parts: Arc::default() }),
            Err(_) => {
                // Kept like a body: digests are no longer than what names them.
                self.left = self.left.checked_sub(size)?;
                Some(Entry { body: None, parts })
            }
        }
    }

    fn body(&mut self, digest: Digest, manifest_size: u64, manifest: Manifest) -> Result<Body> {
        if manifest.layers.iter().any(|layer| !media_type::is_layer(&layer.media_type)) {
            return Err(fail!(Invalid, "manifest {digest} is not one of an image: it has layers of another type"));
        }
        let too_much = || fail!(Exhausted, "manifest {digest} is left out: the image has too many and too large ones");
        let left = self.left.checked_sub(manifest_size).ok_or_else(too_much)?;
        self.left = left;
        let (config, config_size) = match self.configs.get(&manifest.config.digest) {
            Some(Some(known)) => known.clone(),
            Some(None) => return Err(fail!(Invalid, "manifest {digest} has a configuration that cannot be read")),
            None => {
                let read = self.config(&manifest.config.digest);
                self.configs.insert(manifest.config.digest, read.as_ref().ok().cloned());
                read?
            }
        };
        let store = self.store;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            let (layers, ids) = (manifest.layers.len(), diff_ids.len());
            return Err(fail!(Invalid, "manifest {digest} has {layers} layers, its configuration names {ids}"));
        }
        let available = diff_ids.iter().all(|diff_id| store.layers().has(diff_id));
        let layer_sizes = diff_ids.iter().map(|diff_id| store.layers().size(diff_id).unwrap_or(0)).collect();
        let blob_sizes = manifest.layers.iter().map(|layer| store.blobs().kept_size(&layer.digest)).collect();
        Ok(Body { manifest, config, available, manifest_size, config_size, blob_sizes, layer_sizes })
    }

    fn config(&mut self, digest: &Digest) -> Result<(Arc<model::Image>, u64)> {
        let size = self.store.blobs().size(digest)?;
        let Some(left) = self.left.checked_sub(size) else {
            return Err(fail!(Exhausted, "configuration {digest} is left out: the image has too many large ones"));
        };
        let config = model::Image::parse(&self.store.blobs().read(digest, MAX_CONFIG)?)?;
        self.left = left;
        Ok((Arc::new(config), size))
    }
}

impl Body {
    /// Every blob is here, whether or not it is unpacked.
    pub(crate) fn is_whole(&self) -> bool {
        !self.blob_sizes.contains(&0)
    }

    /// Bytes of manifest, configuration and the layers' blobs.
    pub(crate) fn content(&self) -> u64 {
        let documents = self.manifest_size.saturating_add(self.config_size);
        self.blob_sizes.iter().fold(documents, |sum, size| sum.saturating_add(*size))
    }

    /// Bytes of the unpacked layers.
    pub(crate) fn unpacked(&self) -> u64 {
        self.layer_sizes.iter().fold(0, |sum, size| sum.saturating_add(*size))
    }

    /// The blob of each layer with the layer, lowest first.
    pub(crate) fn layer_blobs(&self) -> impl Iterator<Item = (Digest, DiffId)> {
        self.manifest.layers.iter().map(|layer| layer.digest).zip(self.config.rootfs.diff_ids.iter().copied())
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

#[cfg(test)]
mod tests {
    use super::*;
    use store::Ingest;

    struct Made {
        _dir: tempfile::TempDir,
        store: Arc<Store>,
        ingest: Ingest,
    }

    fn made() -> Made {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("data")).unwrap();
        let ingest = store.ingest();
        Made { _dir: dir, store, ingest }
    }

    impl Made {
        fn document(&self, text: &str) -> Digest {
            self.ingest.document(text.as_bytes(), None).unwrap()
        }

        /// A configuration without layers, `bytes` long and a little.
        fn config(&self, bytes: usize, mark: u32) -> Digest {
            let author = "a".repeat(bytes);
            self.document(&format!(
                r#"{{"os":"linux","architecture":"amd64","comment":"{mark}","author":"{author}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#
            ))
        }

        fn manifest(&self, config: Digest, mark: u32) -> Descriptor {
            let text = format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","annotations":{{"mark":"{mark}"}},"config":{{"mediaType":"{}","digest":"{config}","size":1}},"layers":[]}}"#,
                media_type::OCI_MANIFEST,
                media_type::OCI_CONFIG,
            );
            Descriptor::new(media_type::OCI_MANIFEST, self.document(&text), text.len() as u64)
        }

        fn index(&self, entries: &[Descriptor]) -> Image {
            let manifests = serde_json::to_string(entries).unwrap();
            let kind = media_type::OCI_INDEX;
            let text = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":{manifests}}}"#);
            let target = Descriptor::new(kind, self.document(&text), text.len() as u64);
            self.ingest.commit().unwrap();
            Image::read(&self.store, target).unwrap()
        }
    }

    #[test]
    fn what_an_index_repeats_is_kept_once() {
        let made = made();
        let config = made.config(6 << 20, 0);
        let first = made.manifest(config, 1);
        let repeated = made.index(&vec![first.clone(); 2000]);
        let bodies: Vec<_> = repeated.variants.iter().map(|v| v.body.as_ref().unwrap()).collect();
        assert!(bodies.iter().all(|body| Arc::ptr_eq(body, bodies[0])), "one manifest, one body");
        assert_eq!(repeated.size(), bodies[0].content(), "and its bytes count once");

        let sharing: Vec<Descriptor> = (0..50).map(|mark| made.manifest(config, mark)).collect();
        let sharing = made.index(&sharing);
        let bodies: Vec<_> = sharing.variants.iter().map(|v| v.body.as_ref().unwrap()).collect();
        assert!(bodies.iter().all(|body| Arc::ptr_eq(&body.config, &bodies[0].config)), "one configuration");
    }

    #[test]
    fn a_platform_goes_and_what_is_attested_of_others_stays() {
        let made = made();
        let manifests = [made.manifest(made.config(1, 1), 1), made.manifest(made.config(1, 2), 2)];
        let statement = made.document(r#"{"attested":true}"#);
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{}","size":2}},"layers":[{{"mediaType":"application/vnd.in-toto+json","digest":"{statement}","size":17}}]}}"#,
            media_type::OCI_CONFIG,
            made.config(1, 3),
        );
        let attestation = Descriptor::new(media_type::OCI_MANIFEST, made.document(&text), text.len() as u64);
        let image = made.index(&[manifests[0].clone(), manifests[1].clone(), attestation.clone()]);
        let held = |image: &Image| {
            let (mut blobs, mut layers) = (HashSet::new(), HashSet::new());
            image.references(&mut blobs, &mut layers);
            blobs
        };
        assert!(
            [statement, attestation.digest, manifests[0].digest].iter().all(|digest| held(&image).contains(digest))
        );
        let left = image.without(&[manifests[0].digest, attestation.digest].into());
        assert_eq!(left.bodies().count(), 1);
        assert_eq!(
            held(&image).difference(&held(&left)).count(),
            5,
            "two manifests, their configurations, a statement"
        );
        // So it is read again once they have gone from the disk.
        let (blobs, layers) = (held(&left), HashSet::new());
        drop(made.ingest);
        made.store.remove_unreferenced(&blobs, &layers).unwrap();
        let again = Image::read(&made.store, image.target.clone()).unwrap();
        assert_eq!(
            again.bodies().map(|(variant, _)| variant.descriptor.digest).collect::<Vec<_>>(),
            [manifests[1].digest]
        );
    }

    #[test]
    fn large_configurations_are_bounded_in_sum() {
        let made = made();
        let entries: Vec<Descriptor> = (0..5).map(|mark| made.manifest(made.config(6 << 20, mark), mark)).collect();
        let image = made.index(&entries);
        let kept = image.variants.iter().filter(|variant| variant.body.is_some()).count();
        assert_eq!(kept, 2, "as many as fit");
        assert!(image.shown().is_some());
    }

    #[test]
    fn claimed_sizes_are_not_believed() {
        let made = made();
        let tar = [0u8; 1024];
        let layer = made.ingest.layer(&tar[..], None, None).unwrap();
        let config = made.document(&format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
            layer.diff_id, layer.diff_id
        ));
        let claimed =
            format!(r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#, media_type::OCI_LAYER, layer.blob, i64::MAX);
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{config}","size":{}}},"layers":[{claimed},{claimed}]}}"#,
            media_type::OCI_CONFIG,
            i64::MAX,
        );
        let target = Descriptor::new(media_type::OCI_MANIFEST, made.document(&text), u64::MAX);
        made.ingest.commit().unwrap();
        let image = Image::read(&made.store, target).unwrap();
        let body = image.shown().unwrap();
        assert_eq!(body.blob_sizes, [1024, 1024]);
        assert_eq!(body.content(), text.len() as u64 + body.config_size + 2048);
        assert_eq!(image.manifest_summaries(&|_| Vec::new())[0].size.content, signed(body.content()));
        assert_eq!(image.size(), body.content() + body.layer_sizes[0]);
    }
}
