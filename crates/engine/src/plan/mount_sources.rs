//! All mounts of a container in the order they are made, with their sources opened: defaults, the
//! shared memory directory, the files in `/etc`, and the user's own. A user's mount replaces the
//! default at the same place. Called by the plan.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use launch::{Mount, MountKind};
use rustix::fs::{CWD, Mode, OFlags};
use sys::mount::attr;
use sys::path::Root;

use super::{EtcFiles, Fds, default_mounts};
use crate::container::mounts::tmpfs_options;
use crate::container::record::{MountRecord, MountType, Record};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

const MS_REC: u64 = 0x4000;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;

pub(super) fn mounts(
    inner: &Inner,
    record: &Record,
    root: &Root,
    files: &EtcFiles,
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
    for mount in &record.mounts {
        own.push(user_mount(inner, mount, root, fds)?);
    }
    // Parents before children, whatever the order they were asked for.
    own.sort_by_key(|m| m.target.matches('/').count());
    list.extend(own);
    Ok(list)
}

fn user_mount(inner: &Inner, mount: &MountRecord, root: &Root, fds: &mut Fds) -> Result<Mount> {
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
        MountType::Bind => {
            let source = Path::new(&mount.source);
            let meta = std::fs::metadata(source).map_err(|_| {
                fail!(
                    Invalid,
                    "invalid mount config for type \"bind\": bind source path does not exist: {}",
                    mount.source
                )
            })?;
            let fd = sys::mount::clone_tree(CWD, source, !mount.non_recursive)
                .map_err(|e| Error::io(format!("cannot bind {}", mount.source), e))?;
            Ok(bind(fd, !meta.is_dir(), fds))
        }
        MountType::Volume => {
            let (fd, is_dir) = open_volume(mount)?;
            Ok(bind(fd, !is_dir, fds))
        }
        MountType::Image => {
            let fd = inner.images.read_only_mount(&mount.layers)?;
            let kind = MountKind::Detached(fds.push(fd));
            Ok(Mount { attrs: attr::RDONLY, ..Mount::new(kind, mount.destination.as_str()) })
        }
    }
}

/// A detached mount of the volume, or of a path in it resolved without leaving it.
fn open_volume(mount: &MountRecord) -> Result<(OwnedFd, bool)> {
    let failed = |e: &dyn std::fmt::Display| Error::io(format!("cannot mount volume {}", mount.name), e);
    if mount.subpath.is_empty() {
        let fd = sys::mount::clone_tree(CWD, Path::new(&mount.source), true).map_err(|e| failed(&e))?;
        return Ok((fd, true));
    }
    let root = Root::open(&mount.source).map_err(|e| failed(&e))?;
    let path = root
        .open_at(&mount.subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| fail!(Invalid, "cannot access path {} of volume {}: {e}", mount.subpath, mount.name))?;
    let stat = rustix::fs::fstat(&path).map_err(|e| failed(&e))?;
    let fd = sys::mount::clone_tree(path.as_fd(), Path::new(""), true).map_err(|e| failed(&e))?;
    Ok((fd, stat.st_mode & 0o170_000 == 0o040_000))
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
    use std::os::unix::ffi::OsStrExt;
    let dir = run_dir.join("shm");
    if dir.exists()
        && let Ok(path) = std::ffi::CString::new(dir.as_os_str().as_bytes())
    {
        // Not mounted (a start that failed early) is fine too.
        let _ = sys::mount::unmount_detached(&path);
    }
}
