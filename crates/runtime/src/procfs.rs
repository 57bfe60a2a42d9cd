//! A procfs of our own, attached nowhere: what is written through it reaches the kernel, whatever the
//! image or a volume has put at `/proc`.

use std::os::fd::OwnedFd;

use launch::{FailureStage, Sysctl};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use sys::Errno;
use sys::mount::attr;

use crate::failure::{At, Failure};
use crate::report::Reporter;

/// A procfs of the calling process's pid namespace that nobody else has put in place.
pub(crate) struct PrivateProc(OwnedFd);

impl PrivateProc {
    /// One that is attached nowhere. Or that at `/proc`, when the namespace belongs to others, who alone may mount one:
    /// it must be called before the root is entered.
    pub(crate) fn open() -> Result<Self, Failure> {
        match sys::mount::new_fs("proc", "proc", &[], attr::NOSUID | attr::NODEV | attr::NOEXEC) {
            Err(error) if error.errno == Errno::PERM => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open("/proc", flags, Mode::empty()).at(FailureStage::Sysctl, || "open /proc".to_owned())
            }
            made => made.map_err(|error| Failure::new(FailureStage::Sysctl, error.errno, error.to_string())),
        }
        .map(Self)
    }

    /// The one that was just made for the container, before anything lies over parts of it. One less to make, and to
    /// take down: the kernel waits for all CPUs before a detached mount goes.
    pub(crate) fn of_container(mount: OwnedFd) -> Self {
        Self(mount)
    }

    /// Writes every sysctl. The engine's own defaults may be refused, what the user asked for may not.
    pub(crate) fn apply_sysctls(&self, sysctls: &[Sysctl], reporter: &Reporter) -> Result<(), Failure> {
        for sysctl in sysctls {
            let written = sysctl_path(&sysctl.key).and_then(|path| self.write(&path, sysctl.value.as_bytes()));
            match written {
                Ok(()) => {}
                Err(errno) if sysctl.optional => {
                    reporter.warn(&format!("the host refuses sysctl {}={}: {errno}", sysctl.key, sysctl.value));
                }
                Err(errno) => {
                    return Err(errno).at(FailureStage::Sysctl, || format!("set sysctl {}", sysctl.key));
                }
            }
        }
        Ok(())
    }

    fn write(&self, path: &str, value: &[u8]) -> Result<(), Errno> {
        let file = self.open_write(path)?;
        match rustix::io::write(&file, value)? {
            written if written == value.len() => Ok(()),
            _ => Err(Errno::IO),
        }
    }

    fn open_write(&self, path: &str) -> Result<OwnedFd, Errno> {
        // `self` is a symlink of procfs itself, which stays beneath; magic links do not.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)
    }
}

/// The kind of namespace a sysctl belongs to; `None` for those the host has only once.
pub(crate) fn sysctl_namespace(key: &str) -> Option<&'static str> {
    let path = sysctl_path(key).ok()?;
    match path.strip_prefix("sys/")? {
        name if name.starts_with("net/") => Some("net"),
        name if name.starts_with("fs/mqueue/") => Some("ipc"),
        "kernel/msgmax"
        | "kernel/msgmnb"
        | "kernel/msgmni"
        | "kernel/sem"
        | "kernel/shmall"
        | "kernel/shmmax"
        | "kernel/shmmni"
        | "kernel/shm_rmid_forced" => Some("ipc"),
        "kernel/hostname" | "kernel/domainname" => Some("uts"),
        _ => None,
    }
}

/// `net.ipv4.ip_forward` and `net/ipv4/ip_forward` name the same file; whichever separator comes
/// first is the separator, the other one part of a name (sysctl(8)).
fn sysctl_path(key: &str) -> Result<String, Errno> {
    let slashed = match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'.' => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    };
    // A name that walks around would reach sysctls nobody has allowed.
    if slashed.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Errno::INVAL);
    }
    Ok(format!("sys/{slashed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_namespace_has_for_itself_is_in_one() {
        let own = [("net.ipv4.ip_forward", "net"), ("kernel/shmmax", "ipc"), ("fs.mqueue.msg_max", "ipc")];
        for (key, namespace) in own.into_iter().chain([("kernel.hostname", "uts")]) {
            assert_eq!(sysctl_namespace(key), Some(namespace), "{key}");
        }
        for key in
            ["kernel.core_pattern", "vm.overcommit_memory", "net", "net/../kernel/core_pattern", "kernel.shm", ""]
        {
            assert_eq!(sysctl_namespace(key), None, "{key}");
        }
    }

    #[test]
    fn keys_become_paths() {
        let path = |key| sysctl_path(key).unwrap();
        assert_eq!(path("net.ipv4.ip_forward"), "sys/net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding"), "sys/net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding"), "sys/net/ipv4/conf/eth0.1/forwarding");
        for key in ["net/../kernel/core_pattern", "net.//.kernel", "", "/net", "net/./x"] {
            assert_eq!(sysctl_path(key), Err(Errno::INVAL), "{key}");
        }
    }
}
