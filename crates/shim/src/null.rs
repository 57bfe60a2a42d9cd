//! The null device handed to containers as standard input.
//!
//! Not the host's: root in a container may change mode, owner and times of whatever its descriptors are
//! open on, and a `/dev/null` closed to everybody would stop the host. Ours is a node in a file system
//! nobody else sees. Called by [`crate::task`].

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use sys::Errno;
use sys::mount::attr;

/// Made at the first use.
#[derive(Default)]
pub(crate) struct NullDevice(Option<OwnedFd>);

impl NullDevice {
    /// Makes it, for uses when no node can be made any more. What fails now fails then.
    pub(crate) fn prepare(&mut self) {
        if self.0.is_none() {
            self.0 = own().or_else(|_| locked()).ok();
        }
    }

    /// A descriptor for reading and writing.
    pub(crate) fn open(&mut self) -> Result<OwnedFd, Errno> {
        let device = match self.0.take() {
            Some(device) => device,
            None => own().or_else(|_| locked())?,
        };
        rustix::io::fcntl_dupfd_cloexec(self.0.insert(device), 3)
    }
}

fn check(device: OwnedFd) -> Result<OwnedFd, Errno> {
    let stat = rustix::fs::fstat(&device)?;
    let is_null = FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(device) } else { Err(Errno::NODEV) }
}

/// A node of our own, in a file system attached nowhere.
fn own() -> Result<OwnedFd, Errno> {
    let options = [("mode".to_owned(), Some("755".to_owned())), ("size".to_owned(), Some("4k".to_owned()))];
    let tmpfs = sys::mount::new_fs("tmpfs", "tmpfs", &options, attr::NOSUID | attr::NOEXEC).map_err(|e| e.errno)?;
    // So that it is called /dev/null in /proc/PID/fd.
    rustix::fs::mkdirat(&tmpfs, "dev", Mode::from_raw_mode(0o755))?;
    let everybody = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(&tmpfs, "dev/null", FileType::CharacterDevice, everybody, rustix::fs::makedev(1, 3))?;
    // Whatever our umask.
    rustix::fs::chmodat(&tmpfs, "dev/null", everybody, rustix::fs::AtFlags::empty())?;
    check(rustix::fs::openat(&tmpfs, "dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Without `CAP_MKNOD`: the host's, on a read-only mount, where nothing about it can be changed.
fn locked() -> Result<OwnedFd, Errno> {
    let mount = sys::mount::clone_tree(rustix::fs::CWD, Path::new("/dev/null"), false)?;
    sys::mount::set_attributes(mount.as_fd(), attr::RDONLY | attr::NOSUID | attr::NOEXEC, 0, 0, false)?;
    let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
    check(rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_form_lets_the_hosts_node_be_changed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let host = rustix::fs::stat("/dev/null").unwrap();
        let own = own().unwrap();
        let stat = rustix::fs::fstat(&own).unwrap();
        assert_ne!((stat.st_dev, stat.st_ino), (host.st_dev, host.st_ino));
        assert_eq!(rustix::io::write(&own, b"x").unwrap(), 1);
        let locked = locked().unwrap();
        let same = Mode::from_raw_mode(host.st_mode & 0o7777);
        assert_eq!(rustix::fs::fchmod(&locked, same).unwrap_err(), Errno::ROFS);
        assert_eq!(rustix::io::write(&locked, b"x").unwrap(), 1);
    }
}
