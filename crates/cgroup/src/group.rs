//! One container's control group in every hierarchy of the host: its directories, processes and removal.
//! Naming, making, limits, signals, freezer and statistics are in files of their own.
//!
//! Invariant: only directories below a mount point of the hierarchy are touched.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode as FileMode, OFlags};

use crate::error::libc_errno::{EBUSY, EINVAL, ENOENT};
use crate::hierarchy::Hierarchy;
use crate::{Error, file};

/// Deepest tree of groups below a container that is listed or removed.
pub(crate) const MAX_DEPTH: usize = 64;
/// Waits between attempts to remove a group whose last process is still going, in milliseconds.
pub(crate) const REMOVE_WAITS: [u64; 9] = [0, 1, 2, 5, 10, 20, 50, 100, 200];

/// A directory and how much of its path is the mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) dir: PathBuf,
    /// Bytes of the mount point's path.
    pub(crate) point: usize,
}

/// The part of a group in one v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct V1Group {
    pub(crate) controllers: Vec<String>,
    pub(crate) spot: Spot,
    pub(crate) name: String,
}

/// A container's control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    pub(crate) path: String,
    pub(crate) v1: Vec<V1Group>,
    pub(crate) v2: Option<Spot>,
    /// v2 carries the limits.
    pub(crate) unified: bool,
}

impl Cgroup {
    /// Path of the group below the root of each hierarchy, as in `/proc/PID/cgroup`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Directory in the v1 hierarchy of `controller`.
    pub(crate) fn v1_dir(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|g| g.controllers.iter().any(|c| c == controller)).map(|g| g.spot.dir.as_path())
    }

    /// Directory on v2, whatever it carries.
    pub(crate) fn v2_dir(&self) -> Option<&Path> {
        self.v2.as_ref().map(|spot| spot.dir.as_path())
    }

    /// Directory on v2 if v2 carries the limits.
    pub(crate) fn unified_dir(&self) -> Option<&Path> {
        if self.unified { self.v2_dir() } else { None }
    }

    fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|g| g.spot.dir.as_path()).chain(self.v2_dir())
    }

    /// Whether the group is there in any hierarchy.
    pub fn exists(&self) -> bool {
        self.dirs().any(Path::is_dir)
    }

    /// `tasks` of each v1 hierarchy, open for writing: a process of one thread joins by writing `0`.
    ///
    /// Not `cgroup.procs`: a thread that moves itself need not take the kernel's lock on all thread groups,
    /// whose writers wait for an RCU grace period, some 10 ms (`cgroup_procs_write_start` in kernel/cgroup/cgroup.c).
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn tasks_fds(&self) -> Result<Vec<OwnedFd>, Error> {
        self.v1.iter().map(|g| open(&g.spot.dir.join("tasks"), OFlags::WRONLY)).collect()
    }

    /// Directory of the group on v2, for `CLONE_INTO_CGROUP`; `None` on a host without v2. A hybrid host has
    /// both this and [`Cgroup::tasks_fds`], and a process joins both.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn dir_fd(&self) -> Result<Option<OwnedFd>, Error> {
        self.v2_dir().map(|dir| open(dir, OFlags::RDONLY | OFlags::DIRECTORY)).transpose()
    }

    /// Moves a running process, all its threads, to the group in every hierarchy. A child that is to be born in
    /// the group, or a process of one thread that moves itself, is cheaper with [`Cgroup::dir_fd`] and
    /// [`Cgroup::tasks_fds`].
    ///
    /// # Errors
    /// [`Error::Write`]: ESRCH for a process that is gone, EBUSY for a v2 group that has limited groups below it,
    /// ENOSPC for a v1 cpuset without CPUs.
    pub fn add_process(&self, pid: i32) -> Result<(), Error> {
        let text = pid.to_string();
        for dir in self.dirs() {
            let mut tries = 0;
            loop {
                match file::write(dir, "cgroup.procs", &text) {
                    // A process that is not fully made yet is refused for the blink of an eye.
                    Err(e) if e.errno() == Some(EINVAL) && tries < 5 => {
                        tries += 1;
                        std::thread::sleep(Duration::from_millis(tries));
                    }
                    other => break other?,
                }
            }
        }
        Ok(())
    }

    /// The file with the line `oom_kill N`: v1 `memory.oom_control`, v2 `memory.events`. `None` where memory is
    /// not controlled.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn oom_fd(&self) -> Result<Option<OwnedFd>, Error> {
        let path = match (self.unified_dir(), self.v1_dir("memory")) {
            (Some(dir), _) => dir.join("memory.events"),
            (None, Some(dir)) => dir.join("memory.oom_control"),
            (None, None) => return Ok(None),
        };
        match open(&path, OFlags::RDONLY) {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if e.errno() == Some(ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// How often the kernel has killed for memory in the group, 0 where that is not counted.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let path = match (self.unified_dir(), self.v1_dir("memory")) {
            (Some(dir), _) => dir.join("memory.events"),
            (None, Some(dir)) => dir.join("memory.oom_control"),
            (None, None) => return Ok(0),
        };
        let text = file::read_optional(&path)?.unwrap_or_default();
        Ok(file::flat_keyed(&text).find(|(key, _)| *key == "oom_kill").map_or(0, |(_, n)| n))
    }

    /// For the container's `/sys/fs/cgroup` on v1 and hybrid hosts: the group's directory in each v1
    /// hierarchy, and the name to show it under. Empty on v2.
    pub fn v1_mounts(&self) -> Vec<(PathBuf, String)> {
        if self.unified {
            return Vec::new();
        }
        self.v1.iter().map(|g| (g.spot.dir.clone(), g.name.clone())).collect()
    }

    /// Every process in the group and the groups below it, ascending.
    ///
    /// # Errors
    /// [`Error::Io`]; a group that is gone has none.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let mut pids = BTreeSet::new();
        // In a hybrid layout either kind may hold a process the other has not (one that joined by hand).
        for dir in self.v2_dir().into_iter().chain(self.v1.first().map(|g| g.spot.dir.as_path())) {
            collect_pids(dir, MAX_DEPTH, &mut pids)?;
        }
        pids.remove(&0);
        Ok(pids.into_iter().collect())
    }

    /// Removes the group with the groups below it. A group that is gone is no error; one whose last process
    /// is still going is tried again for a moment.
    ///
    /// # Errors
    /// [`Error::Io`], with EBUSY while processes are in it.
    pub fn remove(&self) -> Result<(), Error> {
        let mut last = Ok(());
        for wait in REMOVE_WAITS {
            std::thread::sleep(Duration::from_millis(wait));
            last = self.try_remove();
            match &last {
                Err(e) if e.errno() == Some(EBUSY) => {}
                _ => break,
            }
        }
        last
    }

    /// As [`Cgroup::remove`], without waiting for anybody.
    ///
    /// # Errors
    /// [`Error::Io`], with EBUSY while processes are in it.
    pub fn try_remove(&self) -> Result<(), Error> {
        let mut first = Ok(());
        for dir in self.dirs() {
            let result = remove_tree(dir, MAX_DEPTH);
            if first.is_ok() {
                first = result;
            }
        }
        first
    }
}

