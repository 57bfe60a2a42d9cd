//! Indexed layers as mounts: made once, attached nowhere, shared by every root file system that has them.
//!
//! Two mounts of one layer would be two file systems to the kernel, each with pages of its own, so the first
//! one is kept. An overlay holds what it was made of by itself; forgetting a mount here costs only that.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use sys::path::Dir;
use types::DiffId;

use super::{ARCHIVE, INDEX};
use crate::error::{Error, Result};

/// Mounts kept. Each has a descriptor; the one used longest ago makes room.
const KEPT_MAX: usize = 256;

/// Mounts that are kept.
#[derive(Debug, Default)]
pub(super) struct Mounts(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    mounts: HashMap<DiffId, (Arc<OwnedFd>, u64)>,
    /// Counts uses.
    clock: u64,
}

impl Mounts {
    /// The mount of a layer whose directory is `top`.
    pub(super) fn get(&self, diff_id: &DiffId, top: &Dir) -> Result<Arc<OwnedFd>> {
        let mut kept = self.lock();
        kept.clock += 1;
        let now = kept.clock;
        if let Some((mount, used)) = kept.mounts.get_mut(diff_id) {
            *used = now;
            return Ok(Arc::clone(mount));
        }
        let mount = Arc::new(mount(top)?);
        if kept.mounts.len() >= KEPT_MAX
            && let Some(oldest) = kept.mounts.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id)
        {
            kept.mounts.remove(&oldest);
        }
        kept.mounts.insert(*diff_id, (Arc::clone(&mount), now));
        Ok(mount)
    }

    /// Lets go of a layer that is being removed.
    pub(super) fn forget(&self, diff_id: &DiffId) {
        self.lock().mounts.remove(diff_id);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Mounts the layer in `top` read-only: the index, with the archive as its device.
pub(super) fn mount(top: &Dir) -> Result<OwnedFd> {
    let fail = |step: &'static str| {
        move |errno: rustix::io::Errno| Error::Mount { step: step.to_owned(), source: errno.into() }
    };
    let open = |name: &str| top.open_file(name.as_ref()).map_err(Error::io(format!("cannot open a layer's {name}")));
    let (index, archive) = (open(INDEX)?, open(ARCHIVE)?);
    // By descriptor: a path may be longer than an option, or changed meanwhile.
    let place = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("fsopen erofs"))?;
    fsconfig_set_string(context.as_fd(), "source", place(&index)).map_err(fail("erofs source"))?;
    fsconfig_set_string(context.as_fd(), "device", place(&archive)).map_err(fail("erofs device"))?;
    fsconfig_set_flag(context.as_fd(), "ro").map_err(fail("erofs ro"))?;
    fsconfig_create(context.as_fd()).map_err(fail("create erofs"))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(fail("fsmount erofs"))
}
