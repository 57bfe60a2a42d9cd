//! All mounts of a container in the order they are made, with their sources opened: defaults, the
//! shared memory directory, the files in `/etc`, and the user's own. A user's mount replaces the
//! default at the same place. Called by the plan.
//!
//! Sources of binds and volumes are opened before the rest of a start, each once: what is looked at is
//! what is mounted, whoever exchanges names meanwhile. That may take as long as a server likes, so it
//! happens where it can be given up.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use launch::{Mount, MountKind};
use rustix::fs::{CWD, Mode, OFlags};
use sys::Errno;
use sys::mount::attr;
use sys::path::Root;

use super::{EtcFiles, Fds, default_mounts};
use crate::container::mounts::{concerns, make_source, tmpfs_options, unusable};
use crate::container::record::{MountRecord, MountType, Record};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::idmap::Swap;
use crate::volume::patience::LIMIT;
use crate::volume::{mount_table, pin, reason};

const MS_REC: u64 = 0x4000;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;

/// A detached mount of a source.
#[derive(Debug)]
struct Opened {
    fd: OwnedFd,
    is_dir: bool,
}

/// Sources of a record's mounts, in their order; nothing for those that have none.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<Option<Opened>>);

/// Open what a container's mounts refer to on the host, mounting volumes that are to be mounted.
///
/// # Errors
/// In Docker's words for what is missing, cannot be mounted or contradicts itself; Timeout for what does not answer.
/// Volumes that were mounted stay so until the caller gives them back.
pub(crate) async fn open(inner: &Arc<Inner>, record: &Record) -> Result<Sources> {
    inner.volumes.enter(inner, record).await?;
    let mut sources = Vec::with_capacity(record.mounts.len());
    for mount in &record.mounts {
        if !matches!(mount.kind, MountType::Bind | MountType::Volume) {
            sources.push(None);
            continue;
        }
        if mount.kind == MountType::Bind && mount.create_source {
            make_source(inner, &mount.source).await?;
        }
        let (shared, wanted) = (Arc::clone(inner), mount.clone());
        let work = move || open_source(&shared, &wanted);
        let opened = if mount.kind == MountType::Volume && !inner.volumes.is_mounted(&mount.name) {
            // On the engine's own disk.
            inner.blocking("open a volume", work).await?
        } else {
            let (subject, doing) = match mount.kind {
                MountType::Bind => (format!("path {}", mount.source), format!("open the bind source {}", mount.source)),
                _ => (format!("volume {}", mount.name), format!("open volume {}", mount.name)),
            };
            inner.volumes.patience.run(&subject, doing, LIMIT, work).await?
        };
        sources.push(Some(opened));
    }
    Ok(Sources(sources))
}

/// One source, opened once and judged by what was opened.
fn open_source(inner: &Inner, mount: &MountRecord) -> Result<Opened> {
    conflicts(mount)?;
    let (handle, recursive) = match mount.kind {
        MountType::Bind => {
            let handle = pin(Path::new(&mount.source)).map_err(|errno| unusable(&mount.source, errno))?;
            (handle, !mount.non_recursive)
        }
        _ => (volume_handle(mount)?, true),
    };
    let failed = |errno: Errno| Error::io(format!("cannot mount {}", mount.source), reason(errno));
    let (mount_id, is_dir) = sys::mount::place(handle.as_fd()).map_err(failed)?;
    if mount.propagation.contains("shared") || mount.propagation.contains("slave") {
        // Binds of the engine's directory follow the host unasked, and where the host passes nothing on they need not.
        if !(mount.propagation.ends_with("slave") && concerns(&inner.config.data_root, &mount.source)) {
            check_propagation(mount, mount_id)?;
        }
    }
    let fd = sys::mount::clone_tree(handle.as_fd(), Path::new(""), recursive).map_err(failed)?;
    if mount.uid.is_some() || mount.gid.is_some() {
        map_owner(inner, mount, &handle, &fd, (mount_id, recursive))?;
    }
    Ok(Opened { fd, is_dir })
}

