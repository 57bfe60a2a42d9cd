//! A descriptor as tokio's reactor wants it. The one place that hands raw descriptors to it, so the
//! ownership argument is made once. Called by the shim link, log followers and the reaper.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Owns what it watches.
#[derive(Debug)]
pub(crate) struct Watched<T>(pub T);

impl<T: AsFd> AsRawFd for Watched<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Watch `owner`, which must hold the same open descriptor for as long as it lives, as `OwnedFd`
/// and types around it do.
pub(crate) fn watch<T: AsFd>(owner: T, interest: Interest) -> std::io::Result<AsyncFd<Watched<T>>> {
    #[expect(deprecated, reason = "its successor is unsafe; the owner above keeps the descriptor open and the same")]
    AsyncFd::with_interest(Watched(owner), interest)
}
