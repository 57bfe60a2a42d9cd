//! Control groups as the child sees them: joining them, and showing them below `/sys/fs/cgroup`.
//! The groups themselves are made and limited by the daemon.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use launch::{CgroupHandle, FailureStage, LaunchPlan, Mount, MountKind, NamespaceSource};
use sys::Errno;
use sys::mount::attr;

use crate::failure::{At, Failure};
use crate::mounts::{attach, open_target, propagate};
use crate::root::Missing;
use crate::root::Root;
use crate::spawn::Fds;

/// Joins every v1 group; on v2 the clone itself has done it.
pub(crate) fn join(cgroup: &CgroupHandle, fds: Fds<'_>) -> Result<(), Failure> {
    for index in &cgroup.v1_tasks {
        rustix::io::write(fds.get(*index)?, b"0")
            .at(FailureStage::Cgroup, || "join the container's control group".to_owned())?;
    }
    Ok(())
}

/// What to show at `/sys/fs/cgroup`, as detached binds.
#[derive(Default)]
pub(crate) struct CgroupMounts {
    /// The v1 groups: name below `/sys/fs/cgroup` and mount.
    v1: Vec<(String, OwnedFd)>,
    /// The host's v2 hierarchy, for a container in the host's cgroup namespace. Mounting it anew there
    /// would set the whole hierarchy's options (`nsdelegate` and others), the host's own among them.
    v2_of_host: Option<OwnedFd>,
}

/// Magic number of the v2 hierarchy (linux/magic.h).
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// Opens the v1 groups while the host's hierarchies can still be reached.
pub(crate) fn open_mounts(plan: &LaunchPlan) -> Result<CgroupMounts, Failure> {
    if !plan.mounts.iter().any(|mount| mount.kind == MountKind::Cgroup) {
        return Ok(CgroupMounts::default());
    }
    let open = |(dir, name): &(String, String)| {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(Failure::new(
                FailureStage::Cgroup,
                Errno::INVAL,
                format!("{name:?} is no name of a hierarchy"),
            ));
        }
        let tree = sys::mount::clone_tree(rustix::fs::CWD, Path::new(dir), false)
            .at(FailureStage::Cgroup, || format!("open the control group {dir}"))?;
        Ok((name.clone(), tree))
    };
    let v1: Vec<_> = plan.cgroup.v1_mounts.iter().map(open).collect::<Result<_, _>>()?;
    let shown = v1.is_empty() && shows_v2(&plan.cgroup) && plan.namespaces.cgroup == NamespaceSource::Host;
    let v2_of_host = if shown { open_unified() } else { None };
    Ok(CgroupMounts { v1, v2_of_host })
}

fn shows_v2(handle: &CgroupHandle) -> bool {
    handle.v2_only || handle.v2_dir.is_some()
}

/// The host's v2 hierarchy where hosts have it.
fn open_unified() -> Option<OwnedFd> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().find_map(|path| {
        let tree = sys::mount::clone_tree(rustix::fs::CWD, Path::new(path), false).ok()?;
        (rustix::fs::fstatfs(&tree).ok()?.f_type == CGROUP2_SUPER_MAGIC).then_some(tree)
    })
}

/// Mounts the hierarchies at the target, in the host's form.
pub(crate) fn mount(
    mount: &Mount,
    handle: &CgroupHandle,
    groups: &mut CgroupMounts,
    root: &Root,
) -> Result<(), Failure> {
    let stage = FailureStage::Mount;
    let target = open_target(mount, Missing::Directory, true, root)?;
    let new = |fstype: &str, options: &[(String, Option<String>)], attrs: u64| {
        sys::mount::new_fs(fstype, fstype, options, attrs)
            .map_err(|error| Failure::new(stage, error.errno, format!("{error} (at {})", mount.target)))
    };
    if let Some(tree) = groups.v2_of_host.take() {
        sys::mount::set_attributes(tree.as_fd(), mount.attrs, 0, 0, false)
            .at(stage, || format!("set the options of the mount at {}", mount.target))?;
        propagate(mount, tree.as_fd())?;
        return attach(mount, tree.as_fd(), target.as_fd());
    }
    if groups.v1.is_empty() && shows_v2(handle) {
        let tree = new("cgroup2", &[], mount.attrs)?;
        propagate(mount, tree.as_fd())?;
        return attach(mount, tree.as_fd(), target.as_fd());
    }
    let options = [("mode".to_owned(), Some("755".to_owned()))];
    let tmpfs = new("tmpfs", &options, mount.attrs & !attr::RDONLY)?;
    attach(mount, tmpfs.as_fd(), target.as_fd())?;
    for (name, tree) in groups.v1.drain(..) {
        let what = || format!("show the control group {name}");
        rustix::fs::mkdirat(&tmpfs, name.as_str(), rustix::fs::Mode::from_raw_mode(0o755)).at(stage, what)?;
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&tmpfs, name.as_str(), flags, rustix::fs::Mode::empty()).at(stage, what)?;
        sys::mount::set_attributes(tree.as_fd(), mount.attrs, 0, 0, false).at(stage, what)?;
        sys::mount::attach(tree.as_fd(), dir.as_fd()).at(stage, what)?;
        // Controllers mounted together are looked for by their single names.
        for single in name.split(',').filter(|single| *single != name) {
            rustix::fs::symlinkat(name.as_str(), &tmpfs, single).at(stage, what)?;
        }
    }
    sys::mount::set_attributes(tmpfs.as_fd(), mount.attrs, 0, 0, false)
        .at(stage, || format!("make {} read-only", mount.target))
}
