//! Volumes of the local driver: directories under `data-root/volumes/NAME/_data` that outlive
//! containers, or places where something is mounted while containers use it. A volume that was
//! acknowledged survives a power cut; one in use is never removed.
//! Called by container creation, starts and ends, and the facade.

mod change;
mod content;
mod copy_up;
pub(crate) mod mount_table;
mod mounted;
mod options;
pub(crate) mod patience;
mod quota;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use content::Copied;
pub(crate) use content::Snapshot;
pub(crate) use copy_up::Copy;
use docker_types::volume::{Volume, VolumeList, VolumeUsageData};
use mounted::Active;
pub(crate) use mounted::{pin, reason};
use options::Given;
use patience::Patience;
use quota::Quota;
pub(crate) use quota::held as held_to_limits;
use serde::{Deserialize, Serialize};
use state::{Contents, State};
use sys::path::Root;
use tokio::sync::Notify;
use types::Filters;

use crate::clock;
use crate::config::EngineConfig;
use crate::container::record::MountType;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// The only driver.
const DRIVER: &str = "local";

/// Label of volumes that were made without a name.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// Label of a snapshot: the volume it was taken of.
pub(crate) const SNAPSHOT_OF: &str = "dhow.volume.snapshot-of";

/// Beginning of the names, in the directory of all volumes, of what is being deleted.
const TRASH: &str = ".trash-";

/// Beginning of the names of volumes that are being made, and in a volume's directory of content that is, or that was
/// replaced.
const STAGED: &str = ".new-";

/// What is stored of a volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    created_ns: i64,
    labels: Option<BTreeMap<String, String>>,
    /// Options of the driver as given.
    options: Option<Given>,
    /// The project its files are counted as, 0 for none.
    project: u32,
    /// The project of content that is about to replace them, 0 for none. Written down first: after a crash the disk says
    /// which of the two it is.
    next_project: u32,
}

impl Record {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Something is mounted on the volume's directory while it is used.
    fn is_mounted(&self) -> bool {
        self.options.as_ref().is_some_and(options::is_mounted)
    }

    /// As Docker counts and prunes: a volume with options is somebody's decision.
    fn has_options(&self) -> bool {
        self.options.as_ref().is_some_and(|options| !options.is_empty())
    }

    fn size(&self) -> u64 {
        self.options.as_ref().map_or(0, |options| options::size(options).unwrap_or(0))
    }

    fn projects(&self) -> [u32; 2] {
        [self.project, self.next_project]
    }
}

/// Every volume by name.
#[derive(Debug)]
pub(crate) struct Volumes {
    root: PathBuf,
    /// The same directory without symbolic links, as the kernel's table of mounts has it.
    real: PathBuf,
    known: Mutex<BTreeMap<String, Record>>,
    /// Names of volumes that are not there yet, but will be.
    making: Mutex<BTreeSet<String>>,
    /// Told whenever one of them is there, or will not be after all.
    made: Notify,
    /// Who fills a volume from an image, by its name: others wait and find it full.
    filling: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// One change of what there is at a time.
    changing: tokio::sync::Mutex<()>,
    /// Who uses each volume now, and whether it is mounted.
    active: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Active>>>>,
    quota: Option<Quota>,
    pub patience: Patience,
}

