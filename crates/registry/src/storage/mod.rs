//! The registry's directory: content-addressed blobs, and per repository what it links to.
//!
//! ```text
//! version, lock
//! blobs/sha256/0f/0f3c…       every blob and manifest once, mode 0400
//! repositories/NAME/_blobs/0f3c…        empty: the repository has this blob
//! repositories/NAME/_manifests/0f3c…    the media type it was pushed with
//! repositories/NAME/_tags/TAG           a digest
//! repositories/NAME/_referrers/SUBJECT/0f3c…    the descriptor the referrers list shows
//! uploads/ID/{data,state}     uploads in progress; uploads/tmp-…  files about to be renamed
//! ```
//!
//! With a bucket (see [`bucket`]) the directory is the mirror of what is there: `blobs` holds empty files of the blobs'
//! sizes, `manifests` those manifests that were read, and `mirror` a token.
//!
//! The invariants: a name appears by rename of a complete, synced file, and whatever was acknowledged has its directory
//! synced too; content is reached through a repository that links to it and in no other way; paths are made of
//! validated names alone and opened by `sys::path`. Everything here blocks; the handlers of `http` call it from the
//! blocking pool.

pub(crate) mod blobs;
pub(crate) mod bucket;
pub(crate) mod collect;
pub(crate) mod content;
pub(crate) mod gate;
mod linking;
pub(crate) mod manifests;
pub(crate) mod repositories;
pub(crate) mod session;
pub(crate) mod uploads;
pub(crate) mod usage;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags};
use sys::path::{Dir, Root};
use types::Digest;

use self::bucket::Bucket;
use self::bucket::address::BucketAddress;
use crate::config::Quota;
use crate::error::StartError;
use crate::name::RepositoryName;

/// The layout this code reads and writes. Of a mirror it is followed by the bucket's address.
const LAYOUT: &str = "1";
/// Directories are the server's alone: what a repository holds may be secret.
const DIR_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Repositories remembered as made and synced; forgetting them costs a few calls.
const DURABLE_MAX: usize = 1 << 16;
/// What a repository consists of.
pub(crate) const PARTS: [&str; 4] = ["_blobs", "_manifests", "_tags", "_referrers"];

/// An open registry directory.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) root: Root,
    /// `uploads`.
    pub(crate) staging: Dir,
    pub(crate) gate: gate::Gate,
    pub(crate) usage: usage::Usage,
    /// Where content is, unless it is in the directory.
    pub(crate) bucket: Option<Arc<Bucket>>,
    /// Repositories whose directories are known to be on disk.
    durable: Mutex<HashSet<RepositoryName>>,
    _lock: File,
}

/// A file in `uploads` that goes away unless it is renamed.
struct Temporary<'a> {
    dir: &'a Dir,
    name: OsString,
    armed: bool,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.armed {
            // What stays behind is removed when the registry is next started.
            let _ = self.dir.unlink(&self.name);
        }
    }
}

