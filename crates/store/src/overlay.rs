//! Root file systems: layers below, a container's own directory on top, as a detached overlay mount.
//!
//! The mount is never attached anywhere the host can see. The paths given to the kernel are the store's
//! own; those that mount options cannot carry are passed as descriptors.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, open_tree, unmount,
};
use sys::path::Root;
use types::DiffId;

use crate::content::random_name;
use crate::error::{Error, Result};
use crate::model::MAX_LAYERS;
use crate::store::Store;

/// Longest string fsconfig(2) takes, with its NUL.
const VALUE_MAX: usize = 256;
/// Most bytes of mount(2)'s options: one page, with the NUL.
const OPTIONS_MAX: usize = 4095;

/// Something to stack on.
#[derive(Debug, Clone)]
pub enum Lower {
    /// A directory of the store or the engine.
    Dir(PathBuf),
    /// A mount that is attached nowhere.
    Mount(Arc<OwnedFd>),
}

impl Lower {
    /// The tree, to be read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn root(&self) -> Result<Root> {
        match self {
            Self::Dir(path) => Root::open(path).map_err(Error::io(format!("cannot open {}", path.display()))),
            Self::Mount(mount) => {
                mount.try_clone().map(Root::from_fd).map_err(Error::io("cannot open a mounted layer"))
            }
        }
    }

    fn stat(&self) -> Result<rustix::fs::Stat, Errno> {
        match self {
            Self::Dir(path) => rustix::fs::stat(path),
            Self::Mount(mount) => rustix::fs::fstat(mount),
        }
    }

    /// As a mount option takes it, with the descriptor that keeps it valid when one is needed.
    fn option(&self) -> Result<(OsString, Option<OwnedFd>), Errno> {
        match self {
            Self::Dir(path) => option_path(path),
            Self::Mount(mount) => Ok((descriptor_text(mount), None)),
        }
    }

    /// As short as it can be said.
    fn short(&self) -> Result<(OsString, Option<OwnedFd>), Errno> {
        match self {
            Self::Dir(path) => descriptor_path(path).map(|(text, fd)| (text, Some(fd))),
            Self::Mount(mount) => Ok((descriptor_text(mount), None)),
        }
    }
}

/// Layers and, for a writable mount, the directories of changes.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Layers, topmost first.
    pub lowers: Vec<Lower>,
    /// Where changes go; `None` for a read-only mount.
    pub upper: Option<Upper>,
    /// Changes need not survive a crash of the machine: no sync on unmount, and no second mount of the
    /// same upper. For containers removed on exit, and build steps.
    pub volatile: bool,
}

/// Directories of changes, on one file system that is no overlay itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upper {
    /// The changes.
    pub upper: PathBuf,
    /// The kernel's scratch directory beside it.
    pub work: PathBuf,
}