impl Volumes {
    /// The volumes that the database names, below `root`.
    ///
    /// # Errors
    /// When a stored document cannot be read.
    pub(crate) fn open(config: &EngineConfig, _state: Arc<State>, contents: &Contents) -> Result<Self> {
        let root = config.data_root.join("volumes");
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&root);
        let failed = |e| Error::io(format!("cannot make the directory {}", root.display()), e);
        made.map_err(failed)?;
        #[expect(clippy::disallowed_methods, reason = "the engine's own directory, which no image has a say in")]
        let real = std::fs::canonicalize(&root).map_err(failed)?;
        let mut known: BTreeMap<String, Record> = BTreeMap::new();
        for (name, document) in &contents.volumes {
            let record =
                serde_json::from_str(document).map_err(|e| Error::io(format!("the record of volume {name}"), e))?;
            known.insert(name.clone(), record);
        }
        let quota = Quota::of(&root);
        if let Some(quota) = &quota {
            let named: BTreeMap<String, [u32; 2]> =
                known.iter().map(|(name, record)| (name.clone(), record.projects())).collect();
            for (name, record) in known.iter_mut().filter(|(_, record)| record.projects() != [0, 0]) {
                let others = named.iter().filter(|(other, _)| *other != name).flat_map(|(_, projects)| *projects);
                quota.recall(name, &root.join(name).join("_data"), record, &others.collect());
            }
        }
        Ok(Self {
            root,
            real,
            known: Mutex::new(known),
            making: Mutex::default(),
            made: Notify::new(),
            filling: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            active: Mutex::default(),
            quota,
            patience: Patience::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// Projects of volumes.
    fn projects(&self) -> BTreeSet<u32> {
        self.lock().values().flat_map(Record::projects).collect()
    }

    fn get(&self, name: &str) -> Option<Record> {
        self.lock().get(name).cloned()
    }

    /// One volume's record.
    ///
    /// # Errors
    /// Not found, in Docker's words.
    fn find(&self, name: &str) -> Result<Record> {
        self.get(name).ok_or_else(|| fail!(NotFound, "get {name}: no such volume"))
    }

    fn shown(&self, name: &str, record: &Record) -> Volume {
        Volume {
            created_at: clock::rfc3339(record.created_ns),
            driver: DRIVER.into(),
            labels: record.labels.clone(),
            mountpoint: self.data(name).display().to_string(),
            name: name.to_owned(),
            options: record.options.clone(),
            scope: "local".into(),
            status: None,
            usage_data: None,
        }
    }

    /// One volume.
    ///
    /// # Errors
    /// Not found.
    pub(crate) fn inspect(&self, name: &str) -> Result<Volume> {
        Ok(self.shown(name, &self.find(name)?))
    }

    /// Volumes that match.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub(crate) fn list(&self, inner: &Inner, filters: &Filters) -> Result<VolumeList> {
        if let Some(key) = filters.unknown_key(&["dangling", "driver", "label", "name"]) {
            return Err(fail!(Invalid, "invalid filter '{key}'"));
        }
        let dangling = match filters.contains("dangling") {
            false => None,
            true => Some(
                filters.boolean("dangling", false).map_err(|v| fail!(Invalid, "invalid filter 'dangling={v:?}'"))?,
            ),
        };
        let users = users(inner);
        let volumes = self.lock().clone();
        let volumes = volumes
            .iter()
            .filter(|(name, record)| {
                dangling.is_none_or(|wanted| wanted != users.contains_key(*name))
                    && filters.exact_match("driver", DRIVER)
                    && filters.any_match("name", |part| name.contains(part))
                    && filters.match_labels("label", |key| record.labels.as_ref()?.get(key).map(String::as_str))
            })
            .map(|(name, record)| self.shown(name, record))
            .collect();
        Ok(VolumeList { volumes, warnings: None })
    }

    /// Bytes that the files of a volume occupy. What is mounted is not looked into.
    async fn size(&self, inner: &Arc<Inner>, name: &str) -> Result<u64> {
        let data = self.data(name);
        inner
            .blocking("measure a volume", move || {
                // By descriptors: a container may exchange names for links meanwhile.
                let root = Root::open(&data).map_err(|e| Error::io("measure a volume", e))?;
                Ok(store::tree::usage(&root)?.bytes)
            })
            .await
    }

    /// Every volume without options with its references and size, for disk usage, as Docker counts them.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub(crate) async fn usage(&self, inner: &Arc<Inner>) -> Result<Vec<Volume>> {
        let users = users(inner);
        let known = self.lock().clone();
        let mut volumes = Vec::with_capacity(known.len());
        for (name, record) in known.into_iter().filter(|(_, record)| !record.has_options()) {
            let size = self.size(inner, &name).await.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX));
            let ref_count = users.get(&name).map_or(0, |list| i64::try_from(list.len()).unwrap_or(i64::MAX));
            volumes
                .push(Volume { usage_data: Some(VolumeUsageData { ref_count, size }), ..self.shown(&name, &record) });
        }
        Ok(volumes)
    }
}

/// The containers that refer to each volume.
fn users(inner: &Inner) -> BTreeMap<String, Vec<String>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in inner.containers.all() {
        for mount in container.record().mounts.iter().filter(|mount| mount.kind == MountType::Volume) {
            let list = users.entry(mount.name.clone()).or_default();
            if list.last().map(String::as_str) != Some(container.id()) {
                list.push(container.id().to_owned());
            }
        }
    }
    users
}

/// Delete a directory that is in nobody's way any more. What cannot be deleted is tried again at the next start.
fn sweep(path: &Path) {
    crate::container::remove::sweep(path);
}
