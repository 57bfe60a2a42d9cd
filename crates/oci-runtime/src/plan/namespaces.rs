//! Where each namespace comes from: made, joined by its path, or the caller's.

use std::os::fd::OwnedFd;

use launch::{NamespaceSet, NamespaceSource};
use oci::{NamespaceKind, Spec};
use rustix::fs::{Mode, OFlags};

use super::Fds;
use crate::error::{Doing, Error, Result};

/// `NSFS_MAGIC` (linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;

pub(super) fn resolve(spec: &Spec, fds: &mut Fds) -> Result<NamespaceSet> {
    let mut set = NamespaceSet { mount: NamespaceSource::Host, ..NamespaceSet::default() };
    for (at, namespace) in spec.namespaces().iter().enumerate() {
        let place = match namespace.kind {
            NamespaceKind::Mount => &mut set.mount,
            NamespaceKind::Network => &mut set.net,
            NamespaceKind::Pid => &mut set.pid,
            NamespaceKind::Ipc => &mut set.ipc,
            NamespaceKind::Uts => &mut set.uts,
            NamespaceKind::Cgroup => &mut set.cgroup,
            NamespaceKind::User => &mut set.user,
            NamespaceKind::Time => &mut set.time,
        };
        *place = match &namespace.path {
            None => NamespaceSource::New,
            Some(path) => match open(at, namespace.kind, path)? {
                Some(fd) => NamespaceSource::Join(fds.push(fd)),
                // The kernel refuses to enter the user namespace one is in (setns(2)).
                None => NamespaceSource::Host,
            },
        };
    }
    if set.mount == NamespaceSource::Host {
        return Err(Error::Other(
            "config.json: linux.namespaces: there is no mount namespace; add {\"type\": \"mount\"}: in the host's own, the container's mounts would be the host's".to_owned(),
        ));
    }
    Ok(set)
}

/// The namespace at `path`, looked at to be one and of the kind. None for the user namespace the caller is in.
fn open(at: usize, kind: NamespaceKind, path: &str) -> Result<Option<OwnedFd>> {
    let what = || format!("open config.json: linux.namespaces[{at}].path ({path:?})");
    // Whatever is there, opening it must neither wait nor start anything.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).doing(what)?;
    let is_namespace = rustix::fs::fstatfs(&fd).doing(what)?.f_type == NSFS_MAGIC;
    if !is_namespace || sys::namespace::kind(&fd) != Ok(flag(kind)) {
        return Err(Error::Other(format!(
            "config.json: linux.namespaces[{at}].path: {path:?} is not a {} namespace; name one such as /proc/PID/ns/{}",
            kind.name(),
            kind.file(),
        )));
    }
    if kind == NamespaceKind::User {
        let own = rustix::fs::stat("/proc/self/ns/user").doing(what)?;
        let there = rustix::fs::fstat(&fd).doing(what)?;
        if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino) {
            return Ok(None);
        }
    }
    Ok(Some(fd))
}

fn flag(kind: NamespaceKind) -> u64 {
    use sys::clone::flags;
    match kind {
        NamespaceKind::Mount => flags::NEWNS,
        NamespaceKind::Network => flags::NEWNET,
        NamespaceKind::Pid => flags::NEWPID,
        NamespaceKind::Ipc => flags::NEWIPC,
        NamespaceKind::Uts => flags::NEWUTS,
        NamespaceKind::Cgroup => flags::NEWCGROUP,
        NamespaceKind::User => flags::NEWUSER,
        NamespaceKind::Time => flags::NEWTIME,
    }
}
