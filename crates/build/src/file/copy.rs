//! Copies what is selected of one tree into another: `COPY` and `ADD`.
//!
//! Directories merge. Anything else replaces what is no directory; on the way to the destination symlinks are followed
//! inside its tree, below it none is.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;
use store::tree::{Attributes, Data, Descent, settle, settle_name};
use sys::path::{Dir, Root};

use super::chmod::ModeChange;
use super::destination::{self, Making};
use super::error::FileError;
use super::patterns::Patterns;
use super::source::{self, Found, Selection};
use super::unpack;
use super::walk::{self, Entry, Visitor};

/// Paths longer than this are no way to a file (`PATH_MAX`).
const PATH_MAX: usize = 4096;

/// A copy.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    /// What is copied.
    pub selection: Selection,
    /// Where it goes: with a slash at the end, or when it is a directory, into that.
    pub dest: String,
    /// Missing directories above the destination are made.
    pub create_dest_path: bool,
    /// Owner of everything; without one the source's, and root for directories on the way.
    pub owner: Option<(u32, u32)>,
    /// Change of everything's mode but symlinks'.
    pub mode: Option<ModeChange>,
    /// Times of everything, in nanoseconds since the epoch; without one the source's.
    pub timestamp: Option<i64>,
    /// Files that are archives are unpacked into the destination.
    pub attempt_unpack: bool,
    /// What is in the way goes, directories with all that is in them.
    pub always_replace_existing_dest_paths: bool,
}

impl Copy {
    /// How directories on the way to the destination are made.
    pub(super) fn making(&self) -> Making {
        Making { mode: 0o755, owner: self.owner.unwrap_or((0, 0)), timestamp: self.timestamp }
    }

    /// The status that what is copied gets.
    fn changed(&self, stat: &Stat) -> Stat {
        let mut stat = *stat;
        if let Some((uid, gid)) = self.owner {
            (stat.st_uid, stat.st_gid) = (uid, gid);
        }
        if let Some(change) = &self.mode {
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            stat.st_mode = stat.st_mode & !0o7777 | change.apply(stat.st_mode, directory);
        }
        if let Some(timestamp) = self.timestamp {
            destination::set_times(&mut stat, timestamp);
        }
        stat
    }
}

/// Carries out a copy.
///
/// # Errors
/// [`FileError`]; what was copied before stays.
pub fn copy(from: &Root, to: &Root, action: &Copy) -> Result<(), FileError> {
    let Selection { src, allow_wildcard, allow_empty_wildcard, follow_symlink, .. } = &action.selection;
    let patterns = Patterns::new(&action.selection.include_patterns, &action.selection.exclude_patterns)?;
    if !action.create_dest_path {
        let path = destination::resolve(to, &action.dest)?;
        let above = path.parent().unwrap_or(Path::new("/"));
        to.lstat(above).map_err(FileError::io("failed to stat destination: lstat", above))?;
    }
    let found = source::matches(from, src, *allow_wildcard, *follow_symlink)?;
    if found.is_empty() && !allow_empty_wildcard {
        return Err(FileError::NoMatch(source::clean(src).display().to_string()));
    }
    let mut data = Data::default();
    for path in found {
        if action.attempt_unpack && unpack::unpack(from, &path, to, action)? {
            continue;
        }
        one(from, &path, to, action, &patterns, &mut data)?;
    }
    Ok(())
}

/// Copies one path.
fn one(
    from: &Root,
    path: &Path,
    to: &Root,
    action: &Copy,
    patterns: &Patterns,
    data: &mut Data,
) -> Result<(), FileError> {
    let dest = &action.dest;
    let found = source::locate(from, path, action.selection.follow_symlink)?;
    let clean = source::clean(dest);
    let whole = dest.ends_with('/') || dest.ends_with("/.");
    let ensured = destination::resolve(to, if whole { &clean } else { clean.parent().unwrap_or(&clean) })?;
    let (_, first) = destination::directories(to, &ensured, action.making())?;
    let mut target = destination::resolve(to, dest)?;
    let present = destination::status(to, &target)?;
    let contents = action.selection.dir_copy_contents && found.is_directory();
    let directory = present.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    if contents && present.is_none() {
        // What holds the contents is no copy of the directory that held them.
        destination::directories(to, &target, action.making())?;
    }
    if (found.is_directory() && !contents && present.is_some()) || (!found.is_directory() && directory) {
        target.extend(&found.name);
    }
    let place = match (target.parent(), target.file_name()) {
        (Some(above), Some(name)) => {
            let (dir, second) = destination::directories(to, above, action.making())?;
            Place::In { dir, name: name.to_owned(), made: second || (first && above == ensured) }
        }
        _ => Place::Tree(to.dir().map_err(FileError::io("open", &target))?),
    };
    let mut copier = Copier { action, data, place, target, dirs: None, top: None, links: HashMap::new() };
    walk::walk(&found, patterns, &mut copier)?;
    copier.finish(&found)
}

