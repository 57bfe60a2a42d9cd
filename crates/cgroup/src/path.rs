//! Where a group is in each hierarchy: names checked, paths built, and written down to be found again.
//!
//! Invariant: a path made here is below a mount point of [`Hierarchy`], and no component of what was asked for
//! is `.` or `..` or looks like a control file. Called by the runtime and the engine to name a group.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::group::{Cgroup, Spot, V1Group};
use crate::hierarchy::{Hierarchy, Mode};
use crate::{Error, file};

/// Longest path of a group below its mount point.
const MAX_PATH: usize = 3072;
/// Longest name the kernel takes (`NAME_MAX`).
const MAX_NAME: usize = 255;

impl Cgroup {
    /// The group `path`, whether it exists or not. A path that begins with `/` is below the root of every
    /// hierarchy; any other is below the group this process is in, as runc has it: on v1 and hybrid hosts in each
    /// hierarchy below the own group of that hierarchy, on v2 beside the own group, since a group with
    /// processes cannot have limited groups below it. (`linux.cgroupsPath` of the OCI runtime
    /// specification.)
    ///
    /// # Errors
    /// [`Error::BadPath`] for a path with `..`, `.`, control characters, a component beginning with `cgroup.` or
    /// too long a name, and for a relative path when the own group cannot be seen from here.
    pub fn at(hierarchy: &Hierarchy, path: &str) -> Result<Cgroup, Error> {
        let below = checked(path)?;
        if path.starts_with('/') {
            return Ok(Cgroup::place(hierarchy, |_| Some(below.clone()), &below));
        }
        let beside = hierarchy.mode() == Mode::V2;
        let under = |own: Option<&str>| -> Option<String> {
            let own = own?;
            let base = if beside { own.rsplit_once('/').map_or("", |(above, _)| above) } else { own };
            Some(if base.is_empty() { below.clone() } else { format!("{base}/{below}") })
        };
        let known =
            hierarchy.v1.iter().all(|m| m.own.is_some()) && (hierarchy.v2.is_none() || hierarchy.own_v2.is_some());
        if !known {
            return Err(refuse(
                path,
                "this process's own group lies outside the mounted hierarchies: give a path that begins with '/'",
            ));
        }
        let first =
            hierarchy.own_v2.as_deref().filter(|_| beside).or(hierarchy.v1.first().and_then(|m| m.own.as_deref()));
        let shown = under(first.or(hierarchy.own_v2.as_deref())).unwrap_or_else(|| below.clone());
        Ok(Cgroup::place(hierarchy, under, &shown))
    }

    /// Builds the group from `below(own group)` for each hierarchy.
    fn place(hierarchy: &Hierarchy, below: impl Fn(Option<&str>) -> Option<String>, shown: &str) -> Cgroup {
        let v1 = hierarchy
            .v1
            .iter()
            .filter_map(|m| {
                Some(V1Group {
                    controllers: m.controllers.clone(),
                    spot: Spot::new(&m.point, &below(m.own.as_deref())?),
                    name: m.name.clone(),
                })
            })
            .collect();
        let v2 = hierarchy.v2.as_ref().and_then(|root| Some(Spot::new(root, &below(hierarchy.own_v2.as_deref())?)));
        Cgroup { path: format!("/{shown}"), v1, v2, unified: hierarchy.mode() == Mode::V2 }
    }

