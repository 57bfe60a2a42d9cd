//! Groups for users without privilege: which hierarchies let the calling user make groups, why the others do
//! not, and handing a group to a user (cgroups(7) "Cgroups delegation"; on systemd's hosts
//! <https://systemd.io/CGROUP_DELEGATION>).
//!
//! Invariant: nothing is tried out by making groups; the answers come from permissions, which the kernel
//! checks again.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Uid};
use rustix::io::Errno;

use crate::group::Cgroup;
use crate::hierarchy::{Hierarchy, Mode};
use crate::{Error, file};

/// What the calling user may do in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// Controllers of the hierarchy, on v2 those that groups made here can have.
    pub controllers: Vec<String>,
    /// It is the v2 hierarchy.
    pub v2: bool,
    /// Where groups of a relative path are made, see [`Cgroup::at`]; empty if the own group is not to be seen.
    pub dir: PathBuf,
    /// Why groups cannot be made there and processes moved to them; `None` if they can.
    pub refusal: Option<String>,
}

impl Hierarchy {
    /// One answer for each hierarchy, v1 before v2.
    pub fn delegation(&self) -> Vec<Delegated> {
        let mut all: Vec<Delegated> = self
            .v1
            .iter()
            .map(|m| {
                let dir = m.own.as_ref().map(|own| m.point.join(own));
                answer(dir, m.controllers.clone(), false)
            })
            .collect();
        if let Some(root) = &self.v2 {
            let own = self.own_v2.as_deref().map(|own| root.join(own));
            let dir = own.map(|own| match own.parent() {
                // As Cgroup::at: a group with processes cannot have limited groups below it.
                Some(above) if self.mode() == Mode::V2 && own != *root => above.to_owned(),
                _ => own,
            });
            let controllers = dir.as_deref().map(offered).unwrap_or_default();
            all.push(answer(dir, controllers, true));
        }
        all
    }
}

fn answer(dir: Option<PathBuf>, controllers: Vec<String>, v2: bool) -> Delegated {
    let (dir, refusal) = match dir {
        Some(dir) => {
            let refusal = refusal(&dir, v2);
            (dir, refusal)
        }
        None => (PathBuf::new(), Some("this process's own group lies outside the mounted hierarchy".to_owned())),
    };
    Delegated { controllers, v2, dir, refusal }
}

/// Controllers that groups made in `dir` get.
fn offered(dir: &Path) -> Vec<String> {
    // Who may not change subtree_control has what is in it already.
    let may_enable = writable(&dir.join("cgroup.subtree_control")).is_ok();
    let name = if may_enable { "cgroup.controllers" } else { "cgroup.subtree_control" };
    let text = file::read_value(&dir.join(name)).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn writable(path: &Path) -> Result<(), Errno> {
    rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)
}

fn refusal(dir: &Path, v2: bool) -> Option<String> {
    // Moving a process needs the common ancestor's cgroup.procs too, which is the one in `dir` or above it.
    let (what, e) = [dir.to_owned(), dir.join("cgroup.procs")]
        .into_iter()
        .find_map(|path| writable(&path).err().map(|e| (path, e)))?;
    let advice = match (e, v2) {
        (Errno::ROFS, _) => "the cgroup file system is mounted read-only: mount it writable",
        (Errno::NOENT, _) => "the group is gone",
        (_, true) => {
            "systemd has not delegated it: start the command with `systemd-run --user --scope -p Delegate=yes`, or use the systemd cgroup driver"
        }
        (_, false) => "cgroup v1 is seldom delegated to users: use a host with cgroup v2, or go without limits",
    };
    let why = if e == Errno::ACCESS { "it belongs to others".to_owned() } else { e.to_string() };
    Some(format!("{} is not writable: {why}; {advice}", what.display()))
}

impl Cgroup {
    /// The group in those hierarchies only in which `delegation` lets the user make groups. In none of them it
    /// has no limits and no processes, and making and removing it does nothing.
    pub fn keep_delegated(mut self, delegation: &[Delegated]) -> Cgroup {
        let usable = |d: &&Delegated| d.refusal.is_none();
        self.v1.retain(|g| delegation.iter().filter(usable).any(|d| !d.v2 && d.controllers == g.controllers));
        if !delegation.iter().filter(usable).any(|d| d.v2) {
            self.v2 = None;
        }
        self
    }

    /// Whether the group is in no hierarchy at all.
    pub fn is_nowhere(&self) -> bool {
        self.v1.is_empty() && self.v2.is_none()
    }

    /// Hands the v2 group to `uid`, who can then make groups below it: the directory and the files that the kernel
    /// names for that. For containers with a control group namespace of their own and a writable
    /// `/sys/fs/cgroup` ("Cgroup ownership" of the OCI runtime specification). Does nothing without v2.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn give_to(&self, uid: u32) -> Result<(), Error> {
        let Some(dir) = self.v2_dir() else { return Ok(()) };
        let give =
            |path: &Path| rustix::fs::chownat(CWD, path, Some(Uid::from_raw(uid)), None, AtFlags::SYMLINK_NOFOLLOW);
        let failed = |path: &Path, e: Errno| Error::Io {
            action: "change the owner of",
            path: path.to_owned(),
            source: e.into(),
        };
        give(dir).map_err(|e| failed(dir, e))?;
        // Kernels before 4.15 do not list the files; these are the ones of cgroups(7).
        let listed = file::read_optional(Path::new("/sys/kernel/cgroup/delegate"))?
            .unwrap_or_else(|| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
        for name in listed.lines().filter(|n| !n.is_empty() && !n.contains('/')) {
            let path = dir.join(name);
            match give(&path) {
                // Listed for all groups, there for those with the controller only (memory.oom.group).
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(failed(&path, e)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_name_the_place() {
        let root = tempfile::tempdir().unwrap();
        let slice = root.path().join("user.slice");
        std::fs::create_dir_all(slice.join("session.scope")).unwrap();
        for (name, text) in
            [("cgroup.procs", ""), ("cgroup.controllers", "cpu memory\n"), ("cgroup.subtree_control", "cpu\n")]
        {
            std::fs::write(slice.join(name), text).unwrap();
        }
        let mountinfo = format!("26 25 0:24 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let h = Hierarchy::parse(&mountinfo, "0::/user.slice/session.scope\n").unwrap();
        let [answer] = h.delegation().try_into().unwrap();
        assert_eq!((answer.dir.as_path(), answer.refusal.as_deref(), answer.v2), (slice.as_path(), None, true));
        assert_eq!(answer.controllers, ["cpu", "memory"]);
        std::fs::remove_file(slice.join("cgroup.procs")).unwrap();
        let [answer] = h.delegation().try_into().unwrap();
        assert!(answer.refusal.as_ref().unwrap().contains("cgroup.procs"), "{answer:?}");
        let group = Cgroup::at(&h, "x").unwrap();
        assert!(!group.is_nowhere());
        let nowhere = group.keep_delegated(&[answer]);
        assert!(nowhere.is_nowhere());
        assert!(nowhere.make(crate::Existing::Empty).unwrap().dirs().is_empty());
        assert_eq!(nowhere.pids().unwrap(), [0; 0]);
        nowhere.kill().unwrap();
        nowhere.remove().unwrap();
        let h = Hierarchy::parse(&mountinfo, "0::/../out\n").unwrap();
        assert!(h.delegation()[0].refusal.is_some());
    }
}
