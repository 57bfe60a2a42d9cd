//! Images: names in the database, content in the store, and the operations on both.
//!
//! Image semantics are those of Docker's containerd store: documents are kept as they came, an image's
//! id is the digest of what was tagged. A name is answered for only when everything it needs is synced
//! to disk and its row committed. One operation at a time changes names or collects content
//! (`changing`); readers never wait. Called by container creation and the façade.

mod changes;
mod collect;
mod commit;
mod compact;
mod compare;
mod content;
mod convert;
mod fetch;
mod fsck;
mod guard;
mod history;
mod import;
mod index;
mod inspect;
mod list;
mod load;
mod manifest;
mod marks;
mod patch;
mod pattern;
mod places;
mod prune;
mod pull;
mod push;
mod referrers;
mod remove;
mod remove_platforms;
mod rollback;
mod save;
mod settle;
mod sink;
mod tag;
mod telling;
mod usage;
mod verified;
mod versions;
mod watermark;

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use docker_types::image::ImageConfig;
use docker_types::oci;
use state::{Contents, Durability, Op, State};
use store::model::{Descriptor, MAX_LAYERS};
use store::overlay::{Lower, Overlay, Upper};
use store::{Ingest, Store};
use sys::path::Root;
use trust::Recorded;
use types::{DiffId, Digest, Platform, Reference};

pub(crate) use commit::commit;
pub(crate) use compact::keep_compact;
pub(crate) use content::Image;
use index::{Entry, Found, Index, Names, Record};
use marks::Marks;
pub(crate) use settle::keep_settled;
use verified::Verified;
use versions::{Version, Versions};
pub(crate) use watermark::watch as watch_the_disk;

use crate::clock;
use crate::config::EngineConfig;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// The images of one data root.
pub(crate) struct Images {
    store: Arc<Store>,
    client: distribution::Client,
    index: Mutex<Index>,
    /// Every image that was ever read and may still be held by somebody.
    held: Mutex<Vec<Weak<Image>>>,
    /// Held while names change or content is collected.
    changing: tokio::sync::Mutex<()>,
    /// One pull of a reference at a time.
    pulls: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// What pulls found blobs to be.
    verified: Arc<Verified>,
    /// What names pointed at before.
    versions: Versions,
    /// When images were last used, and which are pinned.
    marks: Marks,
    /// Told of every image that comes in.
    arrivals: tokio::sync::watch::Sender<()>,
    /// Blobs that were compacted or cannot be.
    tried: Mutex<HashSet<Digest>>,
    /// The lowest layer of every container.
    places: PathBuf,
    /// Who must have signed what.
    policy: guard::Source,
    /// Names whose images could not be read at the start: nothing is collected, so that they can be repaired.
    unreadable: Vec<String>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("store", &self.store).finish_non_exhaustive()
    }
}

/// An image as a container is made from it. Holding it keeps its content.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// Digest of what the name points at.
    pub id: String,
    /// Descriptor of the platform's manifest.
    pub manifest: Option<oci::Descriptor>,
    /// Layers by uncompressed digest, lowest first.
    pub layers: Vec<String>,
    pub config: ImageConfig,
    /// Keeps layers and blobs from collection.
    _lease: Arc<Image>,
}