/// Where the top of a copy goes.
enum Place {
    /// Into the tree's own directory.
    Tree(Dir),
    /// As a name in a directory, which was perhaps made for it.
    In { dir: Dir, name: OsString, made: bool },
}

/// What a directory gets when everything is in it.
enum Finishing {
    All(Box<Stat>, Attributes),
    /// It was there before: its mode only.
    Mode(u32),
    /// Its times only.
    Times(Box<Stat>),
}

struct Copier<'a> {
    action: &'a Copy,
    data: &'a mut Data,
    place: Place,
    /// Path of the top in the destination.
    target: PathBuf,
    dirs: Option<Descent<Finishing>>,
    /// The top directory, with its device and inode number.
    top: Option<(Root, (u64, u64))>,
    /// First path below the top of each file with several links.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Copier<'_> {
    fn shown(&self, entry: &Entry<'_>) -> PathBuf {
        if entry.below.is_empty() { self.target.clone() } else { self.target.join(walk::path(entry.below)) }
    }

    /// The directory an entry goes into, and its name there; nothing for the tree itself.
    fn into<'b>(&'b mut self, entry: &'b Entry<'_>) -> Option<(&'b Dir, &'b OsStr)> {
        if let Some(dirs) = &mut self.dirs {
            return dirs.top().map(|(dir, _)| (dir, entry.name));
        }
        match &self.place {
            Place::Tree(_) => None,
            Place::In { dir, name, .. } => Some((dir, name)),
        }
    }

    /// The time of the directory that was made for the copy, which the copy itself has changed.
    fn finish(&self, found: &Found) -> Result<(), FileError> {
        if let (Place::In { dir, made: true, .. }, Some(timestamp)) = (&self.place, self.action.timestamp) {
            let set = rustix::fs::futimens(dir, &destination::times(timestamp));
            set.map_err(|e| FileError::io("utimes", &found.path)(e.into()))?;
        }
        Ok(())
    }

    /// Makes or opens the directory for an entry, and says whether it was made.
    fn make(&mut self, entry: &Entry<'_>, direct: bool) -> Result<(Dir, bool), FileError> {
        let shown = self.shown(entry);
        let replace = direct && self.action.always_replace_existing_dest_paths;
        let Some((into, name)) = self.into(entry) else {
            let Place::Tree(dir) = &self.place else { return Err(FileError::NonDirectory(shown)) };
            return Ok((dir.try_clone().map_err(FileError::io("open", shown))?, false));
        };
        let made = match present(into, name).map_err(FileError::io("lstat", &shown))? {
            Some(FileType::Directory) => false,
            Some(_) if replace => {
                into.remove_tree(name).map_err(FileError::io("unlinkat", &shown))?;
                true
            }
            Some(_) => return Err(FileError::NonDirectory(shown)),
            None => true,
        };
        if made {
            into.mkdir(name, Mode::RWXU).map_err(FileError::io("mkdir", &shown))?;
        }
        Ok((into.open_dir(name).map_err(FileError::io("open", &shown))?, made))
    }

    /// Makes room for something that is no directory.
    fn clear(&mut self, entry: &Entry<'_>) -> Result<(), FileError> {
        let shown = self.shown(entry);
        let replace = self.action.always_replace_existing_dest_paths;
        let Some((into, name)) = self.into(entry) else { return Err(FileError::Directory(shown)) };
        match present(into, name).map_err(FileError::io("lstat", &shown))? {
            None => Ok(()),
            Some(FileType::Directory) if !replace => Err(FileError::Directory(shown)),
            Some(FileType::Directory) => into.remove_tree(name).map_err(FileError::io("unlinkat", &shown)),
            Some(_) => into.unlink(name).map_err(FileError::io("remove", &shown)),
        }
    }

    /// Another name of a file that was copied already.
    fn link(&mut self, entry: &Entry<'_>) -> io::Result<bool> {
        let key = (entry.stat.st_dev, entry.stat.st_ino);
        let (Some((top, _)), Some(first)) = (&self.top, self.links.get(&key)) else { return Ok(false) };
        let (parent, last) = top.parent(Path::new("/").join(walk::path(first)))?;
        let Some((into, name)) = self.into(entry) else { return Ok(false) };
        match into.link_from(&parent, &last, name) {
            Ok(()) => Ok(true),
            // More names than the file system allows, or two mounts: a file of its own.
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::MLINK | Errno::XDEV)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn put(&mut self, entry: &Entry<'_>, handle: &OwnedFd) -> io::Result<()> {
        let stat = self.action.changed(entry.stat);
        let kind = entry.kind();
        if kind == FileType::RegularFile {
            if entry.stat.st_nlink > 1 {
                if self.link(entry)? {
                    return Ok(());
                }
                if entry.below.len() < PATH_MAX {
                    self.links.insert((entry.stat.st_dev, entry.stat.st_ino), entry.below.to_vec());
                }
            }
            let Some((into, name)) = self.into(entry) else { return Err(Errno::ISDIR.into()) };
            let file = into.create_file(name, Mode::RUSR | Mode::WUSR)?;
            self.data.copy(&sys::path::reopen_file(handle)?, &file, entry.stat.st_size)?;
            return settle(&file, &stat, entry.attributes);
        }
        let Some((into, name)) = self.into(entry) else { return Err(Errno::ISDIR.into()) };
        if kind == FileType::Symlink {
            into.symlink(&sys::path::read_link(handle)?, name)?;
        } else {
            into.mknod(name, kind, Mode::RUSR | Mode::WUSR, entry.stat.st_rdev)?;
        }
        settle_name(into, name, &stat, entry.attributes)
    }
}

