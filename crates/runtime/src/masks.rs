//! Masked and read-only paths.
//!
//! A file is hidden behind the host's null device, looked at to be that, on a read-only mount of its own; a directory
//! behind an empty read-only tmpfs. Nothing of the image is used, so nothing can be swapped for something else, and
//! through the read-only mounts neither can be changed. A path below a mount of the plan's is looked for in that very
//! mount as well as by its name: whoever shares the root can exchange the names on the way to the mount.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use launch::{FailureStage, LaunchPlan};
use rustix::fs::{AtFlags, FileType, StatxFlags};
use sys::Errno;
use sys::mount::attr;

use crate::failure::{At, Failure};
use crate::root::{Root, beneath};

const STAGE: FailureStage = FailureStage::MaskedPath;
/// `MS_PRIVATE` (mount(2)).
const MS_PRIVATE: u64 = 1 << 18;

/// Detached mounts ready to be laid over paths.
pub(crate) struct Masks {
    file: Option<OwnedFd>,
    directory: Option<OwnedFd>,
}

/// A mask that is used many times: the first use attaches it, later ones copy the attached mount.
struct Cover {
    mount: OwnedFd,
    attached: bool,
}

impl Masks {
    /// Opens the sources, while the host's null device can be reached.
    pub(crate) fn prepare(plan: &LaunchPlan) -> Result<Self, Failure> {
        if plan.masked_paths.is_empty() {
            return Ok(Self { file: None, directory: None });
        }
        let what = || "make the masks of hidden paths".to_owned();
        let attrs = attr::RDONLY | attr::NOSUID | attr::NOEXEC;
        let file = sys::mount::clone_tree(rustix::fs::CWD, Path::new("/dev/null"), false).at(STAGE, what)?;
        let stat = rustix::fs::fstat(&file).at(STAGE, what)?;
        if !FileType::from_raw_mode(stat.st_mode).is_char_device() || stat.st_rdev != rustix::fs::makedev(1, 3) {
            let text = "cannot hide paths: /dev/null of the host is no null device";
            return Err(Failure::new(STAGE, Errno::NODEV, text));
        }
        sys::mount::set_attributes(file.as_fd(), attrs, 0, MS_PRIVATE, false).at(STAGE, what)?;
        let options = [("mode".to_owned(), Some("755".to_owned())), ("size".to_owned(), Some("4k".to_owned()))];
        let directory = sys::mount::new_fs("tmpfs", "tmpfs", &options, attrs)
            .map_err(|error| Failure::new(STAGE, error.errno, error.to_string()))?;
        Ok(Self { file: Some(file), directory: Some(directory) })
    }

    /// Hides the masked paths and locks the read-only ones. Missing paths are skipped.
    /// `covered` are the mounts below which the paths lie, by their targets, in the order they were made.
    pub(crate) fn apply(self, plan: &LaunchPlan, root: &Root, covered: &[(String, Root)]) -> Result<(), Failure> {
        for path in &plan.readonly_paths {
            for target in existing(path, root, covered)? {
                lock(path, &target)?;
            }
        }
        let mut file = self.file.map(Cover::new);
        let mut directory = self.directory.map(Cover::new);
        for path in &plan.masked_paths {
            let what = || format!("hide {path}");
            for target in existing(path, root, covered)? {
                let stat = rustix::fs::fstat(&target).at(STAGE, what)?;
                let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
                let cover = if is_dir { directory.as_mut() } else { file.as_mut() };
                if let Some(cover) = cover {
                    cover.lay_on(&target).at(STAGE, what)?;
                }
            }
        }
        Ok(())
    }
}

impl Cover {
    fn new(mount: OwnedFd) -> Self {
        Self { mount, attached: false }
    }

    fn lay_on(&mut self, target: &OwnedFd) -> Result<(), Errno> {
        if !self.attached {
            sys::mount::attach(self.mount.as_fd(), target.as_fd())?;
            self.attached = true;
            return Ok(());
        }
        let copy = sys::mount::clone_tree(self.mount.as_fd(), Path::new(""), false)?;
        sys::mount::attach(copy.as_fd(), target.as_fd())
    }
}

/// Handles on what `path` is in the mount it lies in and what it names now: none when it does not exist, one when both
/// are the same, as they are unless somebody interferes.
fn existing(path: &str, root: &Root, covered: &[(String, Root)]) -> Result<Vec<OwnedFd>, Failure> {
    let mounted = covered.iter().rev().find_map(|(target, mount)| Some((mount, beneath(path, target)?)));
    let mut found = Vec::new();
    if let Some((mount, rest)) = mounted {
        let handle = if rest.is_empty() { mount.duplicate() } else { mount.handle_without_links(rest) };
        match handle {
            Ok(handle) => found.push(handle),
            // Links are a matter of names.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno).at(STAGE, || format!("open {path} of the container")),
        }
    }
    match root.handle(path) {
        Ok(handle) => {
            let same = |other: &OwnedFd| identity(other).is_ok_and(|other| identity(&handle) == Ok(other));
            if !found.iter().any(same) {
                found.push(handle);
            }
        }
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(errno) => return Err(errno).at(STAGE, || format!("open {path} of the container")),
    }
    Ok(found)
}

/// The mount and the inode a handle is on.
fn identity(handle: &OwnedFd) -> Result<(u64, u64), Errno> {
    let flags = StatxFlags::INO | StatxFlags::MNT_ID;
    rustix::fs::statx(handle, "", AtFlags::EMPTY_PATH, flags).map(|stat| (stat.stx_mnt_id, stat.stx_ino))
}

/// Makes the tree at `target` read-only by laying a read-only copy of it over itself: changed while
/// detached, attached on the very directory that was copied.
fn lock(path: &str, target: &OwnedFd) -> Result<(), Failure> {
    let what = || format!("make {path} read-only");
    let copy = sys::mount::clone_tree(target.as_fd(), Path::new(""), true).at(STAGE, what)?;
    sys::mount::set_attributes(copy.as_fd(), attr::RDONLY, 0, 0, true).at(STAGE, what)?;
    sys::mount::attach(copy.as_fd(), target.as_fd()).at(STAGE, what)
}
