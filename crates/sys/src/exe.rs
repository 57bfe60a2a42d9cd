//! The running program's own file, out of reach of what it starts.
//!
//! A container can name the program that made it (`#!/proc/self/exe`) and open that file for writing when it is
//! free again. So a runtime executes itself anew from where writing is impossible: a read-only mount attached
//! nowhere, or a sealed copy in memory where mounts are not ours to make.
//! Called by `oci-runtime` as the first thing; the engine does the same for the shim through [`crate::spawn`].

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};

use crate::process::{self, CArray};
use crate::{Errno, mount};

/// The program of the calling process. A magic link: it is the file, not a path.
const OWN: &str = "/proc/self/exe";

/// Executes the calling program anew from a place that cannot be written to, unless it runs from one. Returns
/// when it does.
///
/// # Errors
/// What execve(2) says, or the copy: with a host that has neither mounts nor memory files for us.
pub fn protect(args: &CArray, env: &CArray) -> Result<(), Errno> {
    let own = rustix::fs::open(OWN, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if is_protected(own.as_fd()) {
        return Ok(());
    }
    let file = read_only_mount().or_else(|_| sealed_copy())?;
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| Errno::INVAL)?;
    Err(process::execve(&path, args, env))
}

/// Whether nothing can write to the file through the mount it was executed from.
fn is_protected(own: BorrowedFd<'_>) -> bool {
    if rustix::fs::fstatvfs(own).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return true;
    }
    let seals = || -> Result<SealFlags, Errno> {
        // A handle has no seals to show; the file itself has.
        let file = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::fcntl_get_seals(file)
    };
    seals().is_ok_and(|seals| seals.contains(SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK))
}

fn read_only_mount() -> Result<OwnedFd, Errno> {
    let file = mount::clone_tree(rustix::fs::CWD, Path::new(OWN), false)?;
    mount::set_attributes(file.as_fd(), mount::attr::RDONLY | mount::attr::NOSUID, 0, 0, false)?;
    Ok(file)
}

fn sealed_copy() -> Result<OwnedFd, Errno> {
    let source = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Executable memory files must be asked for where the host forbids them by default (Linux 6.3).
    let copy = match rustix::fs::memfd_create("program", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("program", flags)?,
        other => other?,
    };
    let mut rest = u64::try_from(rustix::fs::fstat(&source)?.st_size).map_err(|_| Errno::INVAL)?;
    while rest > 0 {
        let step = usize::try_from(rest).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::sendfile(&copy, &source, None, step)? {
            0 => return Err(Errno::IO),
            copied => rest = rest.saturating_sub(copied as u64),
        }
    }
    rustix::fs::fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy)
}