/// What Docker finds out at a start only.
fn conflicts(mount: &MountRecord) -> Result<()> {
    let why = match mount {
        MountRecord { rw: true, read_only_non_recursive: true, .. } => "!ReadOnly && BindOptions.ReadOnlyNonRecursive",
        MountRecord { rw: true, read_only_force_recursive: true, .. } => {
            "!ReadOnly && BindOptions.ReadOnlyForceRecursive"
        }
        MountRecord { read_only_non_recursive: true, read_only_force_recursive: true, .. } => {
            "ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive"
        }
        _ => return Ok(()),
    };
    Err(fail!(Internal, "mount options conflict: {why}"))
}

/// The volume's directory, or a path in it resolved without leaving it.
fn volume_handle(mount: &MountRecord) -> Result<OwnedFd> {
    let failed = |e: std::io::Error| Error::io(format!("cannot mount volume {}", mount.name), e);
    let root = Root::open(&mount.source).map_err(failed)?;
    if mount.subpath.is_empty() {
        return Ok(root.into());
    }
    below(&root, &mount.source, &mount.subpath)
}

/// A path in a tree, in Docker's words when it is not there.
fn below(root: &Root, shown: &str, subpath: &str) -> Result<OwnedFd> {
    root.open_at(subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|e| {
        let path = format!("{shown}/{subpath}");
        let why = Errno::from_io_error(&e).map_or_else(|| e.to_string(), reason);
        let text = format!("cannot access path {path}: lstat {path}: {why}");
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        Error::new(if missing { types::Kind::NotFound } else { types::Kind::Invalid }, text)
    })
}

/// A mount only passes on to the container, or takes from it, what its source does.
fn check_propagation(mount: &MountRecord, mount_id: u64) -> Result<()> {
    let table = mount_table::read()?;
    let Some(on) = table.iter().find(|mounted| mounted.id == mount_id) else { return Ok(()) };
    let (allowed, needed) = match mount.propagation.contains("shared") {
        true => (on.shared, "a shared mount"),
        false => (on.shared || on.slave, "a shared or slave mount"),
    };
    if allowed {
        return Ok(());
    }
    Err(fail!(Internal, "path {} is mounted on {} but it is not {needed}", mount.source, on.target.display()))
}

/// Let the owner of the source be somebody else where it is mounted.
fn map_owner(
    inner: &Inner,
    mount: &MountRecord,
    handle: &OwnedFd,
    fd: &OwnedFd,
    (mount_id, recursive): (u64, bool),
) -> Result<()> {
    let what = if mount.kind == MountType::Volume { &mount.name } else { &mount.source };
    let stat = rustix::fs::fstat(handle).map_err(|e| Error::io(format!("cannot look at {what}"), e))?;
    let swap = Swap {
        uid: (stat.st_uid, mount.uid.unwrap_or(stat.st_uid)),
        gid: (stat.st_gid, mount.gid.unwrap_or(stat.st_gid)),
    };
    if swap.is_identity() {
        return Ok(());
    }
    let namespace = inner.idmaps.get(&inner.shim, swap)?;
    sys::mount::set_idmap(fd.as_fd(), (*namespace).as_fd(), recursive).map_err(|errno| {
        let table = mount_table::read().unwrap_or_default();
        let on = table.iter().find(|mounted| mounted.id == mount_id);
        match (errno, on) {
            (Errno::INVAL | Errno::OPNOTSUPP, Some(on)) => fail!(
                Invalid,
                "cannot map the owner of {what}: the file system {} at {}{} does not support mounts with mapped ids",
                on.kind,
                on.target.display(),
                if recursive { ", or one mounted below," } else { "" }
            )
            .with_hint("leave out uid= and gid=, or keep the files on ext4, XFS, btrfs or tmpfs"),
            (Errno::PERM, _) => fail!(
                Invalid,
                "cannot map the owner of {what}: its ids are mapped already, or it belongs to another user namespace"
            ),
            _ => Error::io(format!("cannot map the owner of {what}"), reason(errno)),
        }
    })
}

