//! Network namespaces as descriptors: making one, and running code inside one.
//!
//! The invariant kept here is that the caller's own thread never changes its network namespace:
//! both operations happen on a scoped thread that ends before they return, so no caller can be left in a
//! foreign namespace by an early return or a panic. Called by `network` (endpoint slots, namespace-bound
//! sockets) and by tests that need a private namespace.
//!
//! See `network_namespaces(7)` and `setns(2)`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// The namespace of the calling thread; other threads of a process may live in others.
const THREAD_NETNS: &str = "/proc/thread-self/ns/net";

/// The caller's current network namespace.
///
/// # Errors
/// Fails where `/proc` is not mounted or descriptors have run out.
pub fn current() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(THREAD_NETNS, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes an empty network namespace (only `lo`, down). It lives as long as the descriptor, a socket made in it,
/// or a process in it does.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at the limit of `user.max_net_namespaces`, `EAGAIN` without threads left.
pub fn create() -> io::Result<OwnedFd> {
    create_with(|| ()).map(|(fd, ())| fd)
}

/// Makes a network namespace and runs `init` on the thread that made it, while it is still inside.
///
/// A netlink or any other socket opened by `init` stays bound to the new namespace for good, so it can be
/// configured later from any thread without entering it again.
///
/// # Errors
/// As [`create`]. A panic of `init` is passed on to the caller.
pub fn create_with<T: Send>(init: impl FnOnce() -> T + Send) -> io::Result<(OwnedFd, T)> {
    on_own_thread(|| {
        // SAFETY: only this thread's network namespace changes; the thread shares no other namespace state that
        // CLONE_NEWNET touches, and it ends before `create_with` returns.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        let fd = current()?;
        Ok((fd, init()))
    })
}

/// Runs `body` inside the network namespace `netns` on a thread of its own and returns what it returned.
///
/// Threads that `body` starts belong to `netns` as well, also when they outlive it.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` when `netns` is not a network namespace, `EAGAIN` without threads left.
/// A panic of `body` is passed on to the caller.
pub fn within<T: Send>(netns: &(impl AsFd + Sync), body: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(|| {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(body())
    })
}

fn on_own_thread<T: Send>(body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, body)?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(fd: &OwnedFd) -> (u64, u64) {
        let stat = rustix::fs::fstat(fd).unwrap();
        (stat.st_dev, stat.st_ino)
    }

    #[test]
    fn create_leaves_the_caller_where_it_was() {
        let before = identity(&current().unwrap());
        let made = create().unwrap();
        assert_ne!(identity(&made), before);
        assert_eq!(identity(&current().unwrap()), before);
    }

    #[test]
    fn within_runs_inside_and_returns() {
        let before = identity(&current().unwrap());
        let made = create().unwrap();
        let inside = within(&made, || identity(&current().unwrap())).unwrap();
        assert_eq!(inside, identity(&made));
        assert_eq!(identity(&current().unwrap()), before);
    }

    #[test]
    fn init_runs_in_the_new_namespace() {
        let (made, inside) = create_with(|| identity(&current().unwrap())).unwrap();
        assert_eq!(inside, identity(&made));
    }

    #[test]
    fn within_refuses_what_is_no_network_namespace() {
        let other = std::fs::File::open("/proc/self/ns/uts").unwrap();
        assert!(within(&other, || ()).is_err());
    }
}
