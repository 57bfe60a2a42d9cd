//! What control group hierarchies this host has. Read once when the daemon starts.

use std::path::{Path, PathBuf};

use crate::mountinfo::{self, CgroupMount};
use crate::{Error, file};

/// Which version carries the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// v1 alone.
    V1,
    /// v1 controllers, with a v2 hierarchy beside them.
    Hybrid,
    /// v2 alone.
    V2,
}

/// A v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct V1Mount {
    pub(crate) controllers: Vec<String>,
    pub(crate) point: PathBuf,
    /// Last component of the mount point: the name shown inside containers.
    pub(crate) name: String,
    /// What of the hierarchy is mounted there.
    root: String,
    /// This process's own group, as a path below the mount point; `None` if it is not below.
    pub(crate) own: Option<String>,
}

/// The host's hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    pub(crate) v1: Vec<V1Mount>,
    pub(crate) v2: Option<PathBuf>,
    v2_root: String,
    /// This process's own group on v2, as a path below the mount point; `None` if it is not below.
    pub(crate) own_v2: Option<String>,
}

impl Hierarchy {
    /// Looks where hierarchies usually are, and reads `/proc/self/mountinfo` if they are not there: a host with a
    /// thousand mounts takes milliseconds to print it.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`] if none is mounted, [`Error::Io`] if /proc cannot be read.
    pub fn detect() -> Result<Hierarchy, Error> {
        let own = file::read(Path::new("/proc/self/cgroup"))?;
        if let Some(usual) = Hierarchy::usual(&own) {
            return Ok(usual);
        }
        Hierarchy::parse(&file::read(Path::new("/proc/self/mountinfo"))?, &own)
    }

    /// The hierarchies of `own`, the text of `/proc/self/cgroup`, if each is mounted whole where systemd and everyone
    /// else mounts it. A part of one, as inside containers, or another place needs the list of mounts.
    fn usual(own: &str) -> Option<Hierarchy> {
        const BASE: &str = "/sys/fs/cgroup";
        // What a hierarchy's root is to us is what it is to the kernel in the first namespace only
        // (PROC_CGROUP_INIT_INO in include/linux/proc_ns.h).
        let namespace = std::fs::read_link("/proc/self/ns/cgroup").ok()?;
        if namespace != Path::new("cgroup:[4026531835]") {
            return None;
        }
        let mut v1 = Vec::new();
        for line in own.lines().filter(|line| !line.starts_with("0::")) {
            let list = line.split(':').nth(1)?;
            let name = list.strip_prefix("name=").unwrap_or(list).to_owned();
            let point = Path::new(BASE).join(&name);
            if !is_whole(&point, CGROUP) {
                return None;
            }
            let controllers = list.split(',').map(str::to_owned).collect();
            v1.push(V1Mount { controllers, point, name, root: "/".to_owned(), own: None });
        }
        // In the order in which they were mounted.
        v1.reverse();
        let point = if v1.is_empty() { PathBuf::from(BASE) } else { Path::new(BASE).join("unified") };
        if !is_whole(&point, CGROUP2) {
            return None;
        }
        Some(Hierarchy { v1, v2: Some(point), v2_root: "/".to_owned(), own_v2: None }.with_own(own))
    }

    /// The same from texts.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`] if there is none in `mountinfo`.
    pub fn parse(mountinfo: &str, own_groups: &str) -> Result<Hierarchy, Error> {
        let mut v1: Vec<V1Mount> = Vec::new();
        let mut v2: Option<CgroupMount> = None;
        for mount in mountinfo::parse(mountinfo) {
            if mount.v2 {
                // The whole hierarchy is preferred to a bind of some subtree; otherwise the first wins.
                let better = |old: &CgroupMount| old.root != "/" && mount.root == "/";
                if v2.as_ref().is_none_or(better) {
                    v2 = Some(mount);
                }
                continue;
            }
            let fresh: Vec<String> =
                mount.controllers.into_iter().filter(|c| !v1.iter().any(|m| m.controllers.contains(c))).collect();
            if let Some(name) = mount.point.file_name()
                && !fresh.is_empty()
            {
                let name = name.to_string_lossy().into_owned();
                v1.push(V1Mount { controllers: fresh, point: mount.point, name, root: mount.root, own: None });
            }
        }
        if v1.is_empty() && v2.is_none() {
            return Err(Error::NoHierarchy);
        }
        let v2_root = v2.as_ref().map_or_else(String::new, |m| m.root.clone());
        Ok(Hierarchy { v1, v2: v2.map(|m| m.point), v2_root, own_v2: None }.with_own(own_groups))
    }

