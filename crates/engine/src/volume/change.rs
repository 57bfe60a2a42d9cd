//! Making and removing volumes.
//!
//! A volume is in the database before anybody hears of it and gone from it before its files are: a
//! directory without a row is swept, a row without a directory would be a lie. Directories are filled and
//! emptied outside the lock of changes, so that a large one holds nobody up. Called by container creation,
//! container removal and the facade.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use docker_types::volume::{Volume, VolumeCreateBody, VolumePruneReport};
use state::{Durability, Op};
use tokio::sync::Notify;
use types::{Filters, VolumeName};

use super::{ANONYMOUS, DRIVER, Record, STAGED, TRASH, Volumes, mount_table, options, quota, sweep, users};
use crate::clock;
use crate::container::random_id;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// A name that is being made; free again when this is dropped.
pub(super) struct Making<'a> {
    names: &'a Mutex<BTreeSet<String>>,
    made: &'a Notify,
    pub name: String,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        self.made.notify_waiters();
    }
}

impl Volumes {
    /// Make a volume, or give the one that has the name; says whether it is new.
    ///
    /// # Errors
    /// Docker's texts for a name, a driver or an option that cannot be.
    pub(crate) async fn create(&self, inner: &Arc<Inner>, body: VolumeCreateBody) -> Result<(Volume, bool)> {
        let mut labels = body.labels;
        let name = if body.name.is_empty() {
            labels.get_or_insert_default().insert(ANONYMOUS.into(), String::new());
            random_id()
        } else {
            body.name
        };
        if !matches!(body.driver.as_str(), "" | DRIVER) {
            return Err(fail!(
                NotFound,
                "create {name}: error looking up volume plugin {0}: plugin \"{0}\" not found",
                body.driver
            ));
        }
        let given = body.driver_opts;
        let making = loop {
            // From here on no end of a making is missed.
            let made = self.made.notified();
            let changing = self.changing.lock().await;
            // As Docker: what is there is given, whatever else was asked for.
            if let Some(record) = self.get(&name) {
                return Ok((self.shown(&name, &record), false));
            }
            let wrong = |why| fail!(Invalid, "create {name}: {why}");
            options::check(given.as_ref().unwrap_or(&options::Given::new()), self.quota.is_some()).map_err(wrong)?;
            match self.reserve(&name) {
                // Somebody makes it at this moment: it is the one that is asked for.
                Err(error) if error.kind() == types::Kind::Conflict => {
                    drop(changing);
                    made.await;
                }
                other => break other?,
            }
        };
        let record = Record { created_ns: clock::now_ns(), labels, options: given, ..Record::default() };
        let shown = self.make(inner, making, record, |_| Ok(())).await?;
        Ok((shown, true))
    }

