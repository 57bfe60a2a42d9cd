//! One container's control group in every hierarchy of the host: making, opening, listing, killing and
//! removing it. Limits, freezer and statistics are in files of their own.
//!
//! Invariant: a group is either in all hierarchies or, when making it failed, in none.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode as FileMode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::libc_errno::{EBUSY, ENOENT};
use crate::hierarchy::{Hierarchy, Mode};
use crate::resources::Resources;
use crate::{Error, apply_v1, apply_v2, file};

/// Deepest tree of groups below a container that is listed or removed.
const MAX_DEPTH: usize = 64;
/// Longest path of a group.
const MAX_PATH: usize = 1024;
/// Waits between attempts to remove a group whose last process is still going, in milliseconds.
const REMOVE_WAITS: [u64; 9] = [0, 1, 2, 5, 10, 20, 50, 100, 200];
/// Rounds of signals before processes that keep appearing win.
const KILL_ROUNDS: usize = 20;

/// The part of a group in one v1 hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct V1Group {
    pub(crate) controllers: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
}

/// A container's control group.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: String,
    pub(crate) v1: Vec<V1Group>,
    pub(crate) v2: Option<PathBuf>,
    /// v2 carries the limits.
    pub(crate) unified: bool,
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
        group.make(hierarchy)?;
        Ok(group)
    }

    /// The group `parent`/`id`, whether it exists or not: to find a container's group again.
    ///
    /// # Errors
    /// [`Error::BadPath`]
    pub fn open(hierarchy: &Hierarchy, parent: &str, id: &str) -> Result<Cgroup, Error> {
        let path = checked_path(parent, id)?;
        let below = &path[1..];
        let v1 = hierarchy
            .v1
            .iter()
            .map(|m| V1Group { controllers: m.controllers.clone(), dir: m.point.join(below), name: m.name.clone() })
            .collect();
        let v2 = hierarchy.v2.as_ref().map(|root| root.join(below));
        Ok(Cgroup { v1, v2, unified: hierarchy.mode() == Mode::V2, path })
    }

    fn make(&self, hierarchy: &Hierarchy) -> Result<(), Error> {
        let mut made = Vec::new();
        let below = &self.path[1..];
        let mut all =
            || -> Result<(), Error> {
                for (group, mount) in self.v1.iter().zip(&hierarchy.v1) {
                    let cpuset = group.controllers.iter().any(|c| c == "cpuset");
                    make_path(&mount.point, below, &mut made, |dir, above| {
                        if cpuset { inherit_cpuset(dir, above) } else { Ok(()) }
                    })?;
                }
                if let (Some(root), true) = (&hierarchy.v2, self.v2.is_some()) {
                    make_path(
                        root,
                        below,
                        &mut made,
                        |_, above| {
                            if self.unified { delegate_controllers(above) } else { Ok(()) }
                        },
                    )?;
                }
                Ok(())
            };
        let result = all();
        if result.is_err() {
            for dir in made.iter().rev() {
                let _ = fs::remove_dir(dir);
            }
        }
        result
    }

    /// Sets the limits given and leaves the others. Used for a new group and for a running one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the host lacks a control that is asked for, [`Error::Invalid`],
    /// [`Error::MemoryInUse`], [`Error::Write`]. Limits before the failing one stay set.
    pub fn apply(&self, resources: &Resources) -> Result<(), Error> {
        match self.unified_dir() {
            Some(dir) => apply_v2::apply(dir, resources),
            None => apply_v1::apply(self, resources),
        }
    }

    /// Path of the group below the root of each hierarchy, as in `/proc/PID/cgroup`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Directory in the v1 hierarchy of `controller`.
    pub(crate) fn v1_dir(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|g| g.controllers.iter().any(|c| c == controller)).map(|g| g.dir.as_path())
    }

    /// Directory on v2 if v2 carries the limits.
    pub(crate) fn unified_dir(&self) -> Option<&Path> {
        if self.unified { self.v2.as_deref() } else { None }
    }

    fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|g| g.dir.as_path()).chain(self.v2.as_deref())
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
        self.v1.iter().map(|g| open(&g.dir.join("tasks"), OFlags::WRONLY)).collect()
    }

    /// Directory of the group on v2, for `CLONE_INTO_CGROUP`; `None` on a host without v2. A hybrid host has
    /// both this and [`Cgroup::tasks_fds`], and a process joins both.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn dir_fd(&self) -> Result<Option<OwnedFd>, Error> {
        self.v2.as_ref().map(|dir| open(dir, OFlags::RDONLY | OFlags::DIRECTORY)).transpose()
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
        self.v1.iter().map(|g| (g.dir.clone(), g.name.clone())).collect()
    }

    /// Every process in the group and the groups below it, ascending.
    ///
    /// # Errors
    /// [`Error::Io`]; a group that is gone has none.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let mut pids = BTreeSet::new();
        // In a hybrid layout either kind may hold a process the other has not (one that joined by hand).
        for dir in self.v2.as_deref().into_iter().chain(self.v1.first().map(|g| g.dir.as_path())) {
            collect_pids(dir, MAX_DEPTH, &mut pids)?;
        }
        pids.remove(&0);
        Ok(pids.into_iter().collect())
    }

    /// Kills every process in the group, frozen or not. Returns once signals are sent and no process is left to
    /// send one to, which need not mean that the last is reaped.
    ///
    /// # Errors
    /// [`Error::Io`] if the group cannot be listed; [`Error::Timeout`] if processes keep appearing.
    pub fn kill(&self) -> Result<(), Error> {
        // One atomic order since Linux 5.14; only processes that are in the v2 group hear it.
        let atomic = self.v2.as_ref().is_some_and(|dir| file::write(dir, "cgroup.kill", "1").is_ok());
        if atomic && self.v1.is_empty() {
            return Ok(());
        }
        for round in 0..KILL_ROUNDS {
            let before = self.pids()?;
            if before.is_empty() {
                return Ok(());
            }
            let held: Vec<(i32, OwnedFd)> = before
                .into_iter()
                .filter_map(|raw| Some((raw, pidfd_open(Pid::from_raw(raw)?, PidfdFlags::empty()).ok()?)))
                .collect();
            // A number still listed now that its process is held cannot be a stranger's.
            let after = self.pids()?;
            for (raw, fd) in held {
                if after.binary_search(&raw).is_ok() {
                    let _ = pidfd_send_signal(fd.as_fd(), Signal::KILL);
                }
            }
            // A frozen v1 group acts on the signal when thawed.
            let _ = self.thaw();
            std::thread::sleep(Duration::from_millis(1 << round.min(5)));
        }
        if self.pids()?.is_empty() {
            return Ok(());
        }
        Err(Error::Timeout { path: PathBuf::from(&self.path), wanted: "empty", seconds: 1 })
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
            last = self.remove_once();
            match &last {
                Err(e) if e.errno() == Some(EBUSY) => {}
                _ => break,
            }
        }
        last
    }

    fn remove_once(&self) -> Result<(), Error> {
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

/// `/parent/id`, or why not.
fn checked_path(parent: &str, id: &str) -> Result<String, Error> {
    let refuse = |text: &str, reason| Err(Error::BadPath { path: text.chars().take(128).collect(), reason });
    if id.is_empty() || id.len() > 128 || id.starts_with('.') {
        return refuse(id, "a group name has 1 to 128 characters and does not begin with a dot");
    }
    if !id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return refuse(id, "a group name has letters, digits, '-', '_' and '.' only");
    }
    let mut path = String::new();
    for component in parent.split('/').filter(|c| !c.is_empty()) {
        if component == "." || component == ".." {
            return refuse(parent, "components '.' and '..' are not allowed");
        }
        if component.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return refuse(parent, "control characters are not allowed");
        }
        // The kernel reserves names that look like control files.
        if component.starts_with("cgroup.") {
            return refuse(parent, "a component beginning with 'cgroup.' is reserved by the kernel");
        }
        path.push('/');
        path.push_str(component);
    }
    path.push('/');
    path.push_str(id);
    if path.len() > MAX_PATH || path.split('/').any(|c| c.len() > 255) {
        return refuse(parent, "the path is too long");
    }
    Ok(path)
}

