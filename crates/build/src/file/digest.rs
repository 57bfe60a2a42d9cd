//! The digest of what a copy would take. Two trees with the same digest of a selection are copied to the same result, but
//! for times.
//!
//! It is SHA-256 over a sequence of records in the order of the walk: a directory, its members and its end, each with all
//! that is copied of it. Numbers have a fixed size and everything else its length before it, so that no two sequences have
//! the same bytes.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use sys::path::Root;

use super::error::FileError;
use super::patterns::Patterns;
use super::source::{self, Selection};
use super::walk::{self, Entry, Visitor};

/// Most bytes of the paths of a list; there is none of more.
const MAX_LISTED: usize = 64 << 20;

/// Digests of files' contents that somebody knows.
pub trait ContentDigests {
    /// SHA-256 of a file's content, if it is known for the file as it is. The path is relative to the tree.
    fn known(&self, path: &Path, stat: &Stat) -> Option<[u8; 32]>;
    /// A file was read, and this is the SHA-256 of its content.
    fn learnt(&self, path: &Path, stat: &Stat, digest: [u8; 32]);
}

/// Nothing is known, and nothing remembered.
impl ContentDigests for () {
    fn known(&self, _: &Path, _: &Stat) -> Option<[u8; 32]> {
        None
    }

    fn learnt(&self, _: &Path, _: &Stat, _: [u8; 32]) {}
}

impl<T: ContentDigests + ?Sized> ContentDigests for &T {
    fn known(&self, path: &Path, stat: &Stat) -> Option<[u8; 32]> {
        (**self).known(path, stat)
    }

    fn learnt(&self, path: &Path, stat: &Stat, digest: [u8; 32]) {
        (**self).learnt(path, stat, digest);
    }
}

/// Digest of what a copy with this selection takes.
///
/// # Errors
/// [`FileError::NotFound`] for a path that does not exist, or a pattern that must match something and does not; those of
/// reading.
pub fn digest(from: &Root, selection: &Selection, contents: &impl ContentDigests) -> Result<[u8; 32], FileError> {
    digest_listed(from, selection, contents, &mut Vec::new())
}

/// The same, with a list of what was taken: the path of each, and a number that is another one when it is. There is none of
/// very much.
///
/// # Errors
/// As [`digest`].
pub fn digest_listed(
    from: &Root,
    selection: &Selection,
    contents: &impl ContentDigests,
    listed: &mut Vec<(Box<[u8]>, u64)>,
) -> Result<[u8; 32], FileError> {
    let patterns = Patterns::new(&selection.include_patterns, &selection.exclude_patterns)?;
    let asked = source::clean(&selection.src).display().to_string();
    let missing = |e: FileError| match e {
        FileError::Io { source, .. } if matches!(Errno::from_io_error(&source), Some(Errno::NOENT | Errno::NOTDIR)) => {
            FileError::NotFound(asked.clone())
        }
        other => other,
    };
    let matches = source::matches(from, &selection.src, selection.allow_wildcard, selection.follow_symlink);
    let found = matches.map_err(missing)?;
    if found.is_empty() && !selection.allow_empty_wildcard {
        return Err(FileError::NotFound(asked));
    }
    let (links, room) = (HashMap::new(), Some(MAX_LISTED));
    let mut hasher = Hasher { hash: Sha256::new(), contents, links, count: 0, listed, room };
    hasher.hash.update(b"dhow file selection 1\0");
    for path in found {
        let found = source::locate(from, &path, selection.follow_symlink).map_err(missing)?;
        hasher.hash.update(b"P");
        // The name that it gets in a directory; contents of a directory have none.
        let named = !(found.is_directory() && selection.dir_copy_contents);
        hasher.bytes(found.name.as_ref().filter(|_| named).map_or(b"", |name| name.as_bytes()));
        hasher.links.clear();
        walk::walk(&found, &patterns, &mut hasher)?;
    }
    Ok(hasher.hash.finalize().into())
}

