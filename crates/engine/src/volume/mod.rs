//! Volumes of the local driver: directories under `data-root/volumes/NAME/_data` that outlive
//! containers. A volume that was acknowledged survives a power cut; one in use is never removed.
//! Called by container creation and the facade.

mod copy_up;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use docker_types::volume::{Volume, VolumeCreateBody, VolumeList, VolumePruneReport, VolumeUsageData};
use serde::{Deserialize, Serialize};
use state::{Contents, Durability, Op, State};
use types::{Filters, VolumeName};

use crate::clock;
use crate::config::EngineConfig;
use crate::container::random_id;
use crate::container::record::MountType;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// The only driver.
const DRIVER: &str = "local";

/// Label of volumes that were made without a name.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// What is stored of a volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    created_ns: i64,
    labels: Option<BTreeMap<String, String>>,
}

/// Every volume by name.
#[derive(Debug)]
pub(crate) struct Volumes {
    root: PathBuf,
    known: Mutex<BTreeMap<String, Record>>,
    /// One creation or removal at a time, so that nobody mounts what is going away.
    changing: tokio::sync::Mutex<()>,
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
        made.map_err(|e| Error::io(format!("cannot make the directory {}", root.display()), e))?;
        let mut known = BTreeMap::new();
        for (name, document) in &contents.volumes {
            let record =
                serde_json::from_str(document).map_err(|e| Error::io(format!("the record of volume {name}"), e))?;
            known.insert(name.clone(), record);
        }
        Ok(Self { root, known: Mutex::new(known), changing: tokio::sync::Mutex::default() })
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

    fn get(&self, name: &str) -> Option<Record> {
        self.lock().get(name).cloned()
    }

    fn shown(&self, name: &str, record: &Record) -> Volume {
        Volume {
            created_at: clock::rfc3339(record.created_ns),
            driver: DRIVER.into(),
            labels: record.labels.clone(),
            mountpoint: self.data(name).display().to_string(),
            name: name.to_owned(),
            options: None,
            scope: "local".into(),
            status: None,
            usage_data: None,
        }
    }

    /// Make a volume, or give the one that has the name; says whether it is new.
    ///
    /// # Errors
    /// Invalid for a name, driver or option that is not ours to serve.
    pub(crate) async fn create(&self, inner: &Arc<Inner>, body: VolumeCreateBody) -> Result<(Volume, bool)> {
        if !matches!(body.driver.as_str(), "" | DRIVER) {
            return Err(fail!(NotFound, "error looking up volume plugin {0}: plugin \"{0}\" not found", body.driver));
        }
        if let Some((key, _)) = body.driver_opts.iter().find(|(_, value)| !value.is_empty()) {
            return Err(fail!(
                Unsupported,
                "create {}: option \"{key}\" of the local volume driver is not supported yet",
                body.name
            )
            .with_hint("bind a directory that is mounted on the host instead"));
        }
        let mut labels = body.labels;
        let name = if body.name.is_empty() {
            labels.get_or_insert_default().insert(ANONYMOUS.into(), String::new());
            random_id()
        } else {
            let name: VolumeName = body.name.parse().map_err(|e| fail!(Invalid, "create {}: {e}", body.name))?;
            name.as_str().to_owned()
        };
        let _changing = self.changing.lock().await;
        if let Some(record) = self.get(&name) {
            return Ok((self.shown(&name, &record), false));
        }
        let record = Record { created_ns: clock::now_ns(), labels };
        let directory = self.directory(&name);
        inner.blocking("make a volume's directory", move || make(&directory)).await?;
        let doc = serde_json::to_string(&record).map_err(|e| Error::io("encode a volume's record", e))?;
        // Anonymous volumes go with their container and are quickly made again; a named one is a promise.
        let durability = match record.labels.as_ref().is_some_and(|l| l.contains_key(ANONYMOUS)) {
            true => Durability::Process,
            false => Durability::Synced,
        };
        inner.commit(vec![Op::PutVolume { name: name.clone(), doc }], durability).await?;
        let shown = self.shown(&name, &record);
        self.lock().insert(name.clone(), record);
        inner.events.publish("volume", "create", &name, [("driver".to_owned(), DRIVER.to_owned())].into());
        Ok((shown, true))
    }