impl Visitor for Copier<'_> {
    fn directory(&mut self, entry: &Entry<'_>, direct: bool) -> Result<(), FileError> {
        let identity = (entry.stat.st_dev, entry.stat.st_ino);
        if self.top.as_ref().is_some_and(|(_, top)| *top == identity) {
            return Err(FileError::Itself(entry.path()));
        }
        let (dir, made) = self.make(entry, direct)?;
        let changed = Box::new(self.action.changed(entry.stat));
        let finishing = match (made, self.top.is_some(), direct) {
            (false, false, _) => Finishing::Times(changed),
            (false, true, false) => Finishing::Mode(entry.stat.st_mode & 0o7777),
            _ => Finishing::All(changed, entry.attributes.clone()),
        };
        let path = entry.path();
        let fail = || FileError::io("open", &path);
        if self.top.is_none() {
            let stat = rustix::fs::fstat(&dir).map_err(|e| fail()(e.into()))?;
            self.top = Some((dir.try_clone().map_err(fail())?.into(), (stat.st_dev, stat.st_ino)));
        }
        match &mut self.dirs {
            Some(dirs) => dirs.push(dir, finishing).map_err(fail()),
            None => {
                self.dirs = Some(Descent::new(dir, finishing).map_err(fail())?);
                Ok(())
            }
        }
    }

    fn leave(&mut self) -> Result<(), FileError> {
        let Some(dirs) = &mut self.dirs else { return Ok(()) };
        let Some((dir, finishing)) = dirs.top() else { return Ok(()) };
        let done = match finishing {
            Finishing::All(stat, attributes) => settle(dir, stat, attributes),
            Finishing::Mode(mode) => rustix::fs::fchmod(dir, Mode::from_raw_mode(*mode)).map_err(Into::into),
            Finishing::Times(stat) => rustix::fs::futimens(dir, &store::tree::times(stat)).map_err(Into::into),
        };
        done.and_then(|()| dirs.pop()).map_err(FileError::io("failed to copy file info below", &self.target))
    }

    fn member(&mut self, entry: &Entry<'_>, handle: &OwnedFd) -> Result<(), FileError> {
        self.clear(entry)?;
        self.put(entry, handle).map_err(|e| FileError::io("failed to copy files: copy", entry.path())(e))
    }
}

fn present(dir: &Dir, name: &OsStr) -> io::Result<Option<FileType>> {
    match dir.lstat(name) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
