//! Id mappings of user namespaces (user_namespaces(7)): of a container about to be born, and of namespaces that
//! exist only to map the ids of a mount.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use oci::IdMapping;
use rustix::fs::{Mode, OFlags};
use sys::Errno;
use sys::clone::{Cloned, flags};

use crate::error::{Doing, Result, other};

/// The two maps of a namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maps<'a> {
    pub(crate) uids: &'a [IdMapping],
    pub(crate) gids: &'a [IdMapping],
}

impl Maps<'_> {
    /// Maps the ids of the new user namespace that the child `pid`, which waits, was born in.
    ///
    /// # Errors
    /// What the kernel or the helpers `newuidmap` and `newgidmap` say.
    pub(crate) fn apply(self, pid: i32) -> Result<()> {
        let effective = rustix::process::geteuid();
        if effective.is_root() {
            write(pid, "uid_map", &lines(self.uids))?;
            return write(pid, "gid_map", &lines(self.gids));
        }
        // A user may map itself, once setting groups is given up; more takes the set-uid helpers and /etc/subuid.
        let own = |maps: &[IdMapping], id: u32| matches!(maps, [one] if one.size == 1 && one.host_id == id);
        if own(self.gids, rustix::process::getegid().as_raw()) {
            write(pid, "setgroups", "deny")?;
            write(pid, "gid_map", &lines(self.gids))?;
        } else {
            helper("newgidmap", "/etc/subgid", pid, self.gids)?;
        }
        if own(self.uids, effective.as_raw()) {
            write(pid, "uid_map", &lines(self.uids))
        } else {
            helper("newuidmap", "/etc/subuid", pid, self.uids)
        }
    }

    /// A user namespace with these maps and nothing in it.
    ///
    /// # Errors
    /// What clone3(2) or the kernel says about the maps.
    pub(crate) fn namespace(self) -> Result<OwnedFd> {
        let (near, far) = sys::socket::FdSocket::pair().doing(|| "make a socket".to_owned())?;
        let what = || "make a user namespace to map the ids of a mount".to_owned();
        match sys::clone::clone3(flags::NEWUSER, None).doing(what)? {
            Cloned::Child => {
                drop(near);
                // Until the parent has what it wants, or is gone.
                let _ = far.recv(&mut [0; 1]);
                sys::process::exit_now(0)
            }
            Cloned::Parent { pid, .. } => {
                drop(far);
                let made = self.apply(pid).and_then(|()| {
                    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                    rustix::fs::open(format!("/proc/{pid}/ns/user"), flags, Mode::empty()).doing(what)
                });
                drop(near);
                let _ = sys::process::wait_for(pid);
                made
            }
        }
    }
}

fn lines(maps: &[IdMapping]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container_id, map.host_id, map.size)).collect()
}

fn write(pid: i32, name: &str, content: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    // One write(2) with the whole map, as the kernel wants it.
    rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| match rustix::io::write(file.as_fd(), content.as_bytes())? {
            written if written == content.len() => Ok(()),
            _ => Err(Errno::IO),
        })
        .doing(|| format!("write {name} of the container's user namespace ({:?})", content.trim_end()))
}

fn helper(program: &str, allowed: &str, pid: i32, maps: &[IdMapping]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for map in maps {
        command.args([map.container_id.to_string(), map.host_id.to_string(), map.size.to_string()]);
    }
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => other(format!(
            "{program} refused the id mappings: {}; {allowed} must name the ids for this user",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => other(format!(
            "cannot run {program}, which a user without privileges needs to map more ids than its own: {error}; install the package uidmap"
        )),
    }
}