    /// The group `parent`/`id`, whether it exists or not: to find a container's group again. `id` has letters,
    /// digits, `-`, `_` and `.` only.
    ///
    /// # Errors
    /// [`Error::BadPath`]
    pub fn open(hierarchy: &Hierarchy, parent: &str, id: &str) -> Result<Cgroup, Error> {
        if id.is_empty() || id.len() > 128 || id.starts_with('.') {
            return Err(refuse(id, "a group name has 1 to 128 characters and does not begin with a dot"));
        }
        if !id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(refuse(id, "a group name has letters, digits, '-', '_' and '.' only"));
        }
        Cgroup::at(hierarchy, &format!("/{parent}/{id}"))
    }

    /// The group below this one, for a process that joins a part of the container (`runc exec --cgroup`).
    ///
    /// # Errors
    /// [`Error::BadPath`]; an empty path or `/` is this group.
    pub fn below(&self, path: &str) -> Result<Cgroup, Error> {
        if path.bytes().all(|b| b == b'/') {
            return Ok(self.clone());
        }
        let below = checked(path)?;
        let mut group = self.clone();
        for spot in group.v1.iter_mut().map(|g| &mut g.spot).chain(group.v2.as_mut()) {
            spot.dir.push(&below);
        }
        group.path = format!("{}/{below}", group.path.trim_end_matches('/'));
        Ok(group)
    }

    /// The group a running process is in.
    ///
    /// # Errors
    /// [`Error::Io`] with ENOENT if there is no such process; [`Error::BadPath`] if its group lies outside
    /// the mounted hierarchies.
    pub fn of_process(hierarchy: &Hierarchy, pid: i32) -> Result<Cgroup, Error> {
        let groups = file::read(&PathBuf::from(format!("/proc/{pid}/cgroup")))?;
        let there = hierarchy.with_own(&groups);
        let known = there.v1.iter().all(|m| m.own.is_some()) && (there.v2.is_none() || there.own_v2.is_some());
        if !known {
            return Err(refuse(groups.trim_end(), "the process's group lies outside the mounted hierarchies"));
        }
        let shown = there.own_v2.as_deref().filter(|_| there.mode() == Mode::V2);
        let shown = shown.or(there.v1.first().and_then(|m| m.own.as_deref())).or(there.own_v2.as_deref());
        let shown = shown.unwrap_or_default().to_owned();
        Ok(Cgroup::place(&there, |own| own.map(str::to_owned), &shown))
    }

    /// The group's directory by controller, to be written down and given to [`Cgroup::from_paths`]: `memory`,
    /// `name=systemd`, and the empty name for v2 (as in `cgroup_paths` of runc's state).
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let v1 = self.v1.iter().flat_map(|g| g.controllers.iter().map(|c| (c.clone(), g.spot.dir.clone())));
        let v2 = self.v2.iter().map(|spot| (String::new(), spot.dir.clone()));
        v1.chain(v2).collect()
    }

    /// The group whose [`Cgroup::paths`] these are. Hierarchies that `paths` does not name are left out: the
    /// group is not in them.
    ///
    /// # Errors
    /// [`Error::BadPath`] for a directory that is not below the mount point of its hierarchy.
    pub fn from_paths(hierarchy: &Hierarchy, paths: &BTreeMap<String, PathBuf>) -> Result<Cgroup, Error> {
        let below = |point: &Path, dir: &Path| -> Result<String, Error> {
            let text = dir.to_string_lossy();
            let outside = || refuse(&text, "it is not below the mount point of its hierarchy");
            let below = dir.strip_prefix(point).map_err(|_| outside())?.to_str().ok_or_else(outside)?;
            if below.is_empty() { Ok(String::new()) } else { checked(below) }
        };
        let mut v1 = Vec::new();
        for mount in &hierarchy.v1 {
            if let Some(dir) = mount.controllers.iter().find_map(|c| paths.get(c)) {
                let spot = Spot::new(&mount.point, &below(&mount.point, dir)?);
                v1.push(V1Group { controllers: mount.controllers.clone(), spot, name: mount.name.clone() });
            }
        }
        let v2 = match (&hierarchy.v2, paths.get("")) {
            (Some(root), Some(dir)) => Some(Spot::new(root, &below(root, dir)?)),
            _ => None,
        };
        let unified = hierarchy.mode() == Mode::V2;
        let first = v2.as_ref().filter(|_| unified).or(v1.first().map(|g| &g.spot)).or(v2.as_ref());
        let path = first.map_or_else(String::new, |spot| format!("/{}", spot.below()));
        Ok(Cgroup { path, v1, v2, unified })
    }
}

fn refuse(path: &str, reason: &'static str) -> Error {
    Error::BadPath { path: path.chars().take(128).collect(), reason }
}

/// `path` without doubled and outer slashes, or why not.
pub(crate) fn checked(path: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(path.len());
    for component in path.split('/').filter(|c| !c.is_empty()) {
        if component == "." || component == ".." {
            return Err(refuse(path, "components '.' and '..' are not allowed"));
        }
        if component.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(refuse(path, "control characters are not allowed"));
        }
        // The kernel reserves names that look like control files.
        if component.starts_with("cgroup.") {
            return Err(refuse(path, "a component beginning with 'cgroup.' is reserved by the kernel"));
        }
        if component.len() > MAX_NAME {
            return Err(refuse(path, "a name is longer than 255 bytes"));
        }
        if !out.is_empty() {
            out.push('/');
        }
        out.push_str(component);
    }
    if out.is_empty() {
        return Err(refuse(path, "it names no group"));
    }
    if out.len() > MAX_PATH {
        return Err(refuse(path, "the path is too long"));
    }
    Ok(out)
}

impl Spot {
    fn new(point: &Path, below: &str) -> Spot {
        Spot {
            dir: if below.is_empty() { point.to_owned() } else { point.join(below) },
            point: point.as_os_str().len(),
        }
    }

    /// Path below the mount point.
    pub(crate) fn below(&self) -> &str {
        let bytes = self.dir.as_os_str().as_bytes().get(self.point..).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default().trim_start_matches('/')
    }

