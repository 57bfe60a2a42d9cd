//! Masked and read-only paths.
//!
//! The sources of masks are made here, in a tmpfs of the launch's own: a null device and an empty
//! directory on a read-only mount. Nothing of the image or the host's `/dev` is used, so neither can
//! be swapped for something else nor changed through the mask.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use launch::{FailureStage, LaunchPlan};
use rustix::fs::{FileType, Mode, OFlags};
use sys::Errno;
use sys::mount::attr;

use crate::failure::{At, Failure};
use crate::root::Root;

const STAGE: FailureStage = FailureStage::MaskedPath;

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
    /// Makes the sources, while the mount namespace still has a place to put their tmpfs.
    pub(crate) fn prepare(plan: &LaunchPlan) -> Result<Self, Failure> {
        if plan.masked_paths.is_empty() {
            return Ok(Self { file: None, directory: None });
        }
        let what = || "make the masks of hidden paths".to_owned();
        let options = [("mode".to_owned(), Some("755".to_owned())), ("size".to_owned(), Some("4k".to_owned()))];
        let attrs = attr::NOSUID | attr::NOEXEC;
        let tmpfs = sys::mount::new_fs("tmpfs", "tmpfs", &options, attrs)
            .map_err(|error| Failure::new(STAGE, error.errno, error.to_string()))?;
        rustix::fs::mkdirat(&tmpfs, "empty", Mode::from_raw_mode(0o755)).at(STAGE, what)?;
        let null = rustix::fs::makedev(1, 3);
        let mode = Mode::from_raw_mode(0o666);
        let own_null = match rustix::fs::mknodat(&tmpfs, "null", FileType::CharacterDevice, mode, null) {
            Ok(()) => true,
            // No CAP_MKNOD: the host's node, checked, on a read-only mount.
            Err(Errno::PERM) => false,
            Err(errno) => return Err(errno).at(STAGE, what),
        };
        // A part of a mount can only be copied while it is attached in our namespace (before Linux 6.15).
        // The host side of this namespace is dropped at the pivot, and this with it.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(plan.run_dir.as_str(), flags, Mode::empty()).at(STAGE, what)?;
        sys::mount::attach(tmpfs.as_fd(), place.as_fd()).at(STAGE, what)?;
        let clone = |fd, path| -> Result<OwnedFd, Failure> {
            let mount = sys::mount::clone_tree(fd, Path::new(path), false).at(STAGE, what)?;
            let attrs = attr::RDONLY | attr::NOSUID | attr::NOEXEC;
            sys::mount::set_attributes(mount.as_fd(), attrs, 0, 0, false).at(STAGE, what)?;
            Ok(mount)
        };
        let directory = clone(tmpfs.as_fd(), "empty")?;
        let file = if own_null { clone(tmpfs.as_fd(), "null")? } else { clone(rustix::fs::CWD, "/dev/null")? };
        let stat = rustix::fs::fstat(&file).at(STAGE, what)?;
        if !FileType::from_raw_mode(stat.st_mode).is_char_device() || stat.st_rdev != null {
            return Err(Errno::NODEV).at(STAGE, what);
        }
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
