//! Who uses a volume now, and what is mounted for them: the first user mounts, the last one unmounts.
//!
//! A container is a user from its start until its end, whoever the daemon is meanwhile; an export or a copy
//! for as long as it lasts. Whether something is mounted is never remembered but read from the kernel's
//! table, so that a mount somebody took away is made again, and one that a dead daemon left is found.
//! The file system is made detached on a thread that may hang, and attached only when it is there.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use sys::Errno;
use tokio::runtime::Handle;

use super::options::Spec;
use super::patience::LIMIT;
use super::{Volumes, mount_table};
use crate::container::Container;
use crate::container::record::{MountRecord, MountType, Record as ContainerRecord};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// Users of a volume at this moment.
#[derive(Debug, Default)]
pub(super) struct Active {
    pub users: BTreeSet<String>,
}

/// The use of a volume by something else than a container; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    inner: Arc<Inner>,
    runtime: Handle,
    name: String,
    user: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        let (inner, name, user) = (Arc::clone(&self.inner), self.name.clone(), self.user.clone());
        self.runtime.spawn(async move { inner.volumes.release(&inner, &name, &user).await });
    }
}

impl Volumes {
    pub(super) fn active(&self, name: &str) -> Arc<tokio::sync::Mutex<Active>> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(active.entry(name.to_owned()).or_default())
    }

    pub(super) fn forget_active(&self, name: &str) {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Where something would be mounted, as the kernel's table has it.
    pub(super) fn mount_point(&self, name: &str) -> PathBuf {
        self.real.join(name).join("_data")
    }

    /// Something is mounted on the volume's directory while it is used.
    pub(crate) fn is_mounted(&self, name: &str) -> bool {
        self.get(name).is_some_and(|record| record.is_mounted())
    }

    /// Keep a volume from being removed, without mounting it.
    ///
    /// # Errors
    /// Not found.
    pub(crate) async fn claim(&self, name: &str, user: &str) -> Result<()> {
        let active = self.active(name);
        let mut active = active.lock().await;
        self.find(name)?;
        active.users.insert(user.to_owned());
        Ok(())
    }

    /// Use a volume: it is mounted when it is one to be mounted and is not yet.
    ///
    /// # Errors
    /// Not found; Docker's text for what cannot be mounted; Timeout for what does not answer.
    pub(crate) async fn acquire(&self, inner: &Arc<Inner>, name: &str, user: &str) -> Result<()> {
        let active = self.active(name);
        let mut active = active.lock().await;
        let record = self.find(name)?;
        if let Some(given) = record.options.as_ref().filter(|_| record.is_mounted()) {
            self.mount(inner, name, Spec::parse(given)).await?;
        }
        active.users.insert(user.to_owned());
        Ok(())
    }

    /// Use a volume for as long as the answer lives.
    ///
    /// # Errors
    /// As [`Volumes::acquire`].
    pub(super) async fn hold(&self, inner: &Arc<Inner>, name: &str) -> Result<Held> {
        let user = crate::container::random_id();
        self.acquire(inner, name, &user).await?;
        Ok(Held { inner: Arc::clone(inner), runtime: Handle::current(), name: name.to_owned(), user })
    }

    /// Use what is mounted for a container that does not run, while its files are looked at.
    ///
    /// # Errors
    /// As [`Volumes::acquire`].
    pub(crate) async fn hold_for(&self, inner: &Arc<Inner>, container: &Container) -> Result<Vec<Held>> {
        let record = container.record();
        let mut held = Vec::new();
        if !record.state.phase.is_live() {
            for mount in volumes_of(&record).into_iter().filter(|mount| self.is_mounted(&mount.name)) {
                held.push(self.hold(inner, &mount.name).await?);
            }
        }
        Ok(held)
    }

    /// End a use; the last one unmounts.
    pub(crate) async fn release(&self, inner: &Arc<Inner>, name: &str, user: &str) {
        let active = self.active(name);
        let mut active = active.lock().await;
        active.users.remove(user);
        if active.users.is_empty() && self.get(name).is_some_and(|record| record.is_mounted()) {
            self.unmount(inner, name).await;
        }
    }

    /// A container is about to run on its volumes.
    ///
    /// # Errors
    /// As [`Volumes::acquire`]; what was mounted for it stays until [`Volumes::leave`].
    pub(crate) async fn enter(&self, inner: &Arc<Inner>, record: &ContainerRecord) -> Result<()> {
        for mount in volumes_of(record) {
            self.acquire(inner, &mount.name, &record.id).await?;
        }
        Ok(())
    }

    /// Tell that a container has its volumes.
    pub(crate) fn publish_entered(&self, inner: &Inner, record: &ContainerRecord) {
        for mount in volumes_of(record) {
            let attributes = [
                ("container", record.id.clone()),
                ("destination", mount.destination.clone()),
                ("driver", super::DRIVER.to_owned()),
                ("propagation", mount.propagation.clone()),
                ("read/write", mount.rw.to_string()),
            ];
            let attributes = attributes.map(|(key, value)| (key.to_owned(), value)).into();
            inner.events.publish("volume", "mount", &mount.name, attributes);
        }
    }

    /// A container runs no more, or could not.
    pub(crate) async fn leave(&self, inner: &Arc<Inner>, record: &ContainerRecord) {
        for mount in volumes_of(record) {
            self.release(inner, &mount.name, &record.id).await;
            let attributes = [("container", record.id.clone()), ("driver", super::DRIVER.to_owned())];
            let attributes = attributes.map(|(key, value)| (key.to_owned(), value)).into();
            inner.events.publish("volume", "unmount", &mount.name, attributes);
        }
    }

    /// Containers that lived when the last daemon did use their volumes, until their end is told.
    pub(crate) async fn adopt(&self, containers: &[Arc<Container>]) {
        for container in containers {
            let record = container.record();
            if record.state.phase.is_live() {
                for mount in volumes_of(&record) {
                    self.active(&mount.name).lock().await.users.insert(record.id.clone());
                }
            }
        }
    }

    /// What a new engine finds, once it knows who lives: what is mounted for nobody goes, and so do left-overs of work
    /// that a dead daemon had begun.
    pub(crate) async fn recover(&self, inner: &Arc<Inner>) {
        let table = match mount_table::below(&self.real) {
            Ok(table) => table,
            Err(error) => return tracing::warn!(%error, "mounts of volumes that nobody uses may stay"),
        };
        let names: Vec<(String, bool)> =
            self.lock().iter().map(|(name, record)| (name.clone(), record.is_mounted())).collect();
        for (name, ours) in names {
            let point = self.mount_point(&name);
            // What an administrator mounts on an ordinary volume is not ours to take away.
            if ours && table.iter().any(|mounted| mounted.target == point) {
                let active = self.active(&name);
                let active = active.lock().await;
                if active.users.is_empty() {
                    tracing::info!(volume = name, "unmounting a volume that nobody uses");
                    self.unmount(inner, &name).await;
                }
            }
            self.sweep_staged(inner, &name).await;
        }
        self.sweep_trash(inner).await;
    }

    async fn mount(&self, inner: &Arc<Inner>, name: &str, mut spec: Spec) -> Result<()> {
        let point = self.mount_point(name);
        if mount_table::read()?.iter().any(|mounted| mounted.target == point) {
            return Ok(());
        }
        let shown = self.data(name).display().to_string();
        let doing = format!("error while mounting volume '{shown}'");
        let target = shown.clone();
        let made = self
            .patience
            .run(&format!("volume {name}"), &doing, LIMIT, move || {
                make(&mut spec, &target).map_err(|e| e.context(format!("error while mounting volume '{target}'")))
            })
            .await?;
        inner
            .blocking("attach a volume", move || {
                let failed = |e: Errno| {
                    fail!(Internal, "{doing}: failed to mount local volume: attach to {shown}: {}", reason(e))
                };
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let place = rustix::fs::open(&point, flags, Mode::empty()).map_err(failed)?;
                sys::mount::attach(made.as_fd(), place.as_fd()).map_err(failed)
            })
            .await
    }

    /// Take everything away that is mounted on a volume's directory. Failures are logged: there is nobody to tell.
    pub(super) async fn unmount(&self, inner: &Arc<Inner>, name: &str) {
        let point = self.mount_point(name);
        let taken = inner
            .blocking("unmount a volume", move || {
                let path = CString::new(point.as_os_str().as_bytes()).map_err(|e| Error::io("unmount a volume", e))?;
                // Several may lie on one another, when somebody else mounts there too.
                for _ in 0..16 {
                    if !mount_table::read()?.iter().any(|mounted| mounted.target == point) {
                        break;
                    }
                    // Detached: a server that is gone does not hold this up.
                    sys::mount::unmount_detached(&path)
                        .map_err(|e| Error::io(format!("cannot unmount {}", point.display()), e))?;
                }
                Ok(())
            })
            .await;
        if let Err(error) = taken {
            tracing::warn!(volume = name, %error, "a volume stays mounted");
        }
    }
}