/// Makes `below` under `root` component by component, calls `prepare(directory, parent)` for each directory on the way, and
/// records new ones. The last must be new or empty.
fn make_path(
    root: &Path,
    below: &str,
    made: &mut Vec<PathBuf>,
    mut prepare: impl FnMut(&Path, &Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut dir = root.to_owned();
    let count = below.split('/').count();
    for (at, component) in below.split('/').enumerate() {
        let above = dir.clone();
        dir.push(component);
        let io = |source| Error::Io { action: "create", path: dir.clone(), source };
        match fs::create_dir(&dir) {
            Ok(()) => made.push(dir.clone()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if at + 1 == count {
                    let mut pids = BTreeSet::new();
                    collect_pids(&dir, MAX_DEPTH, &mut pids)?;
                    if !pids.is_empty() {
                        return Err(Error::Busy { path: dir });
                    }
                    remove_tree(&dir, MAX_DEPTH)?;
                    fs::create_dir(&dir).map_err(io)?;
                    made.push(dir.clone());
                }
            }
            Err(e) => return Err(io(e)),
        }
        prepare(&dir, &above)?;
    }
    Ok(())
}

/// v1: a new cpuset is empty and takes no process until it has CPUs and nodes.
fn inherit_cpuset(dir: &Path, above: &Path) -> Result<(), Error> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if file::read(&dir.join(name))?.trim().is_empty() {
            let value = file::read(&above.join(name))?;
            file::write(dir, name, value.trim())?;
        }
    }
    Ok(())
}

