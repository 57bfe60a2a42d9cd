//! An archive from a container into local files. The archive is hostile: a container may be in the middle of changing
//! what is copied, and its links point where it likes.
//!
//! Invariant: nothing is created, followed or changed outside the destination. Every entry is reached from a descriptor
//! of the destination by a path without `..` whose directories must not be links (openat2(2) with `RESOLVE_BENEATH`
//! and `RESOLVE_NO_SYMLINKS`), and what is there under its name is replaced, never written through.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{self as sys, AtFlags, Mode, OFlags, RawMode, ResolveFlags, Timespec, Timestamps},
    io::Errno,
};
use tar::{Archive, Entry, EntryType};

use super::Place;
use crate::{Error, Result, term::output::warn};

/// How to unpack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// The first component of every name is the source's own and is replaced by the place's.
    pub(super) strip_root: bool,
    pub(super) keep_owner: bool,
}

/// Unpacks the archive; returns the bytes of content.
pub(super) fn unpack(from: impl Read, place: &Place, options: Options) -> Result<u64> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = sys::open(&place.parent, flags, Mode::empty())
        .map_err(|errno| Error::file("cannot open", &place.parent)(errno.into()))?;
    let mut archive = Archive::new(from);
    let mut bytes = 0;
    // Directories get their times and modes last: filling them would change the one and may need the other.
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let Some(relative) = relative(&name, place, options)? else { continue };
        bytes += entry.size();
        let show = place.parent.join(&relative);
        extract(&root, &mut entry, &relative, place, options)
            .map_err(|error| Error::file("cannot write", &show)(error))?;
        if entry.header().entry_type().is_dir() {
            directories.push((relative, entry.header().mode()? & 0o7777, entry.header().mtime()?));
        }
    }
    for (relative, mode, mtime) in directories.into_iter().rev() {
        let Ok(dir) = beneath(&root, &relative, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
        let _ = sys::fchmod(&dir, Mode::from_raw_mode(mode as RawMode));
        let _ = sys::futimens(&dir, &times(mtime));
    }
    Ok(bytes)
}

/// Path of an entry below the destination's parent; `None` for the destination itself when its contents are meant.
fn relative(name: &Path, place: &Place, options: Options) -> Result<Option<PathBuf>> {
    let mut parts = Vec::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::new(format!(
                    "the archive has an entry outside of what was asked for: {}",
                    name.display()
                )));
            }
        }
    }
    let rest = if options.strip_root { parts.get(1..).unwrap_or_default() } else { &parts[..] };
    let mut out = PathBuf::new();
    out.extend(place.name.as_deref().map(OsStr::new));
    out.extend(rest);
    Ok((!out.as_os_str().is_empty()).then_some(out))
}

fn beneath(root: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(sys::openat2(
        root,
        path,
        flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )?)
}

fn times(mtime: u64) -> Timestamps {
    let moment = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: moment, last_modification: moment }
}

