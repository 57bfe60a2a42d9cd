//! One upload in progress: a file that grows and the digest of what it holds.
//!
//! The invariant: `offset` bytes of the file are the client's bytes in order, and `hash` is of exactly these; what lies
//! beyond `offset` counts for nothing. The digest is taken while the bytes are in memory and never read again: the
//! state of the computation is kept beside the file, from where a restarted server goes on. That state is of use only
//! while the page cache it was written with lives, so it names the boot; after a power cut the upload begins anew.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256};
use sys::path::{Dir, Root};
use types::Digest;

use super::FILE_MODE;
use crate::name::{RepositoryName, UploadId};

/// Bytes after which the state is kept while a single request sends them.
const CHECKPOINT: u64 = 8 << 20;

/// A growing file is handed to the disk in pieces of so many bytes, so that the sync at its end has little left to do.
const WRITEBACK: u64 = 8 << 20;

/// An upload in progress.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: UploadId,
    pub(crate) repository: RepositoryName,
    /// One request at a time writes.
    pub(crate) turn: std::sync::Arc<tokio::sync::Mutex<()>>,
    dir: Dir,
    progress: Mutex<Progress>,
    /// Copy of the progress' offset for whoever asks meanwhile.
    offset: AtomicU64,
    epoch: Instant,
    /// Milliseconds since `epoch` at which a client was last seen.
    seen: AtomicU64,
}

#[derive(Debug)]
struct Progress {
    file: File,
    hash: Sha256,
    offset: u64,
    /// Offset in the state file.
    kept: u64,
    /// Up to where the file is on its way to the disk.
    started: u64,
}

/// A point to go back to.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    hash: Sha256,
    offset: u64,
}

/// What is kept beside the file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    repository: String,
    offset: u64,
    /// State of the SHA-256 computation, hexadecimal.
    hash: String,
    /// `/proc/sys/kernel/random/boot_id` of the boot that wrote it.
    boot: String,
}

impl Session {
    /// Begins an upload in `dir`, its own new directory.
    pub(super) fn begin(id: UploadId, repository: RepositoryName, dir: Dir) -> io::Result<Self> {
        let file = File::from(dir.create_file("data".as_ref(), FILE_MODE)?);
        let session =
            Self::new(id, repository, dir, Progress { file, hash: Sha256::new(), offset: 0, kept: 0, started: 0 });
        session.keep()?;
        Ok(session)
    }

    /// Goes on with an upload of an earlier server of this boot; nothing when it cannot be.
    pub(super) fn resume(id: UploadId, root: &Root) -> Option<Self> {
        let dir = root.open_dir(std::path::Path::new("uploads").join(id.as_str())).ok()?;
        let kept: Kept = serde_json::from_str(&super::read_small(&dir, "state".as_ref()).ok()??).ok()?;
        let repository = RepositoryName::parse(&kept.repository).ok()?;
        if kept.boot != boot_id()? {
            return None;
        }
        let mut bytes = vec![0; kept.hash.len() / 2];
        faster_hex::hex_decode(kept.hash.as_bytes(), &mut bytes).ok()?;
        let hash = Sha256::deserialize(&SerializedState::<Sha256>::try_from(&bytes[..]).ok()?).ok()?;
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        let path = std::path::Path::new("uploads").join(id.as_str()).join("data");
        let file = File::from(root.open_at(path, flags, rustix::fs::Mode::empty()).ok()?);
        if file.metadata().ok()?.len() < kept.offset {
            return None;
        }
        let offset = kept.offset;
        Some(Self::new(id, repository, dir, Progress { file, hash, offset, kept: offset, started: offset }))
    }

