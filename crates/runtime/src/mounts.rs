//! The container's root and mounts. Every target is resolved below a descriptor of the root and every mount is
//! attached by descriptor, so no link of the image and nothing that races with it leads outside.
//!
//! A root handed over detached is entered first, where the host no longer exists; a directory of the host is
//! entered last, since until then the host's paths and an unmasked procfs can be reached.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use launch::{FailureStage, LaunchPlan, Mount, MountKind, RootFs};
use rustix::fs::{FileType, Mode, OFlags};
use sys::Errno;
use sys::mount::attr;

use crate::cgroup::{self, CgroupMounts};
use crate::copy_up;
use crate::failure::{At, Failure};
use crate::root::{Missing, Root};
use crate::spawn::Fds;

/// `MS_PRIVATE` (mount(2)).
const MS_PRIVATE: u64 = 1 << 18;
/// `MS_REC`.
const MS_REC: u64 = 1 << 14;
/// Magic number of procfs (linux/magic.h).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Files of `/proc` that may be replaced one by one, as lxcfs and hosts in FIPS mode do; anything else on procfs could
/// redirect what is written there by the engine or trusted by others.
const PROC_REPLACEABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Attaches the root. One that came detached is entered at once: the host's mounts are gone afterwards. A directory
/// is bound on itself and waits for [`enter_last`].
pub(crate) fn open_root(rootfs: &RootFs, fds: Fds<'_>) -> Result<Root, Failure> {
    let stage = FailureStage::RootFs;
    let private = |mount: BorrowedFd<'_>| {
        sys::mount::set_attributes(mount, 0, 0, MS_PRIVATE, true).at(stage, || "make the root private".to_owned())
    };
    match rootfs {
        RootFs::Detached(index) | RootFs::DetachedLast(index) => {
            let mount = fds.get(*index)?;
            private(mount)?;
            // On top of the namespace's root: always there, whatever the host looks like. Paths still lead to what
            // is below it, which is where this process has its root.
            let host = Root::open().at(stage, || "open the host's root".to_owned())?;
            sys::mount::attach(mount, host.as_fd()).at(stage, || "attach the root".to_owned())?;
            if matches!(rootfs, RootFs::DetachedLast(_)) {
                let root = rustix::io::fcntl_dupfd_cloexec(mount, 3);
                return root.map(Root::at).at(stage, || "keep the root open".to_owned());
            }
            pivot(mount)?;
            Root::open().at(stage, || "open the new root".to_owned())
        }
        RootFs::Directory(path) => {
            let what = || format!("open the root directory {path:?}");
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let place = rustix::fs::open(path.as_str(), flags, Mode::empty()).at(stage, what)?;
            // A copy of the very directory opened: it cannot have been swapped in between.
            let mount = sys::mount::clone_tree(place.as_fd(), Path::new(""), true).at(stage, what)?;
            private(mount.as_fd())?;
            sys::mount::attach(mount.as_fd(), place.as_fd()).at(stage, || "bind the root on itself".to_owned())?;
            Ok(Root::at(mount))
        }
    }
}

/// Makes a root that was bound on itself the root of everything. With `no_pivot` it is moved over the host's
/// root instead, which stays below.
pub(crate) fn enter_last(root: &Root, no_pivot: bool) -> Result<(), Failure> {
    if !no_pivot {
        return pivot(root.as_fd());
    }
    let stage = FailureStage::Pivot;
    let host = Root::open().at(stage, || "open the host's root".to_owned())?;
    rustix::process::fchdir(root.as_fd()).at(stage, || "enter the root".to_owned())?;
    sys::mount::attach(root.as_fd(), host.as_fd()).at(stage, || "move the root over the host's".to_owned())?;
    rustix::process::chroot(".").at(stage, || "change the root".to_owned())?;
    rustix::process::chdir("/").at(stage, || "enter the new root".to_owned())
}

fn pivot(root: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::process::fchdir(root).at(FailureStage::RootFs, || "enter the root".to_owned())?;
    sys::mount::pivot_to_cwd().at(FailureStage::Pivot, || "pivot into the root".to_owned())
}

/// What becomes of mounts made later directly in the root. Those that are there have been told theirs one by one, and
/// keep it: a mount that is shared with the host must not be cut off because the root is not.
pub(crate) fn propagate_root(propagation: u64, root: &Root) -> Result<(), Failure> {
    sys::mount::set_attributes(root.as_fd(), 0, 0, propagation & !MS_REC, false)
        .at(FailureStage::RootFs, || "set the propagation of the root".to_owned())
}

/// Detached copies of the host's paths that are bound, in the order of the mounts that want one.
pub(crate) fn open_sources(plan: &LaunchPlan) -> Result<VecDeque<OwnedFd>, Failure> {
    let late = !matches!(plan.rootfs, RootFs::Detached(_));
    let mut sources = VecDeque::new();
    for mount in &plan.mounts {
        if let MountKind::Path { source, recursive } = &mount.kind {
            if !late {
                let text = format!("cannot bind {source:?}: its root is entered before the host's paths are looked at");
                return Err(Failure::new(FailureStage::Mount, Errno::INVAL, text));
            }
            let tree = sys::mount::clone_tree(rustix::fs::CWD, Path::new(source), *recursive)
                .at(FailureStage::Mount, || format!("open {source:?} to bind it at {}", mount.target))?;
            sources.push_back(tree);
        }
    }
    Ok(sources)
}

