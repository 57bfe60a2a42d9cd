//! User namespaces that map the ids of a mount: files that belong to one user on disk are another's where
//! they are mounted, and the other way round. Everybody else stays who he is.
//!
//! A namespace takes a process to make it, which the daemon does not fork from itself: the shim's program
//! is started for the moment. One namespace serves all mounts with the same pair of ids. Called by the
//! opening of mount sources.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use sys::Errno;
use sys::socket::FdSocket;
use sys::spawn::Program;

use crate::error::{Error, Result, fail};

/// Ids that change places: the one on disk and the one that is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Swap {
    pub uid: (u32, u32),
    pub gid: (u32, u32),
}

impl Swap {
    /// Nobody becomes anybody else.
    pub(crate) fn is_identity(self) -> bool {
        self.uid.0 == self.uid.1 && self.gid.0 == self.gid.1
    }
}

/// The namespaces made so far. At most one a pair of ids that a user named.
#[derive(Debug, Default)]
pub(crate) struct Idmaps {
    known: Mutex<HashMap<Swap, Arc<OwnedFd>>>,
}

/// Namespaces kept for the next mount; each holds a descriptor.
const KEPT: usize = 64;

impl Idmaps {
    /// A namespace that maps so. Blocking.
    ///
    /// # Errors
    /// When the kernel refuses a user namespace.
    pub(crate) fn get(&self, program: &Program, swap: Swap) -> Result<Arc<OwnedFd>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = known.get(&swap) {
            return Ok(Arc::clone(namespace));
        }
        let namespace = Arc::new(make(program, swap)?);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(swap, Arc::clone(&namespace));
        Ok(namespace)
    }
}

fn make(program: &Program, swap: Swap) -> Result<OwnedFd> {
    let doing = "cannot make a user namespace to map the owner of a mount";
    let (near, far) = FdSocket::pair().map_err(|e| Error::io(doing, e))?;
    let mut child = program.start(&["--user-namespace"], far.into()).map_err(|e| Error::io(doing, e))?;
    let made = (|| {
        let said = near.recv(&mut [0; 1]).map_err(|e| Error::io(doing, e))?;
        if said.len == 0 {
            return Err(fail!(Internal, "{doing}: the kernel allows none (user.max_user_namespaces)"));
        }
        let pid = child.id();
        for (file, pair) in [("uid_map", swap.uid), ("gid_map", swap.gid)] {
            write(&format!("/proc/{pid}/{file}"), &lines(pair)).map_err(|e| Error::io(doing, e))?;
        }
        rustix::fs::open(format!("/proc/{pid}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io(doing, e))
    })();
    // With this it leaves; the namespace lives on by its descriptor.
    drop(near);
    if let Err(error) = child.wait() {
        tracing::warn!(%error, "a helper could not be waited for");
    }
    made
}

/// One write(2) with the whole map, as the kernel wants it.
fn write(path: &str, content: &str) -> std::result::Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::io::write(file.as_fd(), content.as_bytes())? {
        written if written == content.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// The map of all ids to themselves but for two that change places: on disk, seen, how many.
fn lines((on_disk, seen): (u32, u32)) -> String {
    let (low, high) = (on_disk.min(seen), on_disk.max(seen));
    if low == high {
        return format!("0 0 {}\n", u32::MAX);
    }
    let same = |from: u32, to: u32| (from, from, to - from);
    let parts = [same(0, low), (low, high, 1), same(low + 1, high), (high, low, 1), same(high + 1, u32::MAX)];
    parts.iter().filter(|(.., count)| *count > 0).map(|(a, b, count)| format!("{a} {b} {count}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_change_places_and_all_others_stay() {
        assert_eq!(lines((0, 1000)), "0 1000 1\n1 1 999\n1000 0 1\n1001 1001 4294966294\n");
        assert_eq!(lines((1000, 0)), lines((0, 1000)));
        assert_eq!(lines((0, 1)), "0 1 1\n1 0 1\n2 2 4294967293\n");
        assert_eq!(lines((7, 7)), "0 0 4294967295\n");
        let last = u32::MAX - 1;
        assert_eq!(lines((0, last)), format!("0 {last} 1\n1 1 {}\n{last} 0 1\n", last - 1));
        assert!(Swap { uid: (1, 1), gid: (0, 0) }.is_identity());
        assert!(!Swap { uid: (1, 1), gid: (0, 5) }.is_identity());
    }
}