/// The directory an entry goes into; made where the archive left it out.
fn parent(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let dir = path.parent().unwrap_or(Path::new(""));
    match beneath(root, dir, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut made = PathBuf::new();
    for part in dir.components() {
        let above = beneath(root, &made, OFlags::PATH | OFlags::DIRECTORY)?;
        match sys::mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        made.push(part);
    }
    beneath(root, dir, OFlags::PATH | OFlags::DIRECTORY)
}

fn extract(
    root: &OwnedFd,
    entry: &mut Entry<'_, impl Read>,
    path: &Path,
    place: &Place,
    options: Options,
) -> io::Result<()> {
    let dir = parent(root, path)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mode = Mode::from_raw_mode((entry.header().mode()? & 0o7777) as RawMode);
    let mtime = entry.header().mtime()?;
    match entry.header().entry_type() {
        EntryType::Directory => match sys::mkdirat(&dir, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) if is_directory(&dir, name) => {}
            Err(error) => return Err(error.into()),
        },
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(&dir, name)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(sys::openat(&dir, name, flags, Mode::from_raw_mode(0o600))?);
            io::copy(entry, &mut file)?;
            if options.keep_owner {
                owner(entry, |uid, gid| sys::fchown(&file, uid, gid))?;
            }
            // After the owner: changing that takes set-id bits away.
            sys::fchmod(&file, mode)?;
            sys::futimens(&file, &times(mtime))?;
            return Ok(());
        }
        EntryType::Symlink => {
            clear(&dir, name)?;
            let link = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
            sys::symlinkat(link.as_os_str(), &dir, name)?;
            sys::utimensat(&dir, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        EntryType::Link => {
            let link = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
            let source = relative(&link, place, options)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let source = source.ok_or(io::ErrorKind::InvalidData)?;
            let from = parent(root, &source)?;
            let base = source.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            clear(&dir, name)?;
            sys::linkat(&from, base, &dir, name, AtFlags::empty())?;
            return Ok(());
        }
        _ => {
            warn(&format!("{} is no file, directory or link and is left out", place.parent.join(path).display()));
            return Ok(());
        }
    }
    if options.keep_owner {
        owner(entry, |uid, gid| sys::chownat(&dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))?;
    }
    Ok(())
}

fn owner(
    entry: &Entry<'_, impl Read>,
    set: impl FnOnce(Option<sys::Uid>, Option<sys::Gid>) -> rustix::io::Result<()>,
) -> io::Result<()> {
    let id = |number: u64| u32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    let (uid, gid) = (id(entry.header().uid()?)?, id(entry.header().gid()?)?);
    Ok(set(Some(sys::Uid::from_raw(uid)), Some(sys::Gid::from_raw(gid)))?)
}

fn is_directory(dir: &impl AsFd, name: &OsStr) -> bool {
    sys::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| sys::FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// Takes what is under the name away, unless it is a directory: that a file never replaces.
fn clear(dir: &impl AsFd, name: &OsStr) -> io::Result<()> {
    if name.as_bytes().is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match sys::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(io::Error::other("cannot overwrite a directory with a file")),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tar::{Builder, Header};

    use super::*;

    const OPTIONS: Options = Options { strip_root: true, keep_owner: false };

    /// Raw headers, so that names the builder would refuse can be written.
    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_mtime(1);
            let linked = matches!(kind, EntryType::Symlink | EntryType::Link);
            if linked {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            let data = if linked { "" } else { content };
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn run(entries: &[(&str, EntryType, &str)], name: Option<&str>) -> (tempfile::TempDir, Result<u64>) {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("in");
        fs::create_dir(&inside).unwrap();
        let place = Place { parent: inside, name: name.map(str::to_owned) };
        let outcome = unpack(&archive(entries)[..], &place, Options { strip_root: name.is_some(), ..OPTIONS });
        (dir, outcome)
    }

    #[test]
    fn a_tree_lands_under_its_new_name() {
        use EntryType::{Directory, Link, Regular, Symlink};
        let (dir, outcome) = run(
            &[
                ("src/", Directory, ""),
                ("src/f", Regular, "data"),
                ("src/l", Symlink, "f"),
                ("src/h", Link, "src/f"),
                ("src/a/b", Regular, "x"),
            ],
            Some("new"),
        );
        assert_eq!(outcome.unwrap(), 5);
        let new = dir.path().join("in/new");
        assert_eq!(fs::read_to_string(new.join("l")).unwrap(), "data");
        assert_eq!(fs::read_to_string(new.join("h")).unwrap(), "data");
        assert_eq!(fs::read_to_string(new.join("a/b")).unwrap(), "x");
    }

    #[test]
    fn contents_go_into_the_directory() {
        let (dir, outcome) = run(&[("./", EntryType::Directory, ""), ("./f", EntryType::Regular, "x")], None);
        outcome.unwrap();
        assert!(dir.path().join("in/f").is_file());
    }

    #[test]
    fn nothing_gets_out() {
        use EntryType::{Directory, Link, Regular, Symlink};
        for (entries, what) in [
            (vec![("src/../../evil", Regular, "x")], "a name with dots"),
            (
                vec![("src/", Directory, ""), ("src/up", Symlink, "../.."), ("src/up/evil", Regular, "x")],
                "a link as a directory",
            ),
            (
                vec![("src/", Directory, ""), ("src/out", Symlink, "../../evil"), ("src/h", Link, "../../secret")],
                "a hard link out",
            ),
        ] {
            let (dir, outcome) = run(&entries, Some("new"));
            assert!(outcome.is_err(), "{what}");
            assert!(!dir.path().join("evil").exists(), "{what}");
        }
        // A file written where a link was replaces the link, not what it points to.
        let (dir, outcome) =
            run(&[("src/", Directory, ""), ("src/f", Symlink, "../../evil"), ("src/f", Regular, "x")], Some("new"));
        outcome.unwrap();
        assert!(!dir.path().join("evil").exists());
        assert!(dir.path().join("in/new/f").is_file());
    }

    #[test]
    fn a_file_does_not_replace_a_directory() {
        let (_dir, outcome) = run(
            &[
                ("src/", EntryType::Directory, ""),
                ("src/d/", EntryType::Directory, ""),
                ("src/d", EntryType::Regular, "x"),
            ],
            Some("new"),
        );
        assert!(outcome.unwrap_err().to_string().contains("cannot overwrite a directory"));
    }
}