impl Images {
    /// Open the store and read what the database's names point at.
    ///
    /// # Errors
    /// When the store cannot be opened or is used by another engine.
    pub(crate) fn open(config: &EngineConfig, _state: Arc<State>, contents: &Contents) -> Result<Self> {
        let store = Store::open_in(&config.data_root, config.layers, &crate::boot::identity(&config.exec_root)?)?;
        let places = places::prepare(&config.data_root)?;
        let client = distribution::Client::new(distribution::Config {
            mirrors: config.registry_mirrors.clone(),
            insecure: config.insecure_registries.clone(),
            certs_dirs: config.registry_config_dirs.clone(),
            hosts_files: true,
            ..distribution::Config::default()
        });
        let mut index = Index::default();
        let mut held = Vec::new();
        let mut unreadable = Vec::new();
        for (name, document) in &contents.images {
            let read = serde_json::from_str::<Record>(document)
                .map_err(|e| Error::io(format!("the record of image {name}"), e))
                .and_then(|record| {
                    let known = index.image(&record.target.digest).cloned();
                    let image = match known {
                        Some(image) => image,
                        None => Arc::new(Image::read(&store, record.target.clone())?),
                    };
                    Ok((record, image))
                });
            match read {
                Ok((record, image)) => {
                    held.push(Arc::downgrade(&image));
                    index.put(name, record, &image);
                }
                Err(error) => {
                    unreadable.push(name.clone());
                    tracing::error!(image = name, %error, "the image cannot be read; pull or load it again");
                }
            }
        }
        Ok(Self {
            store,
            client,
            index: Mutex::new(index),
            held: Mutex::new(held),
            changing: tokio::sync::Mutex::default(),
            pulls: Mutex::default(),
            verified: Arc::default(),
            versions: Versions::read(&contents.image_versions, config.tag_versions),
            marks: Marks::read(&contents.image_marks),
            arrivals: tokio::sync::watch::Sender::new(()),
            tried: Mutex::default(),
            places,
            policy: guard::Source { path: config.trust_policy.clone(), named: config.trust_policy_named },
            unreadable,
        })
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What every root file system has below its layers.
    pub(crate) fn places(&self) -> &Path {
        &self.places
    }

    /// Speaks to registries, and to others over HTTP.
    pub(crate) fn client(&self) -> &distribution::Client {
        &self.client
    }

    /// The store of blobs and layers.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// How many images there are.
    pub(crate) fn count(&self) -> usize {
        self.index().images().len()
    }

    /// What a container made from `name` gets. In memory; nothing is read from disk.
    ///
    /// # Errors
    /// `No such image: x:latest`, or not found when it is not here for the platform.
    pub(crate) fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<Resolved> {
        let Found { image, .. } = self.index().find(name)?;
        let chosen = image.choose(platform);
        let wanted = || platform.cloned().unwrap_or_else(Platform::host);
        let (variant, body) = chosen.ok_or_else(|| content::no_platform(name, &wanted()))?;
        if !body.available {
            return Err(fail!(NotFound, "No such image: {name}: its layers are not here; pull or load it again"));
        }
        let platform = variant.platform(body);
        Ok(Resolved {
            id: image.id().to_string(),
            manifest: Some(content::oci_descriptor(&variant.descriptor, Some(&platform))),
            layers: body.layers(),
            config: convert::to_api(&body.config.config),
            _lease: Arc::clone(&image),
        })
    }

    /// Bytes of unpacked layers; 0 for one that is not here.
    pub(crate) fn unpacked_size(&self, layers: &[String]) -> u64 {
        let layers = parse_layers(layers).unwrap_or_default();
        layers.iter().map(|layer| self.store.layers().size(layer).unwrap_or(0)).sum()
    }

    /// What a container's changes lie on, topmost first: its layers, and the places of its mounts.
    ///
    /// # Errors
    /// When a layer is missing.
    pub(crate) fn lowers(&self, layers: &[String]) -> Result<Vec<Lower>> {
        let mut lowers = self.store.layers().lowers(&parse_layers(layers)?)?;
        // An image of as many layers as can be stacked has to do without, and gets its places on top.
        if lowers.len() < MAX_LAYERS - 1 {
            lowers.push(Lower::Dir(self.places.clone()));
        }
        Ok(lowers)
    }

    /// A container's root file system: its layers below `dir/upper`, mounted nowhere yet.
    ///
    /// # Errors
    /// When a layer is missing or the kernel refuses the mount.
    pub(crate) fn rootfs(&self, layers: &[String], dir: &Path) -> Result<OwnedFd> {
        let lowers = self.lowers(layers)?;
        let upper = Some(Upper { upper: dir.join("upper"), work: dir.join("work") });
        Ok(self.store.mount(&Overlay { lowers, upper, volatile: false })?)
    }

    /// The layers alone, read-only, mounted nowhere.
    ///
    /// # Errors
    /// As [`Images::rootfs`].
    pub(crate) fn read_only_mount(&self, layers: &[String]) -> Result<OwnedFd> {
        Ok(self.store.mount(&self.store.read_only(&parse_layers(layers)?)?)?)
    }

    /// A container's tree for reading only: works whether or not it is mounted elsewhere.
    ///
    /// # Errors
    /// As [`Images::rootfs`].
    pub(crate) fn snapshot(&self, layers: &[String], dir: &Path) -> Result<Root> {
        let mut lowers = self.lowers(layers)?;
        lowers.insert(0, Lower::Dir(dir.join("upper")));
        Ok(Root::from_fd(self.store.mount(&Overlay { lowers, upper: None, volatile: false })?))
    }

    /// The layers as a tree to read.
    ///
    /// # Errors
    /// As [`Images::rootfs`].
    pub(crate) async fn tree(&self, inner: &Arc<Inner>, layers: &[String]) -> Result<Root> {
        let (shared, layers) = (Arc::clone(inner), layers.to_vec());
        let mount = inner.blocking("mount an image", move || shared.images.read_only_mount(&layers)).await?;
        Ok(Root::from_fd(mount))
    }

    /// Give content that was taken in its names, or keep it by its digest when there are none. `how` it came is for
    /// the versions of its names, and what is known of it then for the trust policy.
    ///
    /// Runs in a task of its own: once content is committed, its names follow even when the
    /// client has left. The ingest protects the content until the index knows it.
    ///
    /// # Errors
    /// When the disk or the database refuses; nothing has a new name then.
    pub(crate) async fn admit(
        inner: &Arc<Inner>,
        ingest: Arc<Ingest>,
        target: Descriptor,
        references: Vec<Reference>,
        (how, trust): (&'static str, Recorded),
    ) -> Result<Arc<Image>> {
        let inner = Arc::clone(inner);
        let task = tokio::spawn(async move {
            let (store, syncing) = (Arc::clone(&inner.images.store), Arc::clone(&ingest));
            let image = inner
                .blocking("store an image", move || {
                    syncing.commit()?;
                    Image::read(&store, target).map(Arc::new)
                })
                .await?;
            let images = &inner.images;
            let _changing = images.changing.lock().await;
            images.hold(&image);
            let names: Vec<String> = references.iter().map(ToString::to_string).collect();
            images.point(&inner, &names, &image, how, Some(&trust)).await?;
            drop(ingest);
            images.arrivals.send_replace(());
            Ok(image)
        });
        task.await.map_err(|e| Error::io("naming an image was interrupted", e))?
    }

    /// Point names at an image, in the database and then here. An image whose last name this takes
    /// is kept by its digest. `changing` must be held.
    async fn point(
        &self,
        inner: &Arc<Inner>,
        names: &[String],
        image: &Arc<Image>,
        how: &str,
        came: Option<&Recorded>,
    ) -> Result<()> {
        let now = clock::now_ns();
        let mut changes = Vec::new();
        let mut ops = Vec::new();
        let mut puts: Vec<(String, Record, Arc<Image>)> = Vec::new();
        let mut removed = Vec::new();
        {
            let index = self.index();
            let id = image.id().to_string();
            let own = index.names_of(&image.id());
            let mut trust = index.recorded_of(&image.id());
            if let Some(came) = came {
                trust.get_or_insert_default().merge(came);
            }
            if names.is_empty() && own.references.is_empty() && !own.dangling {
                puts.push((id.clone(), record(image, now, now, trust.clone()), Arc::clone(image)));
            }
            for name in names {
                let old = index.get(name);
                let created = old.filter(|o| o.record.target.digest == image.id()).map_or(now, |o| o.record.created_ns);
                if let Some(Entry { record: before, .. }) = old
                    && before.target.digest != image.id()
                    && let Some(bereft) = index.image(&before.target.digest)
                    && index.keys_of(&before.target.digest).iter().all(|key| names.contains(key))
                {
                    let key = before.target.digest.to_string();
                    if !puts.iter().any(|(known, ..)| *known == key) {
                        let known = index.recorded_of(&bereft.id());
                        puts.push((key, record(bereft, before.created_ns, now, known), Arc::clone(bereft)));
                    }
                }
                if old.is_none_or(|old| old.record.target.digest != image.id()) {
                    let before = old.map(|old| (&old.record.target, old.record.created_ns));
                    let next = Version { target: Some(image.target.clone()), at_ns: now, how: how.to_owned() };
                    changes.push(self.versions.changed(name, before, next)?);
                }
                puts.push((name.clone(), record(image, created, now, trust.clone()), Arc::clone(image)));
            }
            if !names.is_empty() && own.dangling {
                removed.push(id);
            }
        }
        for (name, record, _) in &puts {
            let doc = serde_json::to_string(record).map_err(|e| Error::io("cannot encode an image's record", e))?;
            ops.push(Op::PutImage { name: name.clone(), doc });
        }
        ops.extend(removed.iter().map(|name| Op::DeleteImage { name: name.clone() }));
        ops.extend(changes.iter().map(versions::Change::op));
        if !ops.is_empty() {
            inner.commit(ops, Durability::Synced).await?;
        }
        self.versions.keep(changes);
        let mut index = self.index();
        for (name, record, image) in puts {
            index.put(&name, record, &image);
        }
        // The image may have been read anew although every name is as it was.
        index.refresh(image);
        for name in removed {
            index.remove(&name);
        }
        Ok(())
    }

    /// The versions of names that are about to be taken away.
    fn untagging(&self, names: &[String]) -> Result<Vec<versions::Change>> {
        let now = clock::now_ns();
        let index = self.index();
        let references = names.iter().filter(|name| name.parse::<Digest>().is_err());
        let change = |name: &String| {
            let before = index.get(name).map(|old| (&old.record.target, old.record.created_ns));
            self.versions.changed(name, before, Version { target: None, at_ns: now, how: "untag".to_owned() })
        };
        references.map(change).collect()
    }

    /// Remember an image for as long as somebody holds it.
    fn hold(&self, image: &Arc<Image>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|weak| weak.strong_count() > 0);
        held.push(Arc::downgrade(image));
    }

    /// Tell listeners about an image.
    pub(crate) fn publish(&self, inner: &Inner, action: &str, id: &str, name: &str, image: Option<&Image>) {
        let mut attributes = image.and_then(Image::labels).cloned().unwrap_or_default();
        attributes.insert("name".to_owned(), name.to_owned());
        inner.events.publish("image", action, id, attributes);
    }

    /// Names of an image now.
    fn names_of(&self, id: &Digest) -> Names {
        self.index().names_of(id)
    }
}

fn record(image: &Image, created_ns: i64, updated_ns: i64, trust: Option<Recorded>) -> Record {
    Record { target: image.target.clone(), created_ns, updated_ns, trust }
}

/// What is known of an image that was made or loaded here.
pub(crate) fn made_here() -> Recorded {
    Recorded { local: true, ..Recorded::default() }
}

/// Layers of a container's record.
pub(crate) fn parse_layers(layers: &[String]) -> Result<Vec<DiffId>> {
    let parse = |text: &String| text.parse::<DiffId>().map_err(|e| fail!(Internal, "layer {text} of a record: {e}"));
    layers.iter().map(parse).collect()
}

/// `repo` and `tag` of a request as a name; none without a repository.
fn target_name(repo: Option<&str>, tag: Option<&str>) -> Result<Option<Reference>> {
    let repo = repo.unwrap_or_default();
    let tag = tag.unwrap_or_default();
    if repo.is_empty() {
        return Ok(None);
    }
    let reference: Reference = repo.parse().map_err(|e| fail!(Invalid, "{e}"))?;
    if reference.digest().is_some() {
        return Err(fail!(Invalid, "refusing to create a tag with a digest reference"));
    }
    let reference = match tag {
        "" => reference.with_default_tag(),
        tag => reference.with_tag(tag).map_err(|e| fail!(Invalid, "{e}"))?,
    };
    Ok(Some(reference))
}