impl Storage {
    /// Opens the registry at `path`, making it when it is missing or empty; with a bucket, as its mirror. Blocks.
    ///
    /// # Errors
    /// See [`StartError`]; a directory that holds other things is refused.
    pub(crate) fn open(
        path: &Path,
        quotas: &[Quota],
        address: Option<&BucketAddress>,
        read_only: bool,
    ) -> Result<Self, StartError> {
        let shown = || path.display().to_string();
        let file = |action, hint| move |source| StartError::File { action, path: shown(), source, hint };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(file("create", "choose another directory with --root"))?;
        let root = Root::open(path).map_err(file("open", "give a directory with --root"))?;
        let prepare = || file("prepare", "the directory must be writable for the registry");
        let top = root.dir().map_err(prepare())?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let names = top.list().map_err(prepare())?;
        let known = ["version", "lock", "blobs", "repositories", "uploads", "manifests", "mirror"];
        // `lost+found`: the root of a file system of its own.
        if let Some(foreign) =
            names.iter().find(|n| n.name != "lost+found" && !known.iter().any(|name| n.name == **name))
        {
            let source = io::Error::other(format!("it holds {:?}, which is not a registry's", foreign.name));
            return Err(file("use", "choose an empty or a new directory with --root")(source));
        }
        let lock = File::from(root.open_at("lock", flags, FILE_MODE).map_err(prepare())?);
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StartError::InUse(shown()));
        }
        let layout = address.map_or(LAYOUT.to_owned(), |address| format!("{LAYOUT} {address}"));
        let mut fresh = false;
        match read_small(&top, OsStr::new("version")) {
            Ok(Some(text)) if text.trim_end() == layout => {}
            Ok(Some(text)) => return Err(other_layout(shown(), text.trim_end())),
            Ok(None) => {
                make_layout(&root, &top).map_err(prepare())?;
                fresh = true;
            }
            Err(e) => return Err(prepare()(e)),
        }
        let staging = root.open_dir("uploads").map_err(prepare())?;
        let unusable = |address: &BucketAddress| {
            let address = address.to_string();
            move |source| StartError::Bucket { address, source }
        };
        let bucket = match address {
            Some(address) => Some((address, Arc::new(Bucket::new(address).map_err(unusable(address))?))),
            None => None,
        };
        let (gate, usage) = (gate::Gate::default(), usage::Usage::new(quotas, bucket.is_none()));
        let served = bucket.as_ref().map(|(_, bucket)| Arc::clone(bucket));
        let storage = Self { root, staging, gate, usage, bucket: served, durable: Mutex::default(), _lock: lock };
        if let Some((address, bucket)) = bucket {
            bucket.attach(&storage, read_only).map_err(unusable(address))?;
        }
        if fresh {
            // Last: a directory with a version is complete, and one that found no bucket is nobody's yet.
            write_version(&top, &layout).map_err(prepare())?;
        }
        if storage.usage.counts() {
            storage.count().map_err(file("count what is in", "the directory must be readable for the registry"))?;
        }
        Ok(storage)
    }

    /// Counts everything that is stored.
    fn count(&self) -> io::Result<()> {
        for first in 0..=255_u8 {
            let dir = self.root.open_dir(Path::new("blobs/sha256").join(format!("{first:02x}")))?;
            for digest in digests(&dir)? {
                self.usage.found_content(&digest, self.content_size(&digest)?.unwrap_or(0));
            }
        }
        for repository in self.repositories()? {
            for part in ["_blobs", "_manifests"] {
                let Some(dir) = self.part(&repository, part)? else { continue };
                for digest in digests(&dir)? {
                    self.usage.found_link(&repository, &digest, self.content_size(&digest)?.unwrap_or(0));
                }
            }
        }
        Ok(())
    }

    /// Leaves everything to the next server. Blocks.
    pub(crate) fn close(&self) {
        let left = self.bucket.as_ref().map_or(Ok(()), |bucket| bucket.detach(self));
        if let Err(e) = left {
            tracing::error!("the next server will have to list the bucket anew: {e}");
        }
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<RepositoryName>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a repository's directories and has them on disk before anything in them is acknowledged. The caller
    /// holds the gate, so that they are not removed meanwhile.
    pub(crate) fn ensure_repository(&self, name: &RepositoryName) -> io::Result<()> {
        let mut durable = self.durable();
        if durable.contains(name) {
            return Ok(());
        }
        let mut dir = self.root.open_dir("repositories")?;
        for part in name.as_str().split('/') {
            dir = enter(&dir, OsStr::new(part))?;
        }
        for part in PARTS {
            make_dir(&dir, OsStr::new(part))?;
        }
        sync(&dir)?;
        if durable.len() >= DURABLE_MAX {
            durable.clear();
        }
        durable.insert(name.clone());
        Ok(())
    }

    pub(crate) fn forget_durable(&self) {
        self.durable().clear();
    }

    /// A part of a repository, nothing when there is no such repository.
    pub(crate) fn part(&self, name: &RepositoryName, part: &str) -> io::Result<Option<Dir>> {
        found(self.root.open_dir(name.path(part)))
    }

    /// Gives `dir` a file with this content, replacing what is there at once, and returns when it is on disk.
    pub(crate) fn write_atomic(&self, dir: &Dir, name: &OsStr, bytes: &[u8], mode: Mode) -> io::Result<()> {
        let mut temporary = Temporary { dir: &self.staging, name: temporary_name()?, armed: false };
        let mut file = File::from(self.staging.create_file(&temporary.name, mode)?);
        temporary.armed = true;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.staging.rename(&temporary.name, dir, name)?;
        temporary.armed = false;
        sync(dir)
    }

    /// The directory a blob's file is in.
    pub(crate) fn blob_dir(&self, digest: &Digest) -> io::Result<Dir> {
        self.root.open_dir(Path::new("blobs/sha256").join(&digest.hex()[..2]))
    }
}