    /// The same hierarchies as a process sees them whose `/proc/PID/cgroup` is `groups`.
    pub(crate) fn with_own(&self, groups: &str) -> Hierarchy {
        let mut there = self.clone();
        let path_of = |wanted: &dyn Fn(&str) -> bool| {
            groups.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                controllers.split(',').any(wanted).then_some(path)
            })
        };
        for mount in &mut there.v1 {
            let path = path_of(&|c| mount.controllers.iter().any(|m| m == c));
            mount.own = path.and_then(|path| below_root(path, &mount.root));
        }
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"));
        there.own_v2 = path.filter(|_| self.v2.is_some()).and_then(|path| below_root(path, &self.v2_root));
        there
    }

    /// Which version carries the limits.
    pub fn mode(&self) -> Mode {
        // A v1 mount with a name only (systemd's) limits nothing.
        let controllers = self.v1.iter().flat_map(|m| &m.controllers).any(|c| !c.starts_with("name="));
        match (controllers, &self.v2) {
            (false, Some(_)) => Mode::V2,
            (true, Some(_)) => Mode::Hybrid,
            (_, None) => Mode::V1,
        }
    }

    /// `1` or `2`, as `docker info` prints it.
    pub fn version(&self) -> &'static str {
        if self.mode() == Mode::V2 { "2" } else { "1" }
    }

    /// Directory where the v1 hierarchy of `controller` is mounted.
    pub(crate) fn v1_point(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|m| m.controllers.iter().any(|c| c == controller)).map(|m| m.point.as_path())
    }

    /// Controllers the v2 root offers; empty unless v2 carries the limits.
    pub(crate) fn v2_controllers(&self) -> Vec<String> {
        match &self.v2 {
            Some(root) if self.mode() == Mode::V2 => file::read(&root.join("cgroup.controllers"))
                .map(|text| text.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

/// Types of file systems (statfs(2)).
const CGROUP: u64 = 0x0027_e0eb;
const CGROUP2: u64 = 0x6367_7270;

/// Whether a hierarchy, from its root down, is mounted at `point`: the root has the first inode number.
fn is_whole(point: &Path, kind: u64) -> bool {
    rustix::fs::statfs(point).is_ok_and(|fs| fs.f_type as u64 == kind)
        && rustix::fs::stat(point).is_ok_and(|stat| stat.st_ino == 1)
}

/// `path` of a hierarchy as seen where its group `root` is mounted.
fn below_root(path: &str, root: &str) -> Option<String> {
    let below = if root == "/" {
        path
    } else {
        let below = path.strip_prefix(root)?;
        // "/docker/ab" is no root of "/docker/abc".
        if !below.is_empty() && !below.starts_with('/') {
            return None;
        }
        below
    };
    let below = below.trim_matches('/');
    // "/.." appears when the group lies outside the control group namespace's root.
    (!below.split('/').any(|c| c == "..")).then(|| below.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro
31 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:29 / /mnt/other/memory rw - cgroup cgroup rw,memory
";
    const V2: &str = "26 25 0:24 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn version_one() {
        let h = Hierarchy::parse(V1, "2:memory:/\n1:name=systemd:/init.scope\n").unwrap();
        assert_eq!((h.mode(), h.version()), (Mode::V1, "1"));
        assert_eq!(h.v1.len(), 3, "a second mount of a controller is no hierarchy");
        assert_eq!(h.v1_point("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(h.v1_point("memory"), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(h.v1_point("pids"), None);
    }

    #[test]
    fn version_two() {
        let h = Hierarchy::parse(V2, "0::/system.slice/dhowd.service\n").unwrap();
        assert_eq!((h.mode(), h.version()), (Mode::V2, "2"));
        assert_eq!(h.own_v2.as_deref(), Some("system.slice/dhowd.service"));
    }

    #[test]
    fn hybrid_and_named_only() {
        let both = format!("{V1}41 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let h = Hierarchy::parse(&both, "0::/\n").unwrap();
        assert_eq!((h.mode(), h.version()), (Mode::Hybrid, "1"));
        let named = format!("{V2}31 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n");
        assert_eq!(Hierarchy::parse(&named, "0::/\n").unwrap().mode(), Mode::V2);
    }

    #[test]
    fn nothing_mounted() {
        assert!(matches!(Hierarchy::parse("1 0 0:1 / / rw - ext4 x rw\n", ""), Err(Error::NoHierarchy)));
    }

    #[test]
    fn the_usual_places_and_the_list_of_mounts_agree() {
        let own = file::read(Path::new("/proc/self/cgroup")).unwrap();
        let mounts = file::read(Path::new("/proc/self/mountinfo")).unwrap();
        let (Some(usual), Ok(listed)) = (Hierarchy::usual(&own), Hierarchy::parse(&mounts, &own)) else { return };
        assert_eq!(usual, listed);
        assert_eq!(Hierarchy::usual("3:nothing:/\n0::/\n"), None);
    }

    #[test]
    fn own_groups_are_seen_from_the_mount() {
        let text = "33 30 0:29 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            34 30 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let h = Hierarchy::parse(text, "3:memory:/docker/ab/in\n2:cpu:/x\n").unwrap();
        let own: Vec<_> = h.v1.iter().map(|m| m.own.as_deref()).collect();
        assert_eq!(own, [Some("in"), Some("x")]);
        let h = Hierarchy::parse(text, "3:memory:/docker/abc\n").unwrap();
        assert!(h.v1.iter().all(|m| m.own.is_none()));
    }

    #[test]
    fn own_group_outside_the_namespace_is_unknown() {
        assert_eq!(Hierarchy::parse(V2, "0::/../other\n").unwrap().own_v2, None);
    }
}