struct Hasher<'a, C> {
    hash: Sha256,
    contents: &'a C,
    /// The number of the first name of each file with several.
    links: HashMap<(u64, u64), u64>,
    /// Members so far.
    count: u64,
    /// What was taken.
    listed: &'a mut Vec<(Box<[u8]>, u64)>,
    /// How much more of paths the list takes; none once it was too much.
    room: Option<usize>,
}

impl<C: ContentDigests> Hasher<'_, C> {
    fn number(&mut self, number: u64) {
        self.hash.update(number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hash.update(bytes);
    }

    /// What every kind of file has.
    fn common(&mut self, kind: u8, entry: &Entry<'_>) {
        self.hash.update([kind]);
        self.bytes(entry.name.as_bytes());
        for number in [entry.stat.st_mode & 0o7777, entry.stat.st_uid, entry.stat.st_gid] {
            self.number(number.into());
        }
        self.number(entry.attributes.len() as u64);
        for (key, value) in entry.attributes {
            self.bytes(key.as_bytes());
            self.bytes(value);
        }
    }

    /// Notes a member, and what of it a copy takes.
    fn list(&mut self, entry: &Entry<'_>, content: &[u8]) {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let Some(room) = self.room else { return };
        let path: Box<[u8]> = entry.path().as_os_str().as_bytes().into();
        self.room = room.checked_sub(path.len());
        if self.room.is_none() {
            *self.listed = Vec::new();
            return;
        }
        let mut hasher = DefaultHasher::new();
        let stat = entry.stat;
        (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev, entry.attributes, content).hash(&mut hasher);
        self.listed.push((path, hasher.finish()));
    }

    fn content(&mut self, entry: &Entry<'_>, handle: &OwnedFd) -> Result<[u8; 32], FileError> {
        let path = entry.path();
        let relative = path.strip_prefix("/").unwrap_or(&path);
        if let Some(known) = self.contents.known(relative, entry.stat) {
            return Ok(known);
        }
        let fail = || FileError::io("read", &path);
        let mut file = std::fs::File::from(sys::path::reopen_file(handle).map_err(fail())?);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hash.update(&buffer[..read]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(fail()(e)),
            }
        }
        let digest = hash.finalize().into();
        self.contents.learnt(relative, entry.stat, digest);
        Ok(digest)
    }
}

impl<C: ContentDigests> Visitor for Hasher<'_, C> {
    fn directory(&mut self, entry: &Entry<'_>, direct: bool) -> Result<(), FileError> {
        self.common(b'D', entry);
        self.list(entry, &[]);
        self.hash.update([u8::from(direct)]);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), FileError> {
        self.hash.update(b"E");
        Ok(())
    }

    fn member(&mut self, entry: &Entry<'_>, handle: &OwnedFd) -> Result<(), FileError> {
        self.count += 1;
        let kind = entry.kind();
        if kind == FileType::RegularFile && entry.stat.st_nlink > 1 {
            let first = *self.links.entry((entry.stat.st_dev, entry.stat.st_ino)).or_insert(self.count);
            if first != self.count {
                self.common(b'H', entry);
                self.number(first);
                self.list(entry, b"another name");
                return Ok(());
            }
        }
        match kind {
            FileType::RegularFile => {
                self.common(b'F', entry);
                self.number(entry.stat.st_size.cast_unsigned());
                let content = self.content(entry, handle)?;
                self.hash.update(content);
                self.list(entry, &content);
            }
            FileType::Symlink => {
                self.common(b'L', entry);
                let target = sys::path::read_link(handle).map_err(FileError::io("readlink", entry.path()))?;
                self.bytes(target.as_bytes());
                self.list(entry, target.as_bytes());
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                self.common(if kind == FileType::BlockDevice { b'B' } else { b'C' }, entry);
                self.number(entry.stat.st_rdev);
            }
            _ => self.common(b'I', entry),
        }
        Ok(())
    }
}