pub(super) fn mounts(
    inner: &Inner,
    record: &Record,
    root: &Root,
    files: &EtcFiles,
    sources: Sources,
    fds: &mut Fds,
) -> Result<Vec<Mount>> {
    let taken = |target: &str| record.mounts.iter().any(|m| m.destination == target);
    let own_dev = taken("/dev");
    let mut list: Vec<Mount> = default_mounts::default_mounts(&record.host_config)
        .into_iter()
        .filter(|m| !(taken(&m.target) || own_dev && m.target.starts_with("/dev/")))
        .collect();
    if !taken("/dev/shm") && !own_dev {
        list.extend(shared_memory(inner, record, fds)?);
    }
    let mut own: Vec<Mount> = Vec::new();
    for (source, target) in &files.binds {
        if taken(target) {
            continue;
        }
        let read_only = record.host_config.readonly_rootfs;
        let fd = sys::mount::clone_tree(CWD, source, false)
            .map_err(|e| Error::io(format!("cannot bind {}", source.display()), e))?;
        own.push(Mount {
            attrs: if read_only { attr::RDONLY } else { 0 },
            propagation: MS_PRIVATE | MS_REC,
            file: true,
            ..Mount::new(MountKind::Detached(fds.push(fd)), *target)
        });
    }
    let mut sources = sources.0.into_iter();
    for mount in &record.mounts {
        let source = sources.next().flatten();
        own.push(user_mount(inner, record, (mount, source), root, fds)?);
    }
    // Parents before children, whatever the order they were asked for.
    own.sort_by_key(|m| m.target.matches('/').count());
    list.extend(own);
    Ok(list)
}

fn user_mount(
    inner: &Inner,
    record: &Record,
    (mount, source): (&MountRecord, Option<Opened>),
    root: &Root,
    fds: &mut Fds,
) -> Result<Mount> {
    let attrs = if mount.rw { 0 } else { attr::RDONLY };
    // Binds and volumes; read-only goes for what is mounted below, too, unless asked otherwise.
    let tree_attrs = if mount.read_only_non_recursive { 0 } else { attrs };
    let bind = |fd: OwnedFd, file: bool, fds: &mut Fds| Mount {
        attrs,
        tree_attrs,
        propagation: propagation(&mount.propagation),
        file,
        ..Mount::new(MountKind::Detached(fds.push(fd)), mount.destination.as_str())
    };
    match mount.kind {
        MountType::Tmpfs => {
            let mut parsed = tmpfs_options(&mount.options).map_err(|e| fail!(Invalid, "{e}"))?;
            // Over a directory of the image the mode is that directory's; a new one is for everybody.
            if !parsed.options.iter().any(|(key, _)| key == "mode") && root.stat(&mount.destination).is_err() {
                parsed.options.push(("mode".into(), Some("1777".into())));
            }
            let kind = MountKind::Fs { fstype: "tmpfs".into(), source: "tmpfs".into(), options: parsed.options };
            Ok(Mount { attrs: parsed.attrs | attrs, ..Mount::new(kind, mount.destination.as_str()) })
        }
        MountType::Bind | MountType::Volume => {
            let Opened { fd, is_dir } =
                source.ok_or_else(|| fail!(Internal, "the source of {} was not opened", mount.destination))?;
            Ok(bind(fd, !is_dir, fds))
        }
        MountType::Image => {
            let fd = inner.images.read_only_mount(&mount.layers)?;
            let (fd, is_dir) = match mount.subpath.is_empty() {
                true => (fd, true),
                false => image_part(inner, record, mount, fd)?,
            };
            let kind = MountKind::Detached(fds.push(fd));
            Ok(Mount { attrs: attr::RDONLY, file: !is_dir, ..Mount::new(kind, mount.destination.as_str()) })
        }
    }
}

