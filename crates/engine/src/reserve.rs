//! Room kept for the moment the disk is full: a file whose space is given back so that the changes
//! that make room, and those that have already happened, can still be written down. It is laid aside
//! again when there is space. Called by [`crate::engine::Inner`].

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

/// Bytes: a few hundred changes of the database with its log.
const SIZE: u64 = 4 << 20;

#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Lay the file aside; without room the engine runs all the same.
    pub(crate) fn open(path: PathBuf) -> Self {
        let reserve = Self { path };
        reserve.refill();
        reserve
    }

    /// Give the space back; false when there was none.
    pub(crate) fn free(&self) -> bool {
        let freed = std::fs::remove_file(&self.path).is_ok();
        if freed {
            tracing::warn!("the disk is full: the space kept in reserve is used; free some");
        }
        freed
    }

    /// Lay it aside again, if it is not there and there is room.
    pub(crate) fn refill(&self) {
        if self.path.exists() {
            return;
        }
        if let Err(error) = lay_aside(&self.path) {
            // Best effort: an empty or partial file would keep nothing.
            let _ = std::fs::remove_file(&self.path);
            tracing::debug!(%error, "no space can be kept in reserve");
        }
    }
}

fn lay_aside(path: &Path) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_once_and_laid_aside_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(dir.path().join("reserve"));
        assert!(reserve.free());
        assert!(!reserve.free());
        reserve.refill();
        assert!(reserve.free());
    }
}