/// Takes part in what happens to the mount it was copied from, but not the other way round (`mount_namespaces(7)`).
const MS_SLAVE: u64 = 1 << 19;

/// The volumes of a container, each once, in order of their places.
fn volumes_of(record: &ContainerRecord) -> Vec<&MountRecord> {
    let mut list: Vec<&MountRecord> = record.mounts.iter().filter(|m| m.kind == MountType::Volume).collect();
    list.sort_by(|a, b| a.destination.cmp(&b.destination));
    list
}

/// The file system of a volume, or a copy of the mount it stands for, detached. May take as long as a server does.
fn make(spec: &mut Spec, target: &str) -> Result<OwnedFd> {
    if let Some(host) = spec.host().map_err(|e| fail!(Internal, "{e}"))? {
        let failed = |why: &str| {
            fail!(Internal, "error resolving passed in network volume address: lookup {host}: {why}")
                .with_hint("give the server's IP address in addr=")
        };
        let found: Vec<_> = (host.as_str(), 0).to_socket_addrs().map_err(|_| failed("no such host"))?.collect();
        // As Docker: an IPv4 address where there is one.
        let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
        let address = address.ok_or_else(|| failed("no such host"))?.ip();
        spec.resolved(&host, address);
    }
    let failed =
        |errno: Errno| fail!(Internal, "failed to mount local volume: {}: {}", spec.attempt(target), reason(errno));
    if spec.is_remount() {
        return Err(failed(Errno::INVAL));
    }
    let made = match spec.bind {
        Some(recursive) => {
            if !spec.device.starts_with('/') {
                return Err(failed(Errno::NOENT));
            }
            let source = pin(Path::new(&spec.device)).map_err(failed)?;
            let (_, directory) = sys::mount::place(source.as_fd()).map_err(failed)?;
            if !directory {
                return Err(failed(Errno::NOTDIR));
            }
            let made = sys::mount::clone_tree(source.as_fd(), Path::new(""), recursive).map_err(failed)?;
            if spec.propagation == 0 {
                // What the host mounts there later is seen, but the end of the copy is not the end of the host's mounts.
                sys::mount::set_attributes(made.as_fd(), 0, 0, MS_SLAVE, true).map_err(failed)?;
            }
            if spec.attrs != 0 {
                sys::mount::set_attributes(made.as_fd(), spec.attrs, 0, 0, recursive).map_err(failed)?;
            }
            made
        }
        None => sys::mount::new_fs(&spec.kind, &spec.device, &spec.configuration(), spec.attrs).map_err(|e| {
            let error = failed(e.errno);
            if e.message.is_empty() { error } else { error.with_hint(format!("{}: {}", spec.kind, e.message)) }
        })?,
    };
    if spec.propagation != 0 {
        const MS_REC: u64 = 0x4000;
        let (kind, recursive) = (spec.propagation & !MS_REC, spec.propagation & MS_REC != 0);
        sys::mount::set_attributes(made.as_fd(), 0, 0, kind, recursive).map_err(failed)?;
    }
    Ok(made)
}