/// v2: a group offers below it the controllers named in its `cgroup.subtree_control`.
fn delegate_controllers(above: &Path) -> Result<(), Error> {
    const WANTED: [&str; 7] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma"];
    let available = file::read(&above.join("cgroup.controllers"))?;
    let enabled = file::read(&above.join("cgroup.subtree_control"))?;
    let missing: Vec<&str> = available
        .split_whitespace()
        .filter(|c| WANTED.contains(c) && !enabled.split_whitespace().any(|e| e == *c))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let all: String = missing.iter().map(|c| format!("+{c} ")).collect();
    if file::write(above, "cgroup.subtree_control", all.trim_end()).is_ok() {
        return Ok(());
    }
    // All or nothing failed; one controller that cannot be had (cpu with real-time tasks) must not cost the others.
    let mut failure = None;
    for controller in &missing {
        if let Err(e) = file::write_hint(
            above,
            "cgroup.subtree_control",
            &format!("+{controller}"),
            "; processes in this group keep it from having groups with limits: move them to a group of their own, or choose another --cgroup-parent",
        ) {
            failure = Some(e);
        } else {
            failure = None;
            continue;
        }
        if failure.as_ref().and_then(Error::errno) == Some(EBUSY) {
            break;
        }
    }
    match failure {
        Some(e) if e.errno() == Some(EBUSY) => Err(e),
        _ => Ok(()),
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

fn collect_pids(dir: &Path, depth: usize, pids: &mut BTreeSet<i32>) -> Result<(), Error> {
    if let Some(text) = file::read_optional(&dir.join("cgroup.procs"))? {
        pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
    }
    if depth > 0 {
        for sub in subgroups(dir)? {
            collect_pids(&sub, depth - 1, pids)?;
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path, depth: usize) -> Result<(), Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(checked_path("/dhow", "ab12").unwrap(), "/dhow/ab12");
        assert_eq!(checked_path("batch//night/", "x").unwrap(), "/batch/night/x");
        assert_eq!(checked_path("", "x").unwrap(), "/x");
        for (parent, id) in [
            ("/a/../b", "x"),
            ("..", "x"),
            ("/a", ".."),
            ("/a", "x/y"),
            ("/a", ""),
            ("/a", "x y"),
            ("/a\nb", "x"),
            ("/cgroup.procs", "x"),
            ("/a", "x\0"),
        ] {
            assert!(matches!(checked_path(parent, id), Err(Error::BadPath { .. })), "{parent:?} {id:?}");
        }
        assert!(checked_path(&"a/".repeat(2000), "x").is_err());
        assert!(checked_path(&"a".repeat(300), "x").is_err());
    }
}
