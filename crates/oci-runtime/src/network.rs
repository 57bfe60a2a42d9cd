//! A network namespace made beside everything else: nothing of a start takes the kernel longer, and a second CPU usually
//! has nothing to do. The container's process then enters it instead of being born in it.
//!
//! Invariant: when [`Network::finish`] returns, the caller is the process's only thread again, as a clone demands.

use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use oci::{NamespaceKind, Spec};
use rustix::fs::{Mode, OFlags};
use sys::Errno;
use sys::clone::flags;

use crate::error::{Doing, Error, Result};

/// Frames of system calls, and what the standard library puts there.
const STACK: usize = 64 << 10;

/// The namespace in the making.
#[derive(Debug)]
pub(crate) struct Network(JoinHandle<std::result::Result<OwnedFd, Errno>>);

impl Network {
    /// Begins, where the container is to have a network namespace of its own that belongs to the caller's user
    /// namespace. Devices that are moved to it need a process that was born in it.
    pub(crate) fn begin(spec: &Spec) -> Option<Self> {
        let is_new = spec.namespace(NamespaceKind::Network)?.path.is_none();
        let moves = spec.linux.as_ref().is_some_and(|linux| !linux.net_devices.is_empty());
        if !is_new || moves || spec.namespace(NamespaceKind::User).is_some() {
            return None;
        }
        // A host that allows no thread loses time only.
        Builder::new().stack_size(STACK).spawn(make).ok().map(Self)
    }

    /// The namespace, with its loopback device up.
    ///
    /// # Errors
    /// What unshare(2) says: `EPERM` for who may not make any.
    pub(crate) fn finish(self) -> Result<OwnedFd> {
        let made = self.0.join().map_err(|_| Error::Other("the thread for the network namespace died".to_owned()))?;
        // It has ended, and the kernel may need a moment more to forget it.
        for _ in 0..10_000 {
            if sys::clone::is_single_threaded() {
                break;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        made.doing(|| "make a network namespace".to_owned())
    }
}

fn make() -> std::result::Result<OwnedFd, Errno> {
    sys::clone::unshare(flags::NEWNET)?;
    sys::loopback::bring_up()?;
    rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
