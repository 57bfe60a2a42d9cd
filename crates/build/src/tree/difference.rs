//! What one tree has over another that it was not made of: files that are new or differ, with the directories they are in, and
//! whiteouts of what is gone, in the form that overlayfs keeps changes in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use sys::path::{Dir, Root};

use crate::error::{Error, Result};
use crate::file::{self, Copy, Selection};

/// Bytes that are compared at a time.
const PIECE: usize = 64 << 10;

/// Writes into `out`, which is empty, what makes `upper` of `lower`.
///
/// # Errors
/// What cannot be read or written.
pub(crate) fn write(lower: &Root, upper: &Root, out: &Root) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("cannot compare two trees", e);
    // Directories that both have, each after the one it is in.
    let mut waiting = vec![PathBuf::from("/")];
    while let Some(path) = waiting.pop() {
        let (below, above) = (lower.open_dir(&path).map_err(failed)?, upper.open_dir(&path).map_err(failed)?);
        let (mut gone, found) = (names(&below).map_err(failed)?, names(&above).map_err(failed)?);
        if path != Path::new("/") && !same_directory(lower, upper, &path).map_err(failed)? {
            ensure(upper, out, &path).map_err(failed)?;
        }
        for (name, kind) in found {
            let old = gone.remove(&name);
            let place = path.join(&name);
            if kind == FileType::Directory && old == Some(FileType::Directory) {
                waiting.push(place);
            } else if old != Some(kind) || !same(&below, &above, &name).map_err(failed)? {
                ensure(upper, out, &path).map_err(failed)?;
                copy(upper, out, &place)?;
            }
        }
        if !gone.is_empty() {
            ensure(upper, out, &path).map_err(failed)?;
            let dir = out.open_dir(&path).map_err(failed)?;
            for name in gone.keys() {
                dir.mknod(name, FileType::CharacterDevice, Mode::empty(), 0).map_err(failed)?;
            }
        }
    }
    // After all that is in them: making it changed their times.
    settle(upper, out).map_err(failed)
}

fn names(dir: &Dir) -> std::io::Result<BTreeMap<OsString, FileType>> {
    let kind = |name: &OsStr| dir.lstat(name).map(|stat| FileType::from_raw_mode(stat.st_mode));
    dir.list()?.into_iter().map(|listed| kind(&listed.name).map(|kind| (listed.name, kind))).collect()
}

fn same_status(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) == (b.st_mode, b.st_uid, b.st_gid, b.st_rdev)
}

fn same_directory(lower: &Root, upper: &Root, path: &Path) -> std::io::Result<bool> {
    let ((a, name), (b, _)) = (lower.parent(path)?, upper.parent(path)?);
    Ok(same_status(&a.lstat(&name)?, &b.lstat(&name)?) && a.xattrs(&name)? == b.xattrs(&name)?)
}

/// Whether two files of the same kind and name are the same. Times count, but equal ones do not say that the content is.
fn same(lower: &Dir, upper: &Dir, name: &OsStr) -> std::io::Result<bool> {
    let (a, b) = (lower.lstat(name)?, upper.lstat(name)?);
    if !same_status(&a, &b) || lower.xattrs(name)? != upper.xattrs(name)? {
        return Ok(false);
    }
    match FileType::from_raw_mode(a.st_mode) {
        FileType::Symlink => Ok(lower.readlink(name)? == upper.readlink(name)?),
        FileType::RegularFile => {
            let times = (a.st_mtime, a.st_mtime_nsec, a.st_size) == (b.st_mtime, b.st_mtime_nsec, b.st_size);
            Ok(times && same_content(lower, upper, name)?)
        }
        _ => Ok(true),
    }
}

