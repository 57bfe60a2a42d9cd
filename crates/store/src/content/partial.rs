//! Blobs that came in part: `content/partial/DIGEST`, kept when their source breaks off or the engine dies,
//! so that the next try fetches only the rest.
//!
//! Nothing is believed of them: the bytes pass through the digest like any others, and a blob that turns out
//! to be another is removed. One writer at a time has a partial blob.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};
use sys::path::{Dir, Root};
use types::Digest;

use super::{BlobWriter, blobs};
use crate::error::{Error, Result};

/// How long an unfinished blob is kept for another try.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// The directory of unfinished blobs.
#[derive(Debug)]
pub(crate) struct Partials {
    dir: Arc<Dir>,
    claimed: Arc<Mutex<HashSet<Digest>>>,
}

/// The right to write one unfinished blob, given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    digest: Digest,
    claimed: Arc<Mutex<HashSet<Digest>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

/// A blob to go on with: its writer and what is there of it.
#[derive(Debug)]
pub struct Partial {
    pub(super) writer: BlobWriter,
    pub(super) prefix: io::Take<File>,
    offset: u64,
}

impl Partial {
    /// Bytes that are there: what is to come begins behind them.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl Partials {
    /// Opens the directory; blobs nobody has gone on with for a week are removed.
    pub(crate) fn open(root: &Root) -> Result<Self> {
        let fail = || Error::io("cannot open the directory of unfinished blobs");
        let dir = Arc::new(root.create_dir_all("content/partial", Mode::RWXU).map_err(fail())?);
        let partials = Self { dir, claimed: Arc::default() };
        partials.sweep(KEPT_FOR)?;
        Ok(partials)
    }

    /// What is there of a blob of `size` bytes; `None` when somebody is writing it.
    pub(crate) fn claim(&self, digest: &Digest, size: u64) -> Result<Option<Partial>> {
        if !self.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest) {
            return Ok(None);
        }
        let claim = Claim { digest: *digest, claimed: Arc::clone(&self.claimed) };
        let fail = || Error::io(format!("cannot go on with blob {digest}"));
        let name = blobs::name(digest);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(self.dir.as_fd(), &name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(opened.map_err(|e| fail()(e.into()))?);
        let mut offset = file.metadata().map_err(fail())?.len();
        if offset > size {
            file.set_len(0).map_err(fail())?;
            offset = 0;
        }
        file.seek(SeekFrom::Start(offset)).map_err(fail())?;
        // A description of its own: reading must not move where is written.
        let prefix = File::from(self.dir.open_file(&name).map_err(fail())?).take(offset);
        let writer = BlobWriter::continued(&self.dir, name, file, offset, claim);
        Ok(Some(Partial { writer, prefix, offset }))
    }

    /// Removes unfinished blobs that nobody writes and nobody has written to for `idle`; gives their bytes.
    pub(crate) fn sweep(&self, idle: Duration) -> Result<u64> {
        let fail = || Error::io("cannot remove an unfinished blob");
        let mut freed = 0;
        for entry in self.dir.list().map_err(fail())? {
            let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
            if blobs::digest_of(&entry.name).is_some_and(|digest| claimed.contains(&digest)) {
                continue;
            }
            // Under the lock: nobody can claim it meanwhile.
            if let Some(bytes) = self.idle(&entry.name, idle).map_err(fail())? {
                self.dir.remove_tree(&entry.name).map_err(fail())?;
                freed += bytes;
            }
        }
        Ok(freed)
    }

    /// Bytes of a file nobody has written to for so long.
    fn idle(&self, name: &OsStr, idle: Duration) -> io::Result<Option<u64>> {
        let stat = self.dir.lstat(name)?;
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
        // A clock that went back makes a file of the future, which is nobody's.
        let age = SystemTime::now().duration_since(written).unwrap_or(Duration::MAX);
        Ok((age >= idle).then(|| u64::try_from(stat.st_size).unwrap_or(0)))
    }
}