impl Overlay {
    /// Makes the mount, attached nowhere: it lives as long as the descriptor, or what it is moved to.
    /// Kernels without `lowerdir+` (before 6.5) need `scratch`, an empty directory of the engine's own.
    ///
    /// # Errors
    /// [`Error::Mount`] naming the step.
    pub fn mount_fd(&self, scratch: &Path) -> Result<OwnedFd> {
        if self.lowers.is_empty() || self.lowers.len() > MAX_LAYERS {
            let source = io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} layers, of at most {MAX_LAYERS}", self.lowers.len()),
            );
            return Err(Error::Mount { step: "stack layers".to_owned(), source });
        }
        match self.mount_new() {
            Err(Step("lowerdir+", Errno::INVAL) | Step(_, Errno::NOSYS)) => {}
            // A page holds all of them, and the one that no longer fits is refused, whichever it is.
            Err(Step(_, Errno::INVAL)) if options_come_late() => {}
            other => return other.map_err(Error::from),
        }
        self.mount_old(scratch).map_err(Error::from)
    }

    fn mount_new(&self) -> Result<OwnedFd, Step> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(step("fsopen overlay"))?;
        let set = |key: &str, value: &str| fsconfig_set_string(context.as_fd(), key, value);
        let path = |key: &'static str, path: &Path| -> Result<(), Step> {
            let (text, _kept) = option_path(path).map_err(step(key))?;
            fsconfig_set_string(context.as_fd(), key, text.as_os_str()).map_err(step(key))
        };
        set("source", "overlay").map_err(step("source"))?;
        for lower in &self.lowers {
            let (text, _kept) = lower.option().map_err(step("lowerdir+"))?;
            fsconfig_set_string(context.as_fd(), "lowerdir+", text.as_os_str()).map_err(step("lowerdir+"))?;
        }
        if let Some(Upper { upper, work }) = &self.upper {
            path("upperdir", upper)?;
            path("workdir", work)?;
            // What the kernel keeps for these would not survive being archived as a layer.
            for (key, value) in UPPER_OPTIONS {
                set(key, value).map_err(step(key))?;
            }
            if self.volatile {
                fsconfig_set_flag(context.as_fd(), "volatile").map_err(step("volatile"))?;
            }
        } else if self.lowers.len() == 1 {
            return Err(Step("stack a single layer read-only", Errno::INVAL));
        }
        fsconfig_create(context.as_fd()).map_err(step("create"))?;
        let attributes = if self.upper.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(step("fsmount"))
    }

    /// One string for all options, a place in the file tree for the moment between mount and clone.
    fn mount_old(&self, scratch: &Path) -> Result<OwnedFd, Step> {
        let (mut kept, mut layers) = (Vec::new(), Vec::new());
        let mut short = |path: &Path| -> Result<OsString, Errno> {
            let (text, fd) = descriptor_path(path)?;
            kept.push(fd);
            Ok(text)
        };
        let mut options = OsString::from("lowerdir=");
        for (index, lower) in self.lowers.iter().enumerate() {
            if index > 0 {
                options.push(":");
            }
            let (text, fd) = lower.short().map_err(step("open a layer"))?;
            layers.extend(fd);
            options.push(text);
        }
        if let Some(Upper { upper, work }) = &self.upper {
            options.push(",upperdir=");
            options.push(short(upper).map_err(step("upperdir"))?);
            options.push(",workdir=");
            options.push(short(work).map_err(step("workdir"))?);
            for (key, value) in UPPER_OPTIONS {
                options.push(format!(",{key}={value}"));
            }
            if self.volatile {
                options.push(",volatile");
            }
        }
        if options.len() > OPTIONS_MAX {
            return Err(Step("stack this many layers on a kernel before 6.5", Errno::TOOBIG));
        }
        let options = std::ffi::CString::new(options.as_bytes()).map_err(|_| Step("options", Errno::INVAL))?;
        let name = random_name("mount-").map_err(|_| Step("scratch directory", Errno::IO))?;
        let target = scratch.join(name);
        std::fs::create_dir(&target)
            .map_err(|e| Step("scratch directory", Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
        let flags = if self.upper.is_none() { MountFlags::RDONLY } else { MountFlags::empty() };
        let made =
            mount("overlay", &target, "overlay", flags, options.as_c_str()).map_err(step("mount")).and_then(|()| {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                let tree = open_tree(CWD, &target, flags).map_err(step("open_tree"));
                unmount(&target, UnmountFlags::DETACH).map_err(step("unmount"))?;
                tree
            });
        // A directory that stays is swept with the scratch directory.
        let _ = std::fs::remove_dir(&target);
        made
    }
}

/// Does this kernel's overlay look at its options only when the mount is made? Then it takes `lowerdir+`
/// like any other word, and refuses it at the end (kernels before 6.5, whose overlay has no fs_context
/// of its own: fs/fs_context.c, legacy_parse_param).
fn options_come_late() -> bool {
    let probe = || -> Result<(), Errno> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_flag(context.as_fd(), "no-such-option")
    };
    probe().is_ok()
}

/// Directory of the store that mounts pass through on older kernels.
pub(crate) const SCRATCH: &str = "content/mount";