    fn new(id: UploadId, repository: RepositoryName, dir: Dir, progress: Progress) -> Self {
        Self {
            id,
            repository,
            turn: std::sync::Arc::default(),
            dir,
            offset: AtomicU64::new(progress.offset),
            progress: Mutex::new(progress),
            epoch: Instant::now(),
            seen: AtomicU64::new(0),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes taken so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Notes that a client is at work.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.seen.store(now, Ordering::Relaxed);
    }

    pub(crate) fn idle(&self) -> Duration {
        self.epoch.elapsed().saturating_sub(Duration::from_millis(self.seen.load(Ordering::Relaxed)))
    }

    /// Takes the next bytes. On an error the upload is as it was before the piece that failed. Blocks.
    pub(crate) fn append(&self, pieces: &[Bytes]) -> io::Result<()> {
        let mut progress = self.progress();
        for piece in pieces {
            progress.file.write_all_at(piece, progress.offset)?;
            progress.hash.update(piece);
            progress.offset += piece.len() as u64;
        }
        self.offset.store(progress.offset, Ordering::Relaxed);
        let ready = progress.offset.saturating_sub(progress.started);
        if ready >= WRITEBACK {
            // A help for the sync to come, which is what counts.
            let _ = sys::writeback::start(progress.file.as_fd(), progress.started, ready);
            progress.started = progress.offset;
        }
        if progress.offset - progress.kept >= CHECKPOINT {
            self.keep_progress(&mut progress)?;
        }
        Ok(())
    }

    pub(crate) fn mark(&self) -> Mark {
        let progress = self.progress();
        Mark { hash: progress.hash.clone(), offset: progress.offset }
    }

    /// Forgets what came after `mark`. Blocks.
    pub(crate) fn go_back(&self, mark: Mark) -> io::Result<()> {
        let mut progress = self.progress();
        progress.hash = mark.hash;
        progress.offset = mark.offset;
        self.offset.store(progress.offset, Ordering::Relaxed);
        self.keep_progress(&mut progress)
    }

    /// Keeps the state for a restarted server. Blocks.
    pub(crate) fn keep(&self) -> io::Result<()> {
        self.keep_progress(&mut self.progress())
    }

    fn keep_progress(&self, progress: &mut Progress) -> io::Result<()> {
        let kept = Kept {
            repository: self.repository.as_str().to_owned(),
            offset: progress.offset,
            hash: faster_hex::hex_string(&progress.hash.serialize()),
            boot: boot_id().unwrap_or_default(),
        };
        let text = serde_json::to_string(&kept).map_err(io::Error::other)?;
        // A killed server leaves the one state or the other; no sync, since it is of no use to another boot.
        let _ = self.dir.unlink("state.new".as_ref());
        let file = File::from(self.dir.create_file("state.new".as_ref(), FILE_MODE)?);
        file.write_all_at(text.as_bytes(), 0)?;
        self.dir.rename("state.new".as_ref(), &self.dir, "state".as_ref())?;
        progress.kept = progress.offset;
        Ok(())
    }

    /// The file, to be read at offsets below that of the upload, also once it has become a blob.
    pub(crate) fn reader(&self) -> io::Result<File> {
        self.progress().file.try_clone()
    }

    /// Digest of the bytes taken.
    pub(crate) fn digest(&self) -> Digest {
        Digest::sha256(self.progress().hash.clone().finalize().into())
    }

    /// Has the bytes on disk, without write permission, ready to be given their name. Blocks.
    pub(super) fn seal(&self) -> io::Result<()> {
        let progress = self.progress();
        if progress.file.metadata()?.len() != progress.offset {
            progress.file.set_len(progress.offset)?;
        }
        rustix::fs::fchmod(&progress.file, rustix::fs::Mode::RUSR)?;
        progress.file.sync_all()
    }

    /// Gives the file its name among the blobs.
    pub(super) fn publish(&self, to: &Dir, name: &std::ffi::OsStr) -> io::Result<()> {
        self.dir.rename("data".as_ref(), to, name)
    }
}

fn boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_digest_is_that_of_all_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let id = UploadId::random().unwrap();
        std::fs::create_dir_all(dir.path().join("uploads").join(id.as_str())).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let own = || root.open_dir(std::path::Path::new("uploads").join(id.as_str())).unwrap();
        let bytes = Bytes::from(vec![7; 1_000_003]);
        let first = Session::begin(id.clone(), RepositoryName::parse("a").unwrap(), own()).unwrap();
        first.append(&[bytes.slice(..333_333)]).unwrap();
        first.keep().unwrap();
        // Not kept: bytes that arrived after the last state was written.
        first.append(&[bytes.slice(333_333..500_000)]).unwrap();
        drop(first);
        let second = Session::resume(id.clone(), &root).unwrap();
        assert_eq!(second.offset(), 333_333);
        let mark = second.mark();
        second.append(&[Bytes::from_static(b"wrong")]).unwrap();
        second.go_back(mark).unwrap();
        second.append(&[bytes.slice(333_333..)]).unwrap();
        assert_eq!(second.digest(), Digest::sha256(Sha256::digest(&bytes).into()));
        // Another boot's state is worth nothing.
        let state = dir.path().join("uploads").join(id.as_str()).join("state");
        let text = std::fs::read_to_string(&state).unwrap().replace(&boot_id().unwrap(), "other");
        std::fs::write(&state, text).unwrap();
        assert!(Session::resume(id, &root).is_none());
    }
}