/// Makes every mount of the plan, in order. Gives those below which the plan hides or locks something: a name can be
/// exchanged for another by whoever shares the root, what is mounted cannot.
pub(crate) fn make(
    plan: &LaunchPlan,
    fds: Fds<'_>,
    root: &Root,
    mut sources: VecDeque<OwnedFd>,
    mut cgroups: CgroupMounts,
) -> Result<Made, Failure> {
    let (mut covered, mut proc) = (Vec::new(), None);
    for mount in &plan.mounts {
        let paths = plan.masked_paths.iter().chain(&plan.readonly_paths);
        let covers = paths.into_iter().any(|path| crate::root::beneath(path, &mount.target).is_some());
        let mut keep = |tree: OwnedFd| {
            if covers {
                covered.push((mount.target.clone(), Root::at(tree)));
            }
        };
        match &mount.kind {
            MountKind::Fs { fstype, source, options } => {
                let made = fs(mount, fstype, source, options, root)?;
                if !plan.sysctls.is_empty() && is_writable_proc(mount) {
                    let what = || format!("keep the mount at {} open", mount.target);
                    proc = Some(rustix::io::fcntl_dupfd_cloexec(&made, 3).at(FailureStage::Mount, what)?);
                }
                keep(made);
            }
            MountKind::Detached(index) => {
                let tree = fds.get(*index)?;
                bind(mount, tree, mount.file, root)?;
                if covers {
                    let what = || format!("keep the mount at {} open", mount.target);
                    keep(rustix::io::fcntl_dupfd_cloexec(tree, 3).at(FailureStage::Mount, what)?);
                }
            }
            MountKind::Path { source, .. } => {
                let what = || format!("look at {source:?}");
                let tree = sources.pop_front().ok_or(Errno::BADF).at(FailureStage::Mount, what)?;
                let stat = rustix::fs::fstat(&tree).at(FailureStage::Mount, what)?;
                let file = !FileType::from_raw_mode(stat.st_mode).is_dir();
                bind(mount, tree.as_fd(), file, root)?;
                keep(tree);
            }
            MountKind::Cgroup => cgroup::mount(mount, &plan.cgroup, &mut cgroups, root)?,
        }
    }
    Ok(Made { covered, proc })
}

/// What is still needed of the mounts that were made.
pub(crate) struct Made {
    /// Those with paths to hide or lock in them, and their targets.
    pub(crate) covered: Vec<(String, Root)>,
    /// A procfs of the container's own for its sysctls, when it has any.
    pub(crate) proc: Option<OwnedFd>,
}

/// A procfs of the container's own, through which its settings can be changed.
pub(crate) fn is_writable_proc(mount: &Mount) -> bool {
    matches!(&mount.kind, MountKind::Fs { fstype, options, .. } if fstype == "proc" && options.is_empty())
        && (mount.attrs | mount.tree_attrs) & attr::RDONLY == 0
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
) -> Result<OwnedFd, Failure> {
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
    // Filled before it becomes read-only.
    let later = if mount.copy_up { mount.attrs & attr::RDONLY } else { 0 };
    let made = sys::mount::new_fs(fstype, source, &options, mount.attrs & !later)
        .map_err(|error| Failure::new(FailureStage::Mount, error.errno, format!("{error} (at {})", mount.target)))?;
    if mount.copy_up {
        copy_up::copy(target.as_fd(), made.as_fd())
            .at(FailureStage::Mount, || format!("copy what is at {} into the file system there", mount.target))?;
    }
    if later != 0 {
        sys::mount::set_attributes(made.as_fd(), later, 0, 0, false)
            .at(FailureStage::Mount, || format!("set the options of the mount at {}", mount.target))?;
    }
    adjust(mount, made.as_fd(), 0, 0)?;
    // A new file system is private from the start.
    if mount.propagation != 0 {
        propagate(mount, made.as_fd())?;
    }
    attach(mount, made.as_fd(), target.as_fd())?;
    Ok(made)
}

fn bind(mount: &Mount, source: BorrowedFd<'_>, file: bool, root: &Root) -> Result<(), Failure> {
    let missing = if file { Missing::File } else { Missing::Directory };
    let target = open_target(mount, missing, false, root)?;
    refuse_proc(mount, target.as_fd(), Some(source))?;
    adjust(mount, source, mount.attrs, mount.clear)?;
    propagate(mount, source)?;
    attach(mount, source, target.as_fd())
}

/// Attributes and id mapping of a mount that nobody can see yet.
fn adjust(mount: &Mount, fd: BorrowedFd<'_>, set: u64, clear: u64) -> Result<(), Failure> {
    let what = || format!("set the options of the mount at {}", mount.target);
    if set | clear != 0 {
        sys::mount::set_attributes(fd, set, clear, 0, false).at(FailureStage::Mount, what)?;
    }
    if mount.tree_attrs | mount.tree_clear != 0 {
        sys::mount::set_attributes(fd, mount.tree_attrs, mount.tree_clear, 0, true).at(FailureStage::Mount, what)?;
    }
    Ok(())
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
        return root.ensure_without_links(&mount.target, missing).map_err(at);
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
    // A link of the image could lead to any other place in the container, and hide what the kernel shows there.
    let target = root.ensure_without_links("/dev/console", Missing::File).map_err(|errno| {
        let why = if errno == Errno::LOOP { "a symbolic link is in the way".to_owned() } else { errno.to_string() };
        Failure::new(stage, errno, format!("cannot mount the terminal at /dev/console: {why}"))
    })?;
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