/// Makes the scratch directory, and takes away what an engine that died between mount and unmount left.
pub(crate) fn sweep(root: &Root, path: &Path) -> io::Result<()> {
    let scratch = root.create_dir_all(SCRATCH, Mode::RWXU)?;
    for entry in scratch.list()? {
        // No mount is there on newer kernels. Never emptied: what is below may be a container's.
        let _ = unmount(path.join(SCRATCH).join(&entry.name), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        let _ = scratch.rmdir(&entry.name);
    }
    Ok(())
}

/// Features that would put more than plain files, whiteouts and opaque directories into the upper.
const UPPER_OPTIONS: [(&str, &str); 3] = [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")];

impl Store {
    /// Makes the mount of `overlay`, with the store's own scratch directory.
    ///
    /// # Errors
    /// As [`Overlay::mount_fd`].
    pub fn mount(&self, overlay: &Overlay) -> Result<OwnedFd> {
        overlay.mount_fd(&self.path().join(SCRATCH))
    }

    /// Directories of a new container: `containers/ID/{upper,work}`. The root's owner is the topmost layer's.
    ///
    /// # Errors
    /// [`Error::Io`]; `EEXIST` when the container has them already.
    pub fn create_upper(&self, id: &str, lowers: &[Lower]) -> Result<Upper> {
        let fail = || Error::io(format!("cannot create the directories of container {id}"));
        let containers = self.root().open_dir("containers").map_err(fail())?;
        match containers.mkdir(OsStr::new(id), Mode::RWXU) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(fail()(e)),
            _ => {}
        }
        let dir = containers.open_dir(OsStr::new(id)).map_err(fail())?;
        let open = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        for (name, mode) in [("upper", open), ("work", Mode::RWXU)] {
            dir.mkdir(OsStr::new(name), mode).map_err(fail())?;
            dir.chmod(OsStr::new(name), mode).map_err(fail())?;
        }
        if let Some(top) = lowers.first() {
            let stat = top.stat().map_err(|e| fail()(e.into()))?;
            dir.chown(OsStr::new("upper"), stat.st_uid, stat.st_gid).map_err(fail())?;
        }
        Ok(self.upper(id))
    }

    /// Directories of a container that has them.
    #[must_use]
    pub fn upper(&self, id: &str) -> Upper {
        let base = self.path().join("containers").join(id);
        Upper { upper: base.join("upper"), work: base.join("work") }
    }

    /// The root file system of a container: its layers (base first) below its own directories.
    ///
    /// # Errors
    /// [`Error::NoLayer`].
    pub fn overlay(&self, id: &str, diff_ids: &[DiffId], volatile: bool) -> Result<Overlay> {
        Ok(Overlay { lowers: self.layers().lowers(diff_ids)?, upper: Some(self.upper(id)), volatile })
    }

    /// Layers alone, read-only.
    ///
    /// # Errors
    /// [`Error::NoLayer`].
    pub fn read_only(&self, diff_ids: &[DiffId]) -> Result<Overlay> {
        let mut lowers = self.layers().lowers(diff_ids)?;
        let empty = self.layers().empty();
        if lowers.len() == 1 && !matches!(&lowers[0], Lower::Dir(path) if *path == empty) {
            // overlayfs wants two layers when there is no upper.
            lowers.push(Lower::Dir(empty));
        }
        Ok(Overlay { lowers, upper: None, volatile: false })
    }

    /// The changes of a container as a tree.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn upper_root(&self, id: &str) -> Result<Root> {
        let fail = Error::io(format!("cannot open the changes of container {id}"));
        let dir = self.root().open_dir("containers").and_then(|dir| dir.open_dir(OsStr::new(id)));
        Ok(dir.and_then(|dir| dir.open_dir(OsStr::new("upper"))).map_err(fail)?.into())
    }

    /// Removes the directories of a container with what is in them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_container_dirs(&self, id: &str) -> Result<()> {
        let containers = self.root().open_dir("containers");
        let removed = containers.and_then(|dir| dir.remove_tree(OsStr::new(id)));
        removed.map_err(Error::io(format!("cannot remove the directories of container {id}")))
    }

    /// Opens a mount made by [`Overlay::mount_fd`] as a tree to work in.
    #[must_use]
    pub fn tree(mount: OwnedFd) -> Root {
        Root::from_fd(mount)
    }
}

/// The failed step and the kernel's answer.
#[derive(Debug)]
struct Step(&'static str, Errno);

impl From<Step> for Error {
    fn from(Step(step, errno): Step) -> Self {
        Self::Mount { step: step.to_owned(), source: errno.into() }
    }
}

fn step(name: &'static str) -> impl Fn(Errno) -> Step {
    move |errno| Step(name, errno)
}

/// A path as a mount option takes it, and the descriptor that keeps it valid when it is one.
fn option_path(path: &Path) -> Result<(OsString, Option<OwnedFd>), Errno> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() < VALUE_MAX && !bytes.iter().any(|byte| matches!(byte, b':' | b',' | b'\\')) {
        return Ok((path.as_os_str().to_owned(), None));
    }
    descriptor_path(path).map(|(text, fd)| (text, Some(fd)))
}

fn descriptor_path(path: &Path) -> Result<(OsString, OwnedFd), Errno> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((descriptor_text(&fd), fd))
}

fn descriptor_text(fd: &OwnedFd) -> OsString {
    OsString::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way of kernels without `lowerdir+`, which no machine of the tests takes by itself.
    #[test]
    fn one_string_of_options() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let lowers: Vec<PathBuf> = (0..100).map(|index| make(&format!("lower:{index},x"))).collect();
        std::fs::write(lowers[0].join("file"), "top").unwrap();
        std::fs::write(lowers[99].join("file"), "bottom").unwrap();
        let (upper, scratch) = (Upper { upper: make("upper"), work: make("work") }, make("scratch"));
        let overlay = Overlay {
            lowers: lowers.iter().cloned().map(Lower::Dir).collect(),
            upper: Some(upper.clone()),
            volatile: false,
        };
        let mounted = Root::from_fd(overlay.mount_old(&scratch).map_err(Error::from).unwrap());
        let fd = mounted.open_at("file", OFlags::RDONLY, Mode::empty()).unwrap();
        assert_eq!(io::read_to_string(std::fs::File::from(fd)).unwrap(), "top");
        drop(mounted.dir().unwrap().create_file("new".as_ref(), Mode::RUSR).unwrap());
        assert!(upper.upper.join("new").exists());
        drop(mounted);
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(scratch.to_str().unwrap()), "nothing stays mounted");
        let read_only =
            Overlay { lowers: lowers[..2].iter().cloned().map(Lower::Dir).collect(), upper: None, volatile: false };
        let mounted = Root::from_fd(read_only.mount_old(&scratch).map_err(Error::from).unwrap());
        assert!(mounted.dir().unwrap().create_file("no".as_ref(), Mode::RUSR).is_err());
    }
}