    /// One volume.
    ///
    /// # Errors
    /// Not found.
    pub(crate) fn inspect(&self, name: &str) -> Result<Volume> {
        let record = self.get(name).ok_or_else(|| fail!(NotFound, "get {name}: no such volume"))?;
        Ok(self.shown(name, &record))
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

    /// Remove a volume nobody uses. `force` makes a missing one no error.
    ///
    /// # Errors
    /// Not found, or Conflict while a container refers to it.
    pub(crate) async fn remove(&self, inner: &Arc<Inner>, name: &str, force: bool) -> Result<()> {
        let _changing = self.changing.lock().await;
        if self.get(name).is_none() {
            return match force {
                true => Ok(()),
                false => Err(fail!(NotFound, "get {name}: no such volume")),
            };
        }
        if let Some(containers) = users(inner).get(name) {
            return Err(fail!(Conflict, "remove {name}: volume is in use - [{}]", containers.join(", ")));
        }
        self.destroy(inner, name).await
    }

    /// Take it from the database first: a directory without a row is swept, a row without a
    /// directory would be a lie.
    async fn destroy(&self, inner: &Arc<Inner>, name: &str) -> Result<()> {
        inner.commit(vec![Op::DeleteVolume { name: name.to_owned() }], Durability::Process).await?;
        self.lock().remove(name);
        let directory = self.directory(name);
        inner
            .blocking("remove a volume's directory", move || {
                std::fs::remove_dir_all(&directory).map_err(|e| Error::io(format!("remove {}", directory.display()), e))
            })
            .await?;
        inner.events.publish("volume", "destroy", name, [("driver".to_owned(), DRIVER.to_owned())].into());
        Ok(())
    }

    /// Remove unused volumes: anonymous ones, or with the filter `all` every one.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub(crate) async fn prune(&self, inner: &Arc<Inner>, filters: &Filters) -> Result<VolumePruneReport> {
        if let Some(key) = filters.unknown_key(&["all", "label", "label!"]) {
            return Err(fail!(Invalid, "invalid filter '{key}'"));
        }
        let all = filters.boolean("all", false).map_err(|v| fail!(Invalid, "invalid filter 'all={v:?}'"))?;
        let _changing = self.changing.lock().await;
        let users = users(inner);
        let known = self.lock().clone();
        let mut report = VolumePruneReport::default();
        for (name, record) in known {
            let label = |key: &str| record.labels.as_ref()?.get(key).map(String::as_str);
            let chosen = !users.contains_key(&name)
                && (all || label(ANONYMOUS).is_some())
                && filters.match_labels("label", label)
                && (!filters.contains("label!") || !filters.match_labels("label!", label));
            if chosen {
                let size = self.size(inner, &name).await.unwrap_or(0);
                self.destroy(inner, &name).await?;
                report.space_reclaimed += size;
                report.volumes_deleted.push(name);
            }
        }
        inner.events.publish(
            "volume",
            "prune",
            "",
            [("reclaimed".to_owned(), report.space_reclaimed.to_string())].into(),
        );
        Ok(report)
    }

    /// Bytes that the files of a volume occupy.
    async fn size(&self, inner: &Arc<Inner>, name: &str) -> Result<u64> {
        let data = self.data(name);
        inner
            .blocking("measure a volume", move || tree::bytes(&data).map_err(|e| Error::io("measure a volume", e)))
            .await
    }

    /// Every volume with its references and size, for disk usage.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub(crate) async fn usage(&self, inner: &Arc<Inner>) -> Result<Vec<Volume>> {
        let users = users(inner);
        let known = self.lock().clone();
        let mut volumes = Vec::with_capacity(known.len());
        for (name, record) in known {
            let size = self.size(inner, &name).await.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX));
            let ref_count = users.get(&name).map_or(0, |list| i64::try_from(list.len()).unwrap_or(i64::MAX));
            volumes
                .push(Volume { usage_data: Some(VolumeUsageData { ref_count, size }), ..self.shown(&name, &record) });
        }
        Ok(volumes)
    }

    /// Fill new volumes with what the image has where they will be mounted. `copies` names volume
    /// and destination; one that holds something already is left as it is.
    ///
    /// # Errors
    /// When the image's tree cannot be mounted or the disk refuses.
    pub(crate) async fn copy_up(
        &self,
        inner: &Arc<Inner>,
        layers: &[String],
        copies: Vec<(String, String)>,
    ) -> Result<()> {
        let copies: Vec<(PathBuf, String)> =
            copies.into_iter().map(|(name, target)| (self.data(&name), target)).collect();
        let empty: Vec<(PathBuf, String)> = inner
            .blocking("look into new volumes", move || {
                Ok(copies.into_iter().filter(|(data, _)| is_empty(data)).collect())
            })
            .await?;
        if empty.is_empty() {
            return Ok(());
        }
        let root = inner.images.tree(inner, layers).await?;
        inner.blocking("copy the image's files into a new volume", move || copy_up::fill(&root, &empty)).await
    }
}

fn is_empty(data: &Path) -> bool {
    std::fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_none())
}

/// The containers that refer to each volume.
fn users(inner: &Inner) -> BTreeMap<String, Vec<String>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in inner.containers.all() {
        for mount in container.record().mounts.iter().filter(|mount| mount.kind == MountType::Volume) {
            users.entry(mount.name.clone()).or_default().push(container.id().to_owned());
        }
    }
    users
}

/// `NAME/_data`, the latter as open as Docker makes it: the container's root decides what is in it.
fn make(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let data = directory.join("_data");
    let io = |e: std::io::Error| Error::io(format!("cannot make the directory {}", data.display()), e);
    match std::fs::DirBuilder::new().mode(0o701).create(directory) {
        // Left behind by a creation that was never acknowledged.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::remove_dir_all(directory).map_err(io)?;
            std::fs::DirBuilder::new().mode(0o701).create(directory).map_err(io)?;
        }
        other => other.map_err(io)?,
    }
    std::fs::DirBuilder::new().mode(0o755).create(&data).map_err(io)
}