/// A handle on a path of the host, which everything else is then done with: whoever exchanges a name on the way
/// comes too late. Magic links of procfs lead elsewhere for each process and are refused (`ELOOP`).
pub(crate) fn pin(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let how = ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(rustix::fs::CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)
}

/// An errno in the words of Go's programs, which clients know.
pub(crate) fn reason(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::super::options::Given;
    use super::*;

    fn spec(kind: &str, device: &str, o: &str) -> Spec {
        let given: Given = [("type", kind), ("device", device), ("o", o)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        Spec::parse(&given)
    }

    #[test]
    fn errors_in_dockers_words() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for (mut spec, text) in [
            (spec("none", "/nonexistent", "bind"), "mount /nonexistent:/t, flags: 0x1000: no such file or directory"),
            (spec("none", "relative", "bind"), "mount relative:/t, flags: 0x1000: no such file or directory"),
            (spec("none", "/proc/self/root", "bind"), "flags: 0x1000: too many levels of symbolic links"),
            (spec("none", "/etc/passwd", "bind"), "mount /etc/passwd:/t, flags: 0x1000: not a directory"),
            (spec("none", "/tmp", "ro"), "mount /tmp:/t, flags: 0x1: no such device"),
            (spec("nosuchfs", "x", ""), "mount x:/t: no such device"),
            (spec("tmpfs", "tmpfs", "bogus=1"), "mount tmpfs:/t, data: bogus=1: invalid argument"),
            (spec("tmpfs", "tmpfs", "remount"), "mount tmpfs:/t, flags: 0x20: invalid argument"),
            (spec("ext4", "/dev/nosuch", ""), "mount /dev/nosuch:/t: no such file or directory"),
            (
                spec("nfs", ":/x", "addr=nosuch.invalid"),
                "error resolving passed in network volume address: lookup nosuch.invalid: no such host",
            ),
        ] {
            let error = make(&mut spec, "/t").unwrap_err().to_string();
            assert!(error.ends_with(text), "{error}");
        }
    }

    #[test]
    fn a_file_system_with_its_own_options() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let made = make(&mut spec("tmpfs", "tmpfs", "size=1m,mode=700,uid=12,nosuid,noexec"), "/t").unwrap();
        let stat = rustix::fs::fstat(&made).unwrap();
        assert_eq!((stat.st_uid, stat.st_mode & 0o7777), (12, 0o700));
        let fs = rustix::fs::fstatvfs(&made).unwrap();
        assert_eq!(fs.f_blocks * fs.f_frsize, 1 << 20);
        assert!(fs.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID | rustix::fs::StatVfsMountFlags::NOEXEC));
    }
}