fn same_content(lower: &Dir, upper: &Dir, name: &OsStr) -> std::io::Result<bool> {
    let mut files = [lower, upper].map(|dir| dir.open_file(name).map(std::fs::File::from));
    let [Ok(a), Ok(b)] = &mut files else {
        let [a, b] = files;
        return a.and(b).map(|_| false);
    };
    let (mut x, mut y) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let count = a.read(&mut x)?;
        let Some(piece) = x.get(..count) else { return Ok(false) };
        let Some(other) = y.get_mut(..count) else { return Ok(false) };
        if count == 0 {
            return Ok(b.read(&mut y)? == 0);
        }
        match b.read_exact(other) {
            Ok(()) if piece == &*other => {}
            Ok(()) => return Ok(false),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}

/// Makes a directory of `upper` in `out`, with those above it, as they are there.
fn ensure(upper: &Root, out: &Root, path: &Path) -> std::io::Result<()> {
    let mut at = PathBuf::from("/");
    for part in path.iter().skip(1) {
        at.push(part);
        let (dir, name) = out.parent(&at)?;
        match dir.mkdir(&name, Mode::from_raw_mode(0o700)) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
            other => other?,
        }
        let (from, own) = upper.parent(&at)?;
        let stat = from.lstat(&own)?;
        dir.chown(&name, stat.st_uid, stat.st_gid)?;
        dir.chmod(&name, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        for (key, value) in from.xattrs(&own)? {
            dir.set_xattr(&name, &key, &value)?;
        }
    }
    Ok(())
}

fn copy(upper: &Root, out: &Root, path: &Path) -> Result<()> {
    let text = path.to_str().ok_or_else(|| {
        let text = format!("cannot compare two trees: {} is no UTF-8 text", path.display());
        Error::new(types::Kind::Unsupported, text)
    })?;
    let selection = Selection { src: text.to_owned(), ..Selection::default() };
    file::copy(upper, out, &Copy { selection, dest: text.to_owned(), ..Copy::default() })?;
    Ok(())
}

/// Gives the directories of `out` the times they have in `upper`.
fn settle(upper: &Root, out: &Root) -> std::io::Result<()> {
    let mut waiting = vec![PathBuf::from("/")];
    let mut all = Vec::new();
    while let Some(path) = waiting.pop() {
        for (name, kind) in names(&out.open_dir(&path)?)? {
            if kind == FileType::Directory {
                waiting.push(path.join(name));
            }
        }
        all.push(path);
    }
    for path in all.iter().rev().filter(|path| path.as_path() != Path::new("/")) {
        let (dir, name) = out.parent(path)?;
        let stat = upper.stat(path)?;
        let time = |seconds, nanos| rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos };
        let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let modified = time(stat.st_mtime, nanos);
        dir.set_times(&name, &rustix::fs::Timestamps { last_access: modified, last_modification: modified })?;
    }
    let top = upper.open_at("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&top)?;
    let own = out.open_at("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fchown(
        &own,
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )?;
    Ok(rustix::fs::fchmod(&own, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

    struct Trees(tempfile::TempDir);

    impl Trees {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["lower", "upper", "out"] {
                fs::create_dir(dir.path().join(name)).unwrap();
            }
            Self(dir)
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        /// A file of both, with one time.
        fn both(&self, path: &str, text: &str) {
            for tree in ["lower", "upper"] {
                self.write(tree, path, text);
            }
        }

        fn write(&self, tree: &str, path: &str, text: &str) {
            let path = self.path(tree).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000)).unwrap();
        }

        /// What came of it, as `path kind`.
        fn difference(&self) -> Vec<String> {
            let root = |name: &str| Root::open(self.path(name)).unwrap();
            write(&root("lower"), &root("upper"), &root("out")).unwrap();
            let mut found = Vec::new();
            let mut waiting = vec![self.path("out")];
            while let Some(dir) = waiting.pop() {
                for entry in fs::read_dir(dir).unwrap() {
                    let entry = entry.unwrap();
                    let meta = entry.metadata().unwrap();
                    let kind = match meta.file_type() {
                        kind if kind.is_dir() => "dir".to_owned(),
                        kind if kind.is_symlink() => "link".to_owned(),
                        kind if kind.is_char_device() && meta.rdev() == 0 => "gone".to_owned(),
                        _ => fs::read_to_string(entry.path()).unwrap(),
                    };
                    if meta.is_dir() {
                        waiting.push(entry.path());
                    }
                    let path = entry.path();
                    found.push(format!("{} {kind}", path.strip_prefix(self.path("out")).unwrap().display()));
                }
            }
            found.sort();
            found
        }
    }

    #[test]
    fn what_is_new_changed_and_gone() {
        let trees = Trees::new();
        trees.both("same/file", "1");
        trees.both("deep/a/changed", "old");
        trees.write("upper", "deep/a/changed", "new");
        trees.write("upper", "new/sub/file", "n");
        trees.write("lower", "deep/gone", "g");
        trees.write("lower", "was-dir/x", "x");
        trees.write("upper", "was-dir", "file now");
        trees.write("lower", "was-file", "f");
        trees.write("upper", "was-file/in", "in");
        trees.both("mode", "m");
        fs::set_permissions(trees.path("upper/mode"), fs::Permissions::from_mode(0o600)).unwrap();
        trees.both("owned/x", "x");
        fs::set_permissions(trees.path("upper/owned"), fs::Permissions::from_mode(0o711)).unwrap();
        symlink("/etc", trees.path("lower/link")).unwrap();
        symlink("/usr", trees.path("upper/link")).unwrap();
        symlink("/etc", trees.path("lower/kept-link")).unwrap();
        symlink("/etc", trees.path("upper/kept-link")).unwrap();
        let wanted = [
            "deep dir",
            "deep/a dir",
            "deep/a/changed new",
            "deep/gone gone",
            "link link",
            "mode m",
            "new dir",
            "new/sub dir",
            "new/sub/file n",
            "owned dir",
            "was-dir file now",
            "was-file dir",
            "was-file/in in",
        ];
        assert_eq!(trees.difference(), wanted);
        assert_eq!(fs::metadata(trees.path("out/owned")).unwrap().mode() & 0o7777, 0o711);
        assert_eq!(fs::read_link(trees.path("out/link")).unwrap(), Path::new("/usr"));
    }

    #[test]
    fn the_same_size_and_time_do_not_make_the_same_content() {
        let trees = Trees::new();
        trees.write("lower", "a", "one");
        trees.write("upper", "a", "two");
        assert_eq!(trees.difference(), ["a two"]);
    }

    #[test]
    fn links_are_never_followed() {
        let trees = Trees::new();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        fs::create_dir(trees.path("lower/d")).unwrap();
        symlink(outside.path(), trees.path("upper/d")).unwrap();
        assert_eq!(trees.difference(), ["d link"]);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}
