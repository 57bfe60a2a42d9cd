//! Where a path of a container is: which tree, which path in it, and whether it may be written.
//!
//! A running container's tree is seen as its first process sees it, mounts and all. A stopped one's
//! mounts are not there: a path at or below one is looked for in what would be mounted.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use sys::path::Root;

use crate::container::Container;
use crate::container::record::{MountRecord, MountType, Record};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// A path, found.
#[derive(Debug)]
pub(super) struct Place {
    pub root: Root,
    /// In `root`, ending as the request's path did.
    pub path: String,
    /// The last component of the request's path, where that of `path` is another.
    pub name: Option<String>,
}

/// What is wanted of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// Into a running container.
    Write,
    /// Into a stopped one. The caller holds its lifecycle, so that nothing else mounts its changes.
    WriteAlone,
}

/// Find `path`. Blocking.
///
/// # Errors
/// Invalid when it is to be written and is read-only; Conflict when a container to be written into has
/// just stopped; Internal when the tree cannot be opened.
pub(super) fn find(inner: &Arc<Inner>, container: &Container, path: &str, access: Access) -> Result<Place> {
    let record = container.record();
    let live = live_root(container)?;
    let running = live.is_some();
    let dir = inner.container_dir(&record.id);
    let root = match (live, access) {
        (Some(root), _) => root,
        (None, Access::Read) => inner.images.snapshot(&record.layers, &dir)?,
        (None, Access::WriteAlone) => Root::from_fd(inner.images.rootfs(&record.layers, &dir)?),
        (None, Access::Write) => {
            return Err(fail!(Conflict, "container {} stopped while files were copied; copy them again", record.id));
        }
    };
    let whole = resolved(&root, path, access)?;
    let mount = covering(&record, &whole);
    if access != Access::Read {
        match mount {
            Some(mount) if !mount.rw => return Err(fail!(Invalid, "mounted volume is marked read-only")),
            None if record.host_config.readonly_rootfs => {
                return Err(fail!(Invalid, "container rootfs is marked read-only"));
            }
            _ => {}
        }
    }
    match mount.filter(|_| !running) {
        Some(mount) if mount.kind != MountType::Tmpfs => below_mount(inner, mount, &whole, path),
        _ => Ok(Place { root, path: path.to_owned(), name: None }),
    }
}

/// The tree of a running container.
fn live_root(container: &Container) -> Result<Option<Root>> {
    let Some(pid) = container.pid() else { return Ok(None) };
    match Root::open(format!("/proc/{pid}/root")) {
        // A number is given anew only after its process was waited for, and then the record says so.
        Ok(root) if container.pid() == Some(pid) => Ok(Some(root)),
        Ok(_) => Ok(None),
        Err(_) if container.pid() != Some(pid) => Ok(None),
        // It is dying: its own directories are all that is left of it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("cannot open the container's files", e)),
    }
}

/// The path with links resolved, the last component only where the request follows it.
fn resolved(root: &Root, path: &str, access: Access) -> Result<PathBuf> {
    let failed = |e| Error::io(format!("cannot resolve {path:?} in the container"), e);
    let follow = access != Access::Read || path.ends_with('/') || path.ends_with("/.");
    let clean = lexical(path);
    let (Some(name), Some(parent), false) = (clean.file_name(), clean.parent(), follow) else {
        return root.canonicalize(&clean).map_err(failed);
    };
    Ok(root.canonicalize(parent).map_err(failed)?.join(name))
}

/// Absolute, without `.` and `..`, as Docker cleans a path before it resolves it.
fn lexical(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

/// The innermost mount at or above a path.
fn covering<'a>(record: &'a Record, path: &Path) -> Option<&'a MountRecord> {
    let above = record.mounts.iter().filter(|mount| path.starts_with(&mount.destination));
    above.max_by_key(|mount| Path::new(&mount.destination).components().count())
}

fn below_mount(inner: &Inner, mount: &MountRecord, whole: &Path, asked: &str) -> Result<Place> {
    let failed = |e| Error::io(format!("cannot open what is mounted at {}", mount.destination), e);
    let rest = whole.strip_prefix(&mount.destination).unwrap_or(Path::new(""));
    let at_mount = rest.as_os_str().is_empty();
    let name = Path::new(&mount.destination).file_name().unwrap_or(OsStr::new("/")).to_string_lossy().into_owned();
    let ending = if asked.ends_with("/.") {
        "/."
    } else if asked.ends_with('/') {
        "/"
    } else {
        ""
    };
    let source = match mount.kind {
        MountType::Image => Root::from_fd(inner.images.read_only_mount(&mount.layers)?),
        _ => match Root::open(&mount.source) {
            Ok(root) => root,
            // A file: its directory is the tree, its own name the path.
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
                let source = Path::new(&mount.source);
                let (Some(directory), Some(file)) = (source.parent(), source.file_name()) else {
                    return Err(failed(e));
                };
                let root = Root::open(directory).map_err(failed)?;
                let path = format!("/{}{}{ending}", file.to_string_lossy(), slashed(rest));
                return Ok(Place { root, path, name: at_mount.then_some(name) });
            }
            Err(e) => return Err(failed(e)),
        },
    };
    let root = match mount.subpath.is_empty() {
        true => source,
        false => source.sub(&mount.subpath).map_err(failed)?,
    };
    let path = match at_mount {
        true if ending == "/." => "/.".to_owned(),
        true => "/".to_owned(),
        false => format!("{}{ending}", slashed(rest)),
    };
    Ok(Place { root, path, name: (at_mount && ending != "/.").then_some(name) })
}

fn slashed(rest: &Path) -> String {
    rest.components().map(|part| format!("/{}", part.as_os_str().to_string_lossy())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_covers() {
        let mount = |destination: &str| MountRecord { destination: destination.into(), ..MountRecord::default() };
        let record = Record { mounts: vec![mount("/data"), mount("/data/in"), mount("/")], ..Record::default() };
        let at = |path: &str| covering(&record, Path::new(path)).map(|m| m.destination.as_str());
        assert_eq!(at("/data/x"), Some("/data"));
        assert_eq!(at("/data/in/x"), Some("/data/in"));
        assert_eq!(at("/database"), Some("/"));
    }

    #[test]
    fn paths_are_cleaned_before_they_are_resolved() {
        for (path, clean) in [("a/../b/./c//", "/b/c"), ("/../..", "/"), ("", "/"), ("/a/b/..", "/a")] {
            assert_eq!(lexical(path), Path::new(clean), "{path}");
        }
    }
}