    /// Take a name that no volume has, for [`Volumes::make`]. The lock of changes is held by the caller.
    ///
    /// # Errors
    /// Invalid for a name, Conflict when it is taken.
    pub(super) fn reserve(&self, name: &str) -> Result<Making<'_>> {
        let parsed: VolumeName = name.parse().map_err(|e| fail!(Invalid, "create {name}: {e}"))?;
        if self.get(name).is_some() {
            return Err(fail!(Conflict, "create {name}: a volume of this name exists already"));
        }
        let mut names = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.insert(parsed.as_str().to_owned()) {
            return Err(fail!(Conflict, "create {name}: the volume is being made"));
        }
        Ok(Making { names: &self.making, made: &self.made, name: name.to_owned() })
    }

    /// Make the directory, let `fill` put something into it, and only then let the volume exist.
    ///
    /// # Errors
    /// When the disk or the database refuses, and those of `fill`; nothing stays then.
    pub(super) async fn make(
        &self,
        inner: &Arc<Inner>,
        making: Making<'_>,
        mut record: Record,
        fill: impl FnOnce(&Path) -> Result<()> + Send + 'static,
    ) -> Result<Volume> {
        let name = making.name.as_str();
        let (directory, staged) = (self.directory(name), self.root.join(format!("{STAGED}{}", random_id())));
        let size = record.size();
        let shared = Arc::clone(inner);
        let place = directory.clone();
        record.project = inner
            .blocking("make a volume's directory", move || {
                let made = directories(&staged).and_then(|()| {
                    shared.volumes.fill_limited(&staged.join("_data"), size, |data| {
                        fill(data)?;
                        settle(&staged, &place)
                    })
                });
                if made.is_err() {
                    sweep(&staged);
                }
                made
            })
            .await?;
        let doc = serde_json::to_string(&record).map_err(|e| Error::io("encode a volume's record", e))?;
        // Anonymous volumes go with their container and are quickly made again; a named one is a promise.
        let durability = match record.label(ANONYMOUS).is_some() {
            true => Durability::Process,
            false => Durability::Synced,
        };
        if let Err(error) = inner.commit(vec![Op::PutVolume { name: name.to_owned(), doc }], durability).await {
            self.lift(record.project);
            self.empty(inner, Some(directory)).await?;
            return Err(error);
        }
        let shown = self.shown(name, &record);
        self.lock().insert(name.to_owned(), record);
        inner.events.publish("volume", "create", name, [("driver".to_owned(), DRIVER.to_owned())].into());
        Ok(shown)
    }

    /// Limit an empty directory to `size` bytes, where that is not 0, and let `fill` put something into it that is held to
    /// the limit. The answer is the directory's project, 0 for none.
    ///
    /// # Errors
    /// When the file system refuses, and those of `fill`; the project is free again then.
    pub(super) fn fill_limited(&self, data: &Path, size: u64, fill: impl FnOnce(&Path) -> Result<()>) -> Result<u32> {
        let Some(quota) = self.quota.as_ref().filter(|_| size > 0) else {
            return fill(data).map(|()| 0);
        };
        let project = quota.limit(data, size, &self.projects())?;
        let filled = quota::held(|| fill(data));
        if filled.is_err() {
            quota.lift(project);
        }
        filled.map(|()| project)
    }

    /// Free a project whose files are gone or going; 0 is none.
    pub(super) fn lift(&self, project: u32) {
        if let Some(quota) = &self.quota {
            quota.lift(project);
        }
    }

    /// Remove a volume nobody uses. `force` makes a missing one no error.
    ///
    /// # Errors
    /// Not found, or Conflict while a container refers to it.
    pub(crate) async fn remove(&self, inner: &Arc<Inner>, name: &str, force: bool) -> Result<()> {
        let trash = {
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
            self.destroy(inner, name).await?
        };
        self.empty(inner, trash).await
    }

    /// Take a volume away; the answer is where its files wait to be deleted. The lock of changes is held.
    async fn destroy(&self, inner: &Arc<Inner>, name: &str) -> Result<Option<PathBuf>> {
        let active = self.active(name);
        let active = active.lock().await;
        if !active.users.is_empty() {
            return Err(fail!(Conflict, "remove {name}: volume has active mounts"));
        }
        let Some(record) = self.get(name) else { return Ok(None) };
        if record.is_mounted() {
            self.unmount(inner, name).await;
        }
        // Deleting would go on in what is mounted there.
        if let Some(mounted) = mount_table::below(&self.real.join(name))?.first() {
            return Err(fail!(
                Conflict,
                "remove {name}: volume has active mounts: something is mounted on {}",
                mounted.target.display()
            )
            .with_hint("unmount it on the host and remove the volume again"));
        }
        inner.commit_removal(vec![Op::DeleteVolume { name: name.to_owned() }]).await?;
        self.lock().remove(name);
        self.forget_active(name);
        let (directory, trash) = (self.directory(name), self.root.join(format!("{TRASH}{}", random_id())));
        let moved = inner
            .blocking("move a volume's directory away", move || match std::fs::rename(&directory, &trash) {
                Ok(()) => Ok(Some(trash)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::io(format!("cannot remove {}", directory.display()), e)),
            })
            .await?;
        for project in record.projects() {
            self.lift(project);
        }
        inner.events.publish("volume", "destroy", name, [("driver".to_owned(), DRIVER.to_owned())].into());
        Ok(moved)
    }

    /// Delete what was moved away: the room is free when this returns.
    pub(super) async fn empty(&self, inner: &Arc<Inner>, trash: Option<PathBuf>) -> Result<()> {
        let Some(trash) = trash else { return Ok(()) };
        inner
            .blocking("delete a volume's files", move || {
                sweep(&trash);
                Ok(())
            })
            .await
    }

    /// Remove unused volumes without options: anonymous ones, or with the filter `all` every one.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub(crate) async fn prune(&self, inner: &Arc<Inner>, filters: &Filters) -> Result<VolumePruneReport> {
        if let Some(key) = filters.unknown_key(&["all", "label", "label!"]) {
            return Err(fail!(Invalid, "invalid filter '{key}'"));
        }
        let all = filters.boolean("all", false).map_err(|values| match values.as_slice() {
            [value] => fail!(Invalid, "invalid filter 'all': strconv.ParseBool: parsing {value:?}: invalid syntax"),
            _ => fail!(Invalid, "invalid filter 'all': only one value is expected"),
        })?;
        let mut report = VolumePruneReport::default();
        let known = self.lock().clone();
        for (name, record) in known {
            let chosen = (all || record.label(ANONYMOUS).is_some())
                && !record.has_options()
                && filters.match_labels("label", |key| record.label(key))
                && (!filters.contains("label!") || !filters.match_labels("label!", |key| record.label(key)));
            if !chosen || users(inner).contains_key(&name) {
                continue;
            }
            let size = self.size(inner, &name).await.unwrap_or(0);
            match self.remove(inner, &name, true).await {
                Ok(()) => {
                    report.space_reclaimed += size;
                    report.volumes_deleted.push(name);
                }
                // Somebody began to use it.
                Err(error) if error.kind() == types::Kind::Conflict => {}
                Err(error) => return Err(error),
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

    /// Delete content of a volume that was being made, or replaced, when a daemon died.
    pub(super) async fn sweep_staged(&self, inner: &Arc<Inner>, name: &str) {
        self.sweep_beginning(inner, self.directory(name), STAGED).await;
    }

    /// Delete what a dead daemon had begun to delete, or to make.
    pub(super) async fn sweep_trash(&self, inner: &Arc<Inner>) {
        self.sweep_beginning(inner, self.root.clone(), TRASH).await;
        self.sweep_beginning(inner, self.root.clone(), STAGED).await;
    }

    async fn sweep_beginning(&self, inner: &Arc<Inner>, directory: PathBuf, prefix: &'static str) {
        let swept = inner.blocking("sweep what volumes left", move || {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(prefix) {
                    sweep(&entry.path());
                }
            }
            Ok(())
        });
        if let Err(error) = swept.await {
            tracing::warn!(%error, "left-overs of volumes stay");
        }
    }
}

/// A volume's directory with `_data`, the latter as open as Docker makes it: the container's root decides what is in it.
fn directories(directory: &Path) -> Result<()> {
    let data = directory.join("_data");
    let io = |e: std::io::Error| Error::io(format!("cannot make the directory {}", data.display()), e);
    DirBuilder::new().mode(0o701).create(directory).map_err(io)?;
    DirBuilder::new().mode(0o755).create(&data).map_err(io)
}

/// Give a finished directory its name.
fn settle(staged: &Path, directory: &Path) -> Result<()> {
    let failed = |e| Error::io(format!("cannot make the directory {}", directory.display()), e);
    if directory.symlink_metadata().is_ok() {
        // Left behind by a creation that was never acknowledged.
        if let Some(mounted) = mount_table::below(directory)?.first() {
            return Err(fail!(Conflict, "something is mounted on {}", mounted.target.display()));
        }
        sweep(directory);
    }
    std::fs::rename(staged, directory).map_err(failed)
}
