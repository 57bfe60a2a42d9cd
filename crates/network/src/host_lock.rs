//! One engine at a time chooses subnets in a network namespace: two that look at the same moment would choose the same one.
//!
//! The lock is on the namespace itself (flock(2) on `/proc/thread-self/ns/net`), so that engines need to agree on no path.
//! Every user of the namespace may take it, so it is waited for only so long; without it an engine goes on as if it were
//! alone.

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// Longest wait for another engine, which needs it for milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct HostLock {
    _namespace: Option<File>,
}

/// Waits for the lock of the calling thread's network namespace.
pub(crate) fn take() -> HostLock {
    let begin = Instant::now();
    let namespace = File::open("/proc/thread-self/ns/net").ok().filter(|namespace| {
        loop {
            match flock(namespace, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return true,
                Err(sys::Errno::AGAIN | sys::Errno::INTR) if begin.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
                Err(error) => {
                    tracing::debug!(%error, "choosing subnets without the lock of the network namespace");
                    return false;
                }
            }
        }
    });
    HostLock { _namespace: namespace }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let first = take();
        let second = std::thread::spawn(|| {
            let begin = Instant::now();
            drop(take());
            begin.elapsed()
        });
        std::thread::sleep(Duration::from_millis(200));
        drop(first);
        let waited = second.join().unwrap();
        assert!(waited >= Duration::from_millis(100), "{waited:?}");
    }
}
