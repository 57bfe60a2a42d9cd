//! The container's root and mounts. The pivot comes first, so every target is resolved where the host
//! no longer exists, and every mount is attached by descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use launch::{FailureStage, LaunchPlan, Mount, MountKind, RootFs};
use rustix::fs::FileType;
use sys::Errno;

use crate::cgroup::{self, CgroupMounts};
use crate::failure::{At, Failure};
use crate::root::{Missing, Root};
use crate::spawn::Fds;

/// `MS_PRIVATE` (mount(2)).
const MS_PRIVATE: u64 = 1 << 18;
/// `MS_REC`.
const MS_REC: u64 = 1 << 14;
/// Magic number of procfs (linux/magic.h).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Files of `/proc` that may be replaced one by one, as lxcfs does; anything else on procfs could
/// redirect what is written there by the engine or trusted by others.
const PROC_REPLACEABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Attaches the root and pivots into it; the host's mounts are gone afterwards.
pub(crate) fn enter_root(rootfs: &RootFs, fds: Fds<'_>) -> Result<Root, Failure> {
    let stage = FailureStage::RootFs;
    let opened;
    let mount = match rootfs {
        RootFs::Detached(index) => fds.get(*index)?,
        RootFs::Directory(path) => {
            opened = sys::mount::clone_tree(rustix::fs::CWD, Path::new(path), true)
                .at(stage, || format!("open the root directory {path:?}"))?;
            opened.as_fd()
        }
    };
    sys::mount::set_attributes(mount, 0, 0, MS_PRIVATE, true).at(stage, || "make the root private".to_owned())?;
    // On top of the namespace's root: always there, whatever the host looks like.
    let host = Root::open().at(stage, || "open the host's root".to_owned())?;
    sys::mount::attach(mount, host.as_fd()).at(stage, || "attach the root".to_owned())?;
    rustix::process::fchdir(mount).at(stage, || "enter the root".to_owned())?;
    sys::mount::pivot_to_cwd().at(FailureStage::Pivot, || "pivot into the root".to_owned())?;
    Root::open().at(stage, || "open the new root".to_owned())
}

/// Makes every mount of the plan, in order.
pub(crate) fn make(plan: &LaunchPlan, fds: Fds<'_>, root: &Root, mut cgroups: CgroupMounts) -> Result<(), Failure> {
    for mount in &plan.mounts {
        match &mount.kind {
            MountKind::Fs { fstype, source, options } => fs(mount, fstype, source, options, root)?,
            MountKind::Detached(index) => bind(mount, fds.get(*index)?, root)?,
            MountKind::Cgroup => cgroup::mount(mount, &plan.cgroup, &mut cgroups, root)?,
        }
    }
    Ok(())
}

/// A `/dev` of the container's own, to be filled with nodes and links.
pub(crate) fn is_fresh_dev(mount: &Mount) -> bool {
    matches!(mount.kind, MountKind::Fs { .. }) && mount.target.trim_end_matches('/') == "/dev"
}

fn fs(
    mount: &Mount,
    fstype: &str,
    source: &str,
    options: &[(String, Option<String>)],
    root: &Root,
) -> Result<(), Failure> {
    // What the kernel shows about itself must appear where everybody looks for it, not where a link leads.
    let exact = matches!(fstype, "proc" | "sysfs" | "cgroup2") || is_fresh_dev(mount);
    let target = open_target(mount, Missing::Directory, exact, root)?;
    let mut options = options.to_vec();
    if fstype == "tmpfs" && !options.iter().any(|(key, _)| key == "mode") {
        // A tmpfs over a directory of the image keeps that directory's mode, /tmp's sticky bit above all.
        let mode = rustix::fs::fstat(&target).map_or(0o755, |stat| stat.st_mode & 0o7777);
        options.push(("mode".to_owned(), Some(format!("{mode:o}"))));
    }
    if fstype != "proc" {
        refuse_proc(mount, target.as_fd(), None)?;
    }
    let made = sys::mount::new_fs(fstype, source, &options, mount.attrs)
        .map_err(|error| Failure::new(FailureStage::Mount, error.errno, format!("{error} (at {})", mount.target)))?;
    // A new file system is private from the start.
    if mount.propagation != 0 {
        propagate(mount, made.as_fd())?;
    }
    attach(mount, made.as_fd(), target.as_fd())
}