    /// The group's directory and those above it down from the mount point, the mount point first.
    pub(crate) fn ancestry(&self) -> Vec<&Path> {
        let mut all: Vec<&Path> = self.dir.ancestors().take_while(|dir| dir.as_os_str().len() >= self.point).collect();
        all.reverse();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const V2: &str = "26 25 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

    fn dirs(group: &Cgroup) -> Vec<String> {
        group.paths().into_iter().map(|(k, dir)| format!("{k}={}", dir.display())).collect()
    }

    #[test]
    fn absolute_paths_are_the_same_everywhere() {
        let h = Hierarchy::parse(HYBRID, "5:memory:/a\n4:cpu,cpuacct:/b\n0::/c\n").unwrap();
        let group = Cgroup::at(&h, "/kubepods.slice//pod:1@x\\2/ctr").unwrap();
        assert_eq!(group.path(), "/kubepods.slice/pod:1@x\\2/ctr");
        assert_eq!(
            dirs(&group),
            [
                "=/sys/fs/cgroup/unified/kubepods.slice/pod:1@x\\2/ctr",
                "cpu=/sys/fs/cgroup/cpu,cpuacct/kubepods.slice/pod:1@x\\2/ctr",
                "cpuacct=/sys/fs/cgroup/cpu,cpuacct/kubepods.slice/pod:1@x\\2/ctr",
                "memory=/sys/fs/cgroup/memory/kubepods.slice/pod:1@x\\2/ctr",
            ]
        );
        let again = Cgroup::from_paths(&h, &group.paths()).unwrap();
        assert_eq!((again.paths(), again.path()), (group.paths(), group.path()));
    }

    #[test]
    fn relative_paths_are_below_the_own_group_on_v1_and_beside_it_on_v2() {
        let h = Hierarchy::parse(HYBRID, "5:memory:/a/m\n4:cpu,cpuacct:/\n0::/c\n").unwrap();
        let group = Cgroup::at(&h, "x/y").unwrap();
        let memory = group.v1_dir("memory").unwrap();
        assert_eq!(memory, Path::new("/sys/fs/cgroup/memory/a/m/x/y"));
        assert_eq!(group.v1_dir("cpu").unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct/x/y"));
        assert_eq!(group.v2_dir().unwrap(), Path::new("/sys/fs/cgroup/unified/c/x/y"));
        let h = Hierarchy::parse(V2, "0::/user.slice/session-1.scope\n").unwrap();
        let group = Cgroup::at(&h, "ctr").unwrap();
        assert_eq!(group.path(), "/user.slice/ctr");
        assert_eq!(group.v2_dir().unwrap(), Path::new("/sys/fs/cgroup/user.slice/ctr"));
        let h = Hierarchy::parse(V2, "0::/\n").unwrap();
        assert_eq!(Cgroup::at(&h, "ctr").unwrap().path(), "/ctr");
        let h = Hierarchy::parse(V2, "0::/../elsewhere\n").unwrap();
        assert!(Cgroup::at(&h, "ctr").unwrap_err().to_string().contains("begins with '/'"));
        assert!(Cgroup::at(&h, "/ctr").is_ok());
    }

    #[test]
    fn paths_that_are_none() {
        let h = Hierarchy::parse(V2, "0::/\n").unwrap();
        for path in [
            "",
            "/",
            "/a/../b",
            "..",
            "a/./b",
            "/a\nb",
            "/a\0",
            "/x/cgroup.procs",
            &"a".repeat(256),
            &"a/".repeat(2000),
        ] {
            assert!(matches!(Cgroup::at(&h, path), Err(Error::BadPath { .. })), "{path:?}");
        }
        assert!(Cgroup::at(&h, &format!("/{}", "a".repeat(255))).is_ok());
        for (parent, id) in [("/a", ".."), ("/a", "x/y"), ("/a", ""), ("/a", "x y"), ("..", "x"), ("/a", "x\0")] {
            assert!(matches!(Cgroup::open(&h, parent, id), Err(Error::BadPath { .. })), "{parent:?} {id:?}");
        }
        assert_eq!(Cgroup::open(&h, "batch//night/", "x").unwrap().path(), "/batch/night/x");
        assert_eq!(Cgroup::open(&h, "", "x").unwrap().path(), "/x");
        let wild = BTreeMap::from([(String::new(), PathBuf::from("/etc"))]);
        assert!(Cgroup::from_paths(&h, &wild).is_err());
        let wild = BTreeMap::from([(String::new(), PathBuf::from("/sys/fs/cgroup/a/../../../../etc"))]);
        assert!(Cgroup::from_paths(&h, &wild).is_err());
    }

    #[test]
    fn below_a_group() {
        let h = Hierarchy::parse(HYBRID, "5:memory:/\n4:cpu,cpuacct:/\n0::/\n").unwrap();
        let group = Cgroup::at(&h, "/ctr").unwrap();
        assert_eq!(group.below("/").unwrap().path(), "/ctr");
        let sub = group.below("/a/b").unwrap();
        assert_eq!(sub.path(), "/ctr/a/b");
        assert_eq!(sub.v1_dir("memory").unwrap(), Path::new("/sys/fs/cgroup/memory/ctr/a/b"));
        assert!(group.below("../other").is_err());
        let all = sub.v2.as_ref().unwrap().ancestry();
        assert_eq!(all.len(), 4);
        assert_eq!(all[0], Path::new("/sys/fs/cgroup/unified"));
    }
}
