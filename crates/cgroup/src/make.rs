//! Making a group in every hierarchy with as few system calls as the kernel allows, and taking back exactly
//! what was made.
//!
//! Invariant: when making fails, every directory made on the way is gone again and no other is touched.
//! Called by [`Cgroup::create`] for the engine and by an OCI runtime.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::libc_errno::EBUSY;
use crate::group::{Cgroup, MAX_DEPTH, REMOVE_WAITS, Spot, collect_pids, is_leaf, remove_tree};
use crate::hierarchy::Hierarchy;
use crate::{Error, controllers, file};

/// What to do with a group that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it if it has processes, else remove it and make it anew, without its old limits.
    Replace,
    /// Refuse it if it has processes or is frozen, else use it as it is, with its limits (runc since 1.1).
    Empty,
    /// Use it as it is.
    Join,
}

/// Directories that [`Cgroup::make`] made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "without it a failure later on leaves directories behind"]
pub struct Made {
    dirs: Vec<PathBuf>,
}

impl Made {
    /// The directories, those above before those below.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Removes these directories and nothing else, those that are in use or gone excepted. A last process that
    /// is still going is waited for a moment.
    pub fn undo(self) {
        for dir in self.dirs.iter().rev() {
            for wait in REMOVE_WAITS {
                std::thread::sleep(std::time::Duration::from_millis(wait));
                match fs::remove_dir(dir) {
                    // A last process goes by itself, a group below does not.
                    Err(e) if e.raw_os_error() == Some(EBUSY) && is_leaf(dir) => {}
                    _ => break,
                }
            }
        }
    }
}

impl Cgroup {
    /// Makes the group `parent`/`id` in every hierarchy, with the parent when it is missing. `parent` is
    /// below the root of each hierarchy (`/dhow`, `batch/night`). An empty group left behind is replaced.
    ///
    /// # Errors
    /// [`Error::BadPath`] for a parent or id that is no plain path, [`Error::Busy`] if the group has processes,
    /// [`Error::Io`] or [`Error::Write`] if the kernel refuses.
    pub fn create(hierarchy: &Hierarchy, parent: &str, id: &str) -> Result<Cgroup, Error> {
        let group = Cgroup::open(hierarchy, parent, id)?;
        let _ = group.make(Existing::Replace)?;
        Ok(group)
    }

    /// Makes the group in every hierarchy, with the groups above it when they are missing: v1 cpusets inherit,
    /// v2 controllers are enabled down the path. Where they cannot be, a limit fails later; with
    /// [`Existing::Replace`] the group fails now.
    ///
    /// # Errors
    /// [`Error::Busy`] and [`Error::Frozen`] as `existing` says, [`Error::Io`] or [`Error::Write`] if the kernel
    /// refuses.
    pub fn make(&self, existing: Existing) -> Result<Made, Error> {
        let mut made = Made::default();
        match self.make_all(existing, &mut made) {
            Ok(()) => Ok(made),
            Err(e) => {
                made.undo();
                Err(e)
            }
        }
    }

    /// Refuses a group that has processes or is frozen; one that is not there is fine. For groups that systemd
    /// makes.
    pub(crate) fn refuse_used(&self) -> Result<(), Error> {
        let processes = self.pids()?.len();
        if processes > 0 {
            return Err(Error::Busy { path: PathBuf::from(&self.path), processes });
        }
        if let Some(dir) = self.v1_dir("freezer").filter(|dir| dir.exists()) {
            refuse_frozen(dir, "freezer.state", "THAWED")?;
        }
        self.v2_dir().map_or(Ok(()), |dir| refuse_frozen(dir, "cgroup.freeze", "0"))
    }

    fn make_all(&self, existing: Existing, made: &mut Made) -> Result<(), Error> {
        for group in &self.v1 {
            let new = make_dir(&group.spot, existing, made)?;
            if group.controllers.iter().any(|c| c == "cpuset") {
                for name in ["cpuset.cpus", "cpuset.mems"] {
                    inherit(&group.spot.dir, group.spot.point, name, new)?;
                }
            }
            if !new && existing == Existing::Empty && group.controllers.iter().any(|c| c == "freezer") {
                refuse_frozen(&group.spot.dir, "freezer.state", "THAWED")?;
            }
        }
        if let Some(spot) = &self.v2 {
            let new = make_dir(spot, existing, made)?;
            if self.unified {
                controllers::enable_path(spot, existing == Existing::Replace)?;
            }
            if !new && existing == Existing::Empty {
                refuse_frozen(&spot.dir, "cgroup.freeze", "0")?;
            }
        }
        Ok(())
    }
}

/// Whether the directory is new. One mkdir(2) when its parent is there.
fn make_dir(spot: &Spot, existing: Existing, made: &mut Made) -> Result<bool, Error> {
    let dir = &spot.dir;
    match fs::create_dir(dir) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => {
            // Down from the mount point, which must be there.
            for dir in spot.ancestry().into_iter().skip(1) {
                match fs::create_dir(dir) {
                    Ok(()) => made.dirs.push(dir.to_owned()),
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                    Err(source) => return Err(Error::Io { action: "create", path: dir.to_owned(), source }),
                }
            }
            return Ok(true);
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            if existing == Existing::Join {
                return Ok(false);
            }
            let mut pids = BTreeSet::new();
            collect_pids(dir, MAX_DEPTH, &mut pids)?;
            if !pids.is_empty() {
                return Err(Error::Busy { path: dir.clone(), processes: pids.len() });
            }
            if existing == Existing::Empty {
                return Ok(false);
            }
            remove_tree(dir, MAX_DEPTH)?;
            fs::create_dir(dir).map_err(|source| Error::Io { action: "create", path: dir.clone(), source })?;
        }
        Err(source) => return Err(Error::Io { action: "create", path: dir.clone(), source }),
    }
    made.dirs.push(dir.clone());
    Ok(true)
}

/// v1: a new cpuset is empty and takes no process until it has CPUs and nodes. Gives `dir` its parent's value
/// where it has none, and the parent its own first. `empty` says that `dir` is known to have none.
fn inherit(dir: &Path, point: usize, name: &str, empty: bool) -> Result<String, Error> {
    let own = dir.join(name);
    if !empty {
        let value = file::read_value(&own)?;
        if !value.is_empty() {
            return Ok(value);
        }
    }
    match dir.parent() {
        Some(above) if dir.as_os_str().len() > point => {
            let value = inherit(above, point, name, false)?;
            file::write(dir, name, &value)?;
            Ok(value)
        }
        _ => Err(file::malformed(&own, "")),
    }
}

fn refuse_frozen(dir: &Path, name: &str, running: &str) -> Result<(), Error> {
    match file::read_value(&dir.join(name)) {
        Ok(state) if state != running => Err(Error::Frozen { path: dir.to_owned() }),
        Ok(_) => Ok(()),
        // Kernels before 5.2 have no freezer on v2.
        Err(e) if e.errno() == Some(crate::error::libc_errno::ENOENT) => Ok(()),
        Err(e) => Err(e),
    }
}
