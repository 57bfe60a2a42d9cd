//! Mounts as descriptors: file systems and bind mounts are made detached, changed while nobody can
//! see them, and attached by descriptor, so that no path is resolved twice.
//! Called by `runtime` in the new mount namespace and by the daemon for roots and volumes.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::Errno;
use crate::raw::check;

/// `MOUNT_ATTR_*` bits of linux/mount.h.
pub mod attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    /// Mask of the access time modes, which are one value and not bits.
    pub const ATIME: u64 = 0x70;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const IDMAP: u64 = 0x10_0000;
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// A file system the kernel refused to make: the errno and its own words, when it had any.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {fstype}: {errno}{}{message}", if message.is_empty() { "" } else { ": " })]
pub struct FsError {
    pub fstype: String,
    pub errno: Errno,
    /// Lines of the file system context's log (fsopen(2)), joined by `; `.
    pub message: String,
}

/// Makes a file system, detached: fsopen, one fsconfig per option, fsmount with `attrs`.
/// An option without value is a flag.
///
/// # Errors
/// [`FsError`] naming the errno and what the file system logged.
pub fn new_fs(
    fstype: &str,
    source: &str,
    options: &[(String, Option<String>)],
    attrs: u64,
) -> Result<OwnedFd, FsError> {
    let fail = |errno: Errno, message: String| FsError { fstype: fstype.to_owned(), errno, message };
    let context =
        rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| fail(errno, String::new()))?;
    let make = || -> Result<OwnedFd, (Errno, String)> {
        if !source.is_empty() {
            rustix::mount::fsconfig_set_string(&context, "source", source).map_err(|e| (e, "source".to_owned()))?;
        }
        for (key, value) in options {
            match value {
                Some(value) => rustix::mount::fsconfig_set_string(&context, key.as_str(), value.as_str()),
                None => rustix::mount::fsconfig_set_flag(&context, key.as_str()),
            }
            .map_err(|errno| (errno, format!("option {key}")))?;
        }
        rustix::mount::fsconfig_create(&context).map_err(|errno| (errno, String::new()))?;
        let flags = MountAttrFlags::from_bits_retain(u32::try_from(attrs).unwrap_or(0));
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(|errno| (errno, String::new()))
    };
    make().map_err(|(errno, at)| {
        let log = context_log(&context);
        fail(errno, if log.is_empty() { at } else { log })
    })
}

/// What the file system said about its refusal: each read(2) of the context gives one line `e …`.
fn context_log(context: &OwnedFd) -> String {
    let mut lines = Vec::new();
    let mut line = [0u8; 512];
    while let Ok(len) = rustix::io::read(context, &mut line) {
        if len == 0 || lines.len() == 16 {
            break;
        }
        lines.push(String::from_utf8_lossy(&line[..len]).trim_end().trim_start_matches("e ").to_owned());
    }
    lines.join("; ")
}

/// A detached copy of the mount at `path` below `dir` (an empty path: of what `dir` is itself).
///
/// # Errors
/// What open_tree(2) says.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir, path, flags)
}

/// Attaches the detached mount `mount` on the very file or directory `target` is.
///
/// # Errors
/// What move_mount(2) says.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::mount::move_mount(
        mount,
        "",
        target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const AT_RECURSIVE: libc::c_int = 0x8000;

/// Changes attributes and propagation of the mount `mount` is, with `recursive` of all below it.
/// `propagation` is one of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to leave it.
///
/// # Errors
/// What mount_setattr(2) says.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    // The access time mode is a value: naming a new one takes clearing the old.
    let clear = if set & attr::ATIME != 0 { clear | attr::ATIME } else { clear };
    let mut attr = MountAttr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the empty path is a NUL-terminated constant and `attr` a mount_attr of the size passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Maps the ids of a detached mount through a user namespace (`MOUNT_ATTR_IDMAP`).
///
/// # Errors
/// What mount_setattr(2) says.
pub fn set_idmap(mount: BorrowedFd<'_>, userns: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
    let mut attr = MountAttr {
        attr_set: attr::IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(userns.as_raw_fd().unsigned_abs()),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: as in `set_attributes`; the user namespace descriptor is borrowed for the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Cuts every mount of the calling namespace off from its peers, so that nothing done here is seen outside.
///
/// # Errors
/// What mount(2) says.
pub fn make_all_private() -> Result<(), Errno> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// Makes the mount that the working directory is the root of the namespace and drops the old root.
/// The working directory is the new root afterwards.
///
/// # Errors
/// What pivot_root(2) or umount(2) says; `EBUSY` when something of the old root cannot be got rid of.
pub fn pivot_to_cwd() -> Result<(), Errno> {
    // Old root stacked on the new one: no directory is needed to put it, and the topmost is the old one.
    rustix::process::pivot_root(".", ".")?;
    unmount_detached(c".")?;
    rustix::process::chdir("/")?;
    // What was itself stacked on the old root has come along and hidden it from the unmount. Nothing
    // may stay: a walk through `/..` or setns(2) would end up there.
    for _ in 0..64 {
        if mount_id("/")? == mount_id("/..")? {
            return Ok(());
        }
        unmount_detached(c"/..")?;
    }
    Err(Errno::BUSY)
}

/// Where a handle (`O_PATH`) is: its mount's number in `/proc/self/mountinfo`, and whether it is a directory. File
/// systems on a network are not asked.
///
/// # Errors
/// What statx(2) says.
pub fn place(handle: BorrowedFd<'_>) -> Result<(u64, bool), Errno> {
    use rustix::fs::{AtFlags, FileType, StatxFlags};
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(handle, "", flags, StatxFlags::MNT_ID | StatxFlags::TYPE)?;
    Ok((stat.stx_mnt_id, FileType::from_raw_mode(stat.stx_mode.into()).is_dir()))
}

fn mount_id(path: &str) -> Result<u64, Errno> {
    use rustix::fs::{AtFlags, StatxFlags};
    rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id)
}

/// Takes a mount out of the namespace at once; the kernel lets go of it when the last user does.
///
/// # Errors
/// What umount2(2) says.
pub fn unmount_detached(path: &CStr) -> Result<(), Errno> {
    rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
}
