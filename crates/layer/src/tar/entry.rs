//! One member of an archive.
//!
//! A decoded [`Entry`] has passed the checks of [`Entry::validate`]: its path has no `..` and no
//! over-long component, its ids fit `u32`, its size is within the limits.

use super::{Error, Limits};

/// Type of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Regular file with `size` bytes of data.
    File,
    /// Another name of an earlier member, named by `link`.
    HardLink,
    /// Symbolic link with the text `link`.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Directory.
    Directory,
    /// Named pipe.
    Fifo,
}

/// Modification time since the epoch; `nanos` counts forward from `secs` and is below 10⁹.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mtime {
    /// Whole seconds, negative before 1970.
    pub secs: i64,
    /// Nanoseconds after `secs`.
    pub nanos: u32,
}

impl Mtime {
    /// The time clamped to what file systems keep: 1970 to the year 2446 (ext4's range).
    #[must_use]
    pub fn clamped(self) -> Self {
        const LAST: i64 = 0x3_7fff_ffff;
        match self.secs {
            ..0 => Self::default(),
            secs if secs > LAST => Self { secs: LAST, nanos: 0 },
            _ => self,
        }
    }
}

/// One member: its metadata; the data is handed out separately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path as written in the archive.
    pub path: Vec<u8>,
    /// Type.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of the file, holes included; 0 for everything but a regular file.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
    /// Target of a symlink or hard link.
    pub link: Vec<u8>,
    /// Device major number.
    pub major: u32,
    /// Device minor number.
    pub minor: u32,
    /// Extended attributes in the order of the archive, names without the `SCHILY.xattr.` prefix.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Data regions (offset, length) of a sparse file in rising order; `None` when the data is whole.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// A member with nothing but a path, a type and permission bits.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Mtime::default(),
            link: Vec::new(),
            major: 0,
            minor: 0,
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    /// The path's components without empty ones and `.`; an empty list is the root of the archive.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        components(&self.path)
    }

    /// Components of the link target, read as a path of the archive (hard links).
    pub fn link_components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        components(&self.link)
    }

    /// The path as text for messages.
    #[must_use]
    pub fn display_path(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }

    pub(super) fn validate(&self, limits: &Limits) -> Result<(), Error> {
        check_path(&self.path, limits)?;
        match self.kind {
            Kind::HardLink => {
                if self.link_components().next().is_none() {
                    return Err(path_error(&self.path, "a hard link without a target"));
                }
                check_path(&self.link, limits)?;
            }
            Kind::Symlink => {
                if self.link.is_empty() || self.link.len() >= limits.path_bytes || self.link.contains(&0) {
                    return Err(path_error(&self.path, "a symbolic link whose target is empty, too long or has a NUL"));
                }
            }
            Kind::CharDevice | Kind::BlockDevice => {
                // dev_t of Linux: 12 bits major, 20 bits minor.
                if self.major >= 1 << 12 || self.minor >= 1 << 20 {
                    return Err(path_error(&self.path, "device number out of range"));
                }
            }
            Kind::File | Kind::Directory | Kind::Fifo => {}
        }
        if self.kind != Kind::Directory && self.components().next().is_none() {
            return Err(path_error(&self.path, "only a directory can be the root of the archive"));
        }
        Ok(())
    }
}

pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

pub(super) fn path_error(path: &[u8], reason: &'static str) -> Error {
    let shown = &path[..path.len().min(256)];
    Error::Path { path: String::from_utf8_lossy(shown).into_owned(), reason }
}

fn check_path(path: &[u8], limits: &Limits) -> Result<(), Error> {
    if path.is_empty() {
        return Err(path_error(path, "empty"));
    }
    if path.len() >= limits.path_bytes {
        return Err(path_error(path, "longer than a path may be"));
    }
    if path.contains(&0) {
        return Err(path_error(path, "has a NUL"));
    }
    for part in components(path) {
        if part == b".." {
            return Err(path_error(path, "leads out of the archive with \"..\""));
        }
        if part.len() > limits.name_bytes {
            return Err(path_error(path, "has a component longer than a file name may be"));
        }
    }
    Ok(())
}
