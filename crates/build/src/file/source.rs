//! What a copy is about: paths of the source tree, wildcards looked up, symlinks followed inside the tree.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sys::path::{Dir, Root};

use super::error::FileError;
use super::glob::{Glob, has_wildcards};

/// What is taken from a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Path in the tree, with wildcards when they are allowed.
    pub src: String,
    /// `*`, `?` and `[…]` in `src` are wildcards.
    pub allow_wildcard: bool,
    /// Nothing that matches is no error.
    pub allow_empty_wildcard: bool,
    /// A symlink at the end of the path is followed; those before it always are.
    pub follow_symlink: bool,
    /// Of a directory its contents are taken, not the directory.
    pub dir_copy_contents: bool,
    /// Only these members of directories, by their path from the directory.
    pub include_patterns: Vec<String>,
    /// All but these.
    pub exclude_patterns: Vec<String>,
}

/// Something that was found.
pub(super) struct Found {
    /// Where it is: an absolute path of the tree without symlinks.
    pub(super) path: PathBuf,
    /// The last name of what was asked for; nothing for the tree itself.
    pub(super) name: Option<OsString>,
    /// It itself (`O_PATH`).
    pub(super) handle: OwnedFd,
    pub(super) stat: Stat,
}

impl Found {
    pub(super) fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }
}

/// The path as it is before anything is resolved: absolute, without `.`; `..` takes the name before it away.
pub(super) fn clean(path: impl AsRef<Path>) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.as_ref().components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::Normal(name) => out.push(name),
            _ => {}
        }
    }
    out
}

/// Paths a selection names, sorted; without wildcards the one, whether it exists or not.
pub(super) fn matches(root: &Root, src: &str, wildcards: bool, follow: bool) -> Result<Vec<PathBuf>, FileError> {
    let path = clean(src);
    let text = path.to_string_lossy();
    let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
    let Some(plain) = names.iter().position(|name| has_wildcards(name)).filter(|_| wildcards) else {
        return Ok(vec![path]);
    };
    let base = locate(root, &Path::new("/").join(names[..plain].iter().collect::<PathBuf>()), follow)?;
    if !base.is_directory() {
        return Ok(Vec::new());
    }
    let mut found = vec![base.path];
    for (index, name) in names.iter().enumerate().skip(plain) {
        let Some(glob) = Glob::parse(name) else { return Ok(Vec::new()) };
        let last = index + 1 == names.len();
        let mut next = Vec::new();
        for path in found {
            let Some(dir) = directory(root, &path)? else { continue };
            let mut listed = dir.list().map_err(FileError::io("open", &path))?;
            listed.retain(|entry| glob.matches(entry.name.as_encoded_bytes()));
            listed.retain(|entry| last || matches!(entry.file_type, FileType::Directory | FileType::Unknown));
            listed.sort_by(|a, b| a.name.cmp(&b.name));
            next.extend(listed.into_iter().map(|entry| path.join(entry.name)));
        }
        found = next;
    }
    Ok(found)
}

/// Opens a directory that was seen; nothing when it is none, or a symlink.
fn directory(root: &Root, path: &Path) -> Result<Option<Dir>, FileError> {
    let opened = match path.file_name() {
        None => root.dir(),
        Some(_) => root.parent(path).and_then(|(parent, name)| parent.open_dir(&name)),
    };
    match opened {
        Ok(dir) => Ok(Some(dir)),
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOTDIR | Errno::LOOP | Errno::NOENT)) => Ok(None),
        Err(e) => Err(FileError::io("open", path)(e)),
    }
}

/// Where a path leads inside the tree; its last name is kept as it is unless it is to be followed.
pub(super) fn resolve(root: &Root, path: &Path, follow: bool) -> Result<PathBuf, FileError> {
    let path = clean(path);
    let fail = FileError::io("lstat", &path);
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !follow => Ok(root.canonicalize(parent).map_err(fail)?.join(name)),
        _ => root.canonicalize(&path).map_err(fail),
    }
}

/// Finds one path.
pub(super) fn locate(root: &Root, path: &Path, follow: bool) -> Result<Found, FileError> {
    let asked = clean(path);
    let found = resolve(root, &asked, follow)?;
    let handle = match found.file_name() {
        None => root.open_at("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()),
        Some(_) => root.parent(&found).and_then(|(parent, name)| parent.open_handle(&name)),
    };
    let handle = handle.map_err(FileError::io("lstat", &found))?;
    let stat = rustix::fs::fstat(&handle).map_err(|e| FileError::io("lstat", &found)(e.into()))?;
    Ok(Found { path: found, name: asked.file_name().map(ToOwned::to_owned), handle, stat })
}