/// A path in an image, as a mount of its own.
fn image_part(inner: &Inner, record: &Record, mount: &MountRecord, whole: OwnedFd) -> Result<(OwnedFd, bool)> {
    let failed = |errno: Errno| Error::io(format!("cannot mount {} of image {}", mount.subpath, mount.source), errno);
    let root = Root::from_fd(whole.try_clone().map_err(|e| Error::io("cannot keep an image open", e))?);
    let part = below(&root, &mount.source, &mount.subpath)?;
    let (_, is_dir) = sys::mount::place(part.as_fd()).map_err(failed)?;
    match sys::mount::clone_tree(part.as_fd(), Path::new(""), false) {
        Err(Errno::INVAL) => {}
        other => return Ok((other.map_err(failed)?, is_dir)),
    }
    // Before Linux 6.15 only what is attached somewhere can be copied: for a moment, where nobody else looks.
    let place = inner.run_dir(record).join("image");
    match std::fs::create_dir(&place) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io(format!("cannot make the directory {}", place.display()), e));
        }
        _ => {}
    }
    let target = rustix::fs::open(&place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    sys::mount::attach(whole.as_fd(), target.as_fd()).map_err(failed)?;
    let copy = sys::mount::clone_tree(part.as_fd(), Path::new(""), false);
    detach(&place);
    // The run's directory is removed with everything in it when this fails.
    let _ = std::fs::remove_dir(&place);
    Ok((copy.map_err(failed)?, is_dir))
}

fn propagation(mode: &str) -> u64 {
    match mode {
        "shared" => MS_SHARED,
        "rshared" => MS_SHARED | MS_REC,
        "slave" => MS_SLAVE,
        "rslave" => MS_SLAVE | MS_REC,
        "private" => MS_PRIVATE,
        _ => MS_PRIVATE | MS_REC,
    }
}

/// `/dev/shm` by IPC mode.
fn shared_memory(inner: &Inner, record: &Record, fds: &mut Fds) -> Result<Option<Mount>> {
    let host = &record.host_config;
    let bind = |source: &Path, fds: &mut Fds| -> Result<Option<Mount>> {
        let fd = sys::mount::clone_tree(CWD, source, false)
            .map_err(|e| Error::io(format!("cannot share {}", source.display()), e))?;
        Ok(Some(Mount {
            attrs: attr::NOSUID | attr::NODEV | attr::NOEXEC,
            propagation: MS_PRIVATE,
            ..Mount::new(MountKind::Detached(fds.push(fd)), "/dev/shm")
        }))
    };
    match host.ipc_mode.as_str() {
        "none" => Ok(None),
        "host" => bind(Path::new("/dev/shm"), fds),
        "shareable" => {
            // Mounted where a later sharer finds it; unmounted when the container has ended.
            let dir = inner.run_dir(record).join("shm");
            make_shared(&dir, host.shm_size)?;
            bind(&dir, fds)
        }
        mode => match mode.strip_prefix("container:") {
            Some(donor) => {
                let donor = inner.containers.get(donor)?.record();
                if donor.host_config.ipc_mode == "host" {
                    return bind(Path::new("/dev/shm"), fds);
                }
                bind(&inner.run_dir(&donor).join("shm"), fds)
            }
            None => Ok(Some(default_mounts::shm(host.shm_size))),
        },
    }
}

fn make_shared(dir: &Path, size: i64) -> Result<()> {
    let doing = "cannot make the shared memory directory";
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::io(doing, e)),
        _ => {}
    }
    let options = [("mode".to_owned(), Some("1777".to_owned())), ("size".to_owned(), Some(size.to_string()))];
    let fs = sys::mount::new_fs("tmpfs", "shm", &options, attr::NOSUID | attr::NODEV | attr::NOEXEC)
        .map_err(|e| Error::io(doing, e))?;
    let target =
        rustix::fs::open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|e| Error::io(doing, e))?;
    sys::mount::attach(fs.as_fd(), target.as_fd()).map_err(|e| Error::io(doing, e))
}

/// Undo [`make_shared`]; nothing there is fine.
pub(crate) fn drop_shared(run_dir: &Path) {
    let dir = run_dir.join("shm");
    if dir.exists() {
        detach(&dir);
    }
}

fn detach(place: &Path) {
    use std::os::unix::ffi::OsStrExt;
    if let Ok(path) = std::ffi::CString::new(place.as_os_str().as_bytes()) {
        // Not mounted (a start that failed early) is fine too.
        let _ = sys::mount::unmount_detached(&path);
    }
}