/// What a directory is that is not the one asked for.
fn other_layout(path: String, found: &str) -> StartError {
    match found.split_once(' ') {
        Some((LAYOUT, bucket)) => {
            StartError::Elsewhere { path, kept: format!("in {bucket}"), give: format!("--storage {bucket}") }
        }
        None if found == LAYOUT => {
            StartError::Elsewhere { path, kept: "in the directory itself".to_owned(), give: "no --storage".to_owned() }
        }
        _ => StartError::Layout { path, found: found.chars().take(32).collect() },
    }
}

/// Makes the directories that blobs are spread over.
pub(crate) fn make_shards(root: &Root) -> io::Result<()> {
    let blobs = root.open_dir("blobs/sha256")?;
    for first in 0..=255_u8 {
        make_dir(&blobs, OsStr::new(&format!("{first:02x}")))?;
    }
    sync(&blobs)
}

fn make_layout(root: &Root, top: &Dir) -> io::Result<()> {
    for path in ["repositories", "uploads", "blobs/sha256"] {
        root.create_dir_all(path, DIR_MODE)?;
    }
    make_shards(root)?;
    sync(&root.open_dir("blobs")?)?;
    sync(top)
}

fn write_version(top: &Dir, layout: &str) -> io::Result<()> {
    let mut file = File::from(top.create_file(OsStr::new("version"), FILE_MODE)?);
    file.write_all(format!("{layout}\n").as_bytes())?;
    file.sync_all()?;
    sync(top)
}

fn temporary_name() -> io::Result<OsString> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(OsString::from(format!("tmp-{}", faster_hex::hex_string(&bytes))))
}

fn make_dir(dir: &Dir, name: &OsStr) -> io::Result<()> {
    match dir.mkdir(name, DIR_MODE) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Makes `name` if need be, has it on disk, and opens it.
fn enter(dir: &Dir, name: &OsStr) -> io::Result<Dir> {
    make_dir(dir, name)?;
    sync(dir)?;
    dir.open_dir(name)
}

/// Has a directory's names on disk.
pub(crate) fn sync(dir: &Dir) -> io::Result<()> {
    Ok(rustix::fs::fsync(dir.as_fd())?)
}

/// `None` for what does not exist.
pub(crate) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A file of ours of at most 64 KiB, `None` when it does not exist.
pub(crate) fn read_small(dir: &Dir, name: &OsStr) -> io::Result<Option<String>> {
    let Some(fd) = found(dir.open_file(name))? else { return Ok(None) };
    let mut text = String::new();
    File::from(fd).take(1 << 16).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// The name of a blob's file and of the links to it.
pub(crate) fn file_name(digest: &Digest) -> OsString {
    OsString::from(digest.hex())
}

/// The digest a file is named after.
pub(crate) fn digest_of(name: &OsStr) -> Option<Digest> {
    format!("sha256:{}", name.to_str()?).parse().ok()
}

/// The digests that the names of a directory are, unsorted.
pub(crate) fn digests(dir: &Dir) -> io::Result<Vec<Digest>> {
    Ok(dir.list()?.iter().filter_map(|entry| digest_of(&entry.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_a_directory_and_no_foreign_ones() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        let open = |root: &Path| Storage::open(root, &[], None, false);
        let first = open(&root).unwrap();
        assert!(matches!(open(&root), Err(StartError::InUse(_))));
        drop(first);
        std::fs::write(root.join("version"), "2\n").unwrap();
        assert!(matches!(open(&root), Err(StartError::Layout { .. })));
        assert!(matches!(open(dir.path()), Err(StartError::File { .. })), "a directory with other things");
        std::fs::write(root.join("version"), "1 s3://b/p\n").unwrap();
        let error = open(&root).unwrap_err().to_string();
        assert!(error.contains("start it with --storage s3://b/p"), "{error}");
        std::fs::write(root.join("version"), "1\n").unwrap();
        let address = BucketAddress::parse("s3://b/p").unwrap();
        let error = Storage::open(&root, &[], Some(&address), false).unwrap_err().to_string();
        assert!(error.contains("start it with no --storage"), "{error}");
    }
}