fn bind(mount: &Mount, source: BorrowedFd<'_>, root: &Root) -> Result<(), Failure> {
    let missing = if mount.file { Missing::File } else { Missing::Directory };
    let target = open_target(mount, missing, false, root)?;
    refuse_proc(mount, target.as_fd(), Some(source))?;
    sys::mount::set_attributes(source, mount.attrs, 0, 0, mount.recursive)
        .at(FailureStage::Mount, || format!("set the options of the mount at {}", mount.target))?;
    propagate(mount, source)?;
    attach(mount, source, target.as_fd())
}

/// Propagation is set while the mount is still detached. A copy of a shared mount is its peer: unless
/// asked otherwise it is cut off.
pub(crate) fn propagate(mount: &Mount, fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let (kind, recursive) = match mount.propagation & !MS_REC {
        0 => (MS_PRIVATE, true),
        kind => (kind, mount.propagation & MS_REC != 0),
    };
    sys::mount::set_attributes(fd, 0, 0, kind, recursive)
        .at(FailureStage::Mount, || format!("set the propagation of the mount at {}", mount.target))
}

pub(crate) fn attach(mount: &Mount, fd: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Failure> {
    sys::mount::attach(fd, target).at(FailureStage::Mount, || format!("mount at {}", mount.target))
}

/// A handle on the mount's target, made when missing. With `exact` no component may be a link.
pub(crate) fn open_target(
    mount: &Mount,
    missing: Missing,
    exact: bool,
    root: &Root,
) -> Result<std::os::fd::OwnedFd, Failure> {
    let at = |errno: Errno| {
        let why = match errno {
            Errno::LOOP => "a symbolic link is in the way".to_owned(),
            errno => errno.to_string(),
        };
        Failure::new(FailureStage::Mount, errno, format!("cannot mount at {}: {why}", mount.target))
    };
    if !mount.target.starts_with('/') {
        return Err(at(Errno::INVAL));
    }
    if exact {
        match root.handle_without_links(&mount.target) {
            Ok(handle) => return Ok(handle),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(at(errno)),
        }
        root.ensure(&mount.target, missing).map_err(at)?;
        return root.handle_without_links(&mount.target).map_err(at);
    }
    root.ensure(&mount.target, missing).map_err(at)
}

/// Mounts over procfs are refused, but for single files lxcfs replaces, and a procfs over `/proc` itself.
fn refuse_proc(mount: &Mount, target: BorrowedFd<'_>, source: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let is_proc = |fd: BorrowedFd<'_>| rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC);
    if !is_proc(target) {
        return Ok(());
    }
    let path = mount.target.trim_end_matches('/');
    if (path == "/proc" && source.is_some_and(is_proc)) || PROC_REPLACEABLE.contains(&path) {
        return Ok(());
    }
    Err(Failure::new(
        FailureStage::Mount,
        Errno::PERM,
        format!("{} cannot be mounted because it is inside /proc", mount.target),
    ))
}

/// Shows the terminal as `/dev/console`.
pub(crate) fn bind_console(slave: BorrowedFd<'_>, root: &Root) -> Result<(), Failure> {
    let stage = FailureStage::Console;
    let target = root.ensure("/dev/console", Missing::File).at(stage, || "make /dev/console".to_owned())?;
    let stat = rustix::fs::fstat(slave).at(stage, || "look at the terminal".to_owned())?;
    // Unix98 slaves are majors 136 to 143.
    if !FileType::from_raw_mode(stat.st_mode).is_char_device()
        || !(136..=143).contains(&rustix::fs::major(stat.st_rdev))
    {
        return Err(Failure::new(stage, Errno::NOTTY, "the new terminal is none"));
    }
    let mount =
        sys::mount::clone_tree(slave, Path::new(""), false).at(stage, || "copy the terminal's mount".to_owned())?;
    sys::mount::attach(mount.as_fd(), target.as_fd()).at(stage, || "mount /dev/console".to_owned())
}