/// Takes the parent of all groups away again where nothing is left below it; the kernel refuses the rest.
pub fn remove_empty_parent(hierarchy: &Hierarchy, parent: &str) {
    let below = parent.trim_matches('/');
    if below.is_empty() || below.split('/').any(|c| c == "." || c == "..") {
        return;
    }
    let points = hierarchy.v1.iter().map(|m| m.point.as_path()).chain(hierarchy.v2.as_deref());
    for point in points {
        let _ = fs::remove_dir(point.join(below));
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, FileMode::empty()).map_err(|e| Error::Io {
        action: "open",
        path: path.to_owned(),
        source: e.into(),
    })
}

fn subgroups(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Io { action: "read", path: dir.to_owned(), source };
    let mut out = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(out),
        Err(e) => return Err(failed(e)),
    };
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_ok_and(|t| t.is_dir()) => out.push(entry.path()),
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(crate::error::libc_errno::ENODEV) => break,
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(out)
}

/// Whether there are no groups below: a directory counts its subdirectories in its links
/// (kernfs_refresh_inode in fs/kernfs/inode.c). In doubt there are.
pub(crate) fn is_leaf(dir: &Path) -> bool {
    fs::symlink_metadata(dir).is_ok_and(|m| m.nlink() == 2)
}

pub(crate) fn collect_pids(dir: &Path, depth: usize, pids: &mut BTreeSet<i32>) -> Result<(), Error> {
    if let Some(text) = file::read_optional(&dir.join("cgroup.procs"))? {
        pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
    }
    if depth > 0 && !is_leaf(dir) {
        for sub in subgroups(dir)? {
            collect_pids(&sub, depth - 1, pids)?;
        }
    }
    Ok(())
}

pub(crate) fn remove_tree(dir: &Path, depth: usize) -> Result<(), Error> {
    let attempt = || match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    if attempt().is_ok() {
        return Ok(());
    }
    if depth > 0 {
        for sub in subgroups(dir)? {
            remove_tree(&sub, depth - 1)?;
        }
    }
    attempt().map_err(|source| Error::Io { action: "remove", path: dir.to_owned(), source })
}
