//! Masked and read-only paths.
//!
//! A file is hidden behind the host's null device, looked at to be that, on a read-only mount of its own; a directory
//! behind an empty read-only tmpfs. Nothing of the image is used, so nothing can be swapped for something else, and
//! through the read-only mounts neither can be changed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use launch::{FailureStage, LaunchPlan};
use rustix::fs::FileType;
use sys::Errno;
use sys::mount::attr;

use crate::failure::{At, Failure};
use crate::root::Root;

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
    pub(crate) fn apply(self, plan: &LaunchPlan, root: &Root) -> Result<(), Failure> {
        for path in &plan.readonly_paths {
            lock(path, root)?;
        }
        let mut file = self.file.map(Cover::new);
        let mut directory = self.directory.map(Cover::new);
        for path in &plan.masked_paths {
            let what = || format!("hide {path}");
            let Some(target) = existing(path, root)? else { continue };
            let stat = rustix::fs::fstat(&target).at(STAGE, what)?;
            let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
            let cover = if is_dir { directory.as_mut() } else { file.as_mut() };
            if let Some(cover) = cover {
                cover.lay_on(&target).at(STAGE, what)?;
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

/// A handle on `path`, or nothing when it does not exist.
fn existing(path: &str, root: &Root) -> Result<Option<OwnedFd>, Failure> {
    match root.handle(path) {
        Ok(handle) => Ok(Some(handle)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).at(STAGE, || format!("open {path} of the container")),
    }
}

/// Makes the tree at `path` read-only by laying a read-only copy of it over itself: changed while
/// detached, attached on the very directory that was copied.
fn lock(path: &str, root: &Root) -> Result<(), Failure> {
    let what = || format!("make {path} read-only");
    let Some(target) = existing(path, root)? else { return Ok(()) };
    let copy = sys::mount::clone_tree(target.as_fd(), Path::new(""), true).at(STAGE, what)?;
    sys::mount::set_attributes(copy.as_fd(), attr::RDONLY, 0, 0, true).at(STAGE, what)?;
    sys::mount::attach(copy.as_fd(), target.as_fd()).at(STAGE, what)
}
