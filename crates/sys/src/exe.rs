//! The running program's own file, out of reach of what it starts.
//!
//! A container can name the program that made it (`#!/proc/self/exe`) and open that file for writing when it is
//! free again. So a runtime executes itself anew from where writing is impossible: a read-only mount attached
//! nowhere, or a sealed copy in memory where mounts are not ours to make. Once it runs from the mount, nothing is
//! executed from there again: a container that could execute the file would hold it, and who asks for writing again and
//! again, be it refused every time, keeps others from executing the file (`ETXTBSY`, execve(2)).
//! Called by `oci-runtime` as the first thing; [`crate::spawn`] does the same for the engine's shim, which is executed
//! many times and runs as long as its container does.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::FdFlags;

use crate::process::{self, CArray};
use crate::{Errno, mount};

/// The program of the calling process. A magic link: it is the file, not a path.
const OWN: &str = "/proc/self/exe";

/// Environment variable that names the mount to the program executed from it: the process's number, which it keeps and
/// none that inherits the variable has, and the descriptor's.
const HANDED: &str = "DHOW_EXE";

/// Executes the calling program anew, with its arguments and environment, from a place that cannot be written to, unless
/// it runs from one. Returns when it does.
///
/// # Errors
/// What execve(2) says, or the copy: with a host that has neither mounts nor memory files for us. `EPERM` when the place
/// handed over is not what the program runs from.
pub fn protect() -> Result<(), Errno> {
    if let Some(file) = handed() {
        mount::set_attributes(file.as_fd(), mount::attr::NOEXEC, 0, 0, false)?;
        return if is_closed_mount() { Ok(()) } else { Err(Errno::PERM) };
    }
    if is_sealed() {
        return Ok(());
    }
    let (file, note) = match read_only_mount() {
        Ok(file) => {
            rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
            let note = format!("{HANDED}={}:{}", std::process::id(), file.as_raw_fd());
            (file, Some(note.into_bytes()))
        }
        Err(_) => (sealed_copy()?, None),
    };
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| Errno::INVAL)?;
    let args: Vec<Vec<u8>> = std::env::args_os().map(OsString::into_vec).collect();
    let env = std::env::vars_os()
        .filter(|(key, _)| key != HANDED)
        .map(|(key, value)| [key.into_vec(), b"=".to_vec(), value.into_vec()].concat());
    let env: Vec<Vec<u8>> = env.chain(note).collect();
    let array = |items: &[Vec<u8>]| CArray::new(items.iter().map(Vec::as_slice));
    Err(process::execve(&path, &array(&args)?, &array(&env)?))
}

/// The mount this process was executed from, if it was by [`protect`].
fn handed() -> Option<OwnedFd> {
    let note = std::env::var(HANDED).ok()?;
    let (pid, number) = note.split_once(':')?;
    if pid.parse() != Ok(std::process::id()) {
        return None;
    }
    let number = number.parse().ok().filter(|number| *number > 2)?;
    // SAFETY: this process opened the descriptor for this very use before it executed itself, and nothing else of it
    // knows the number.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether the file can be neither written to nor executed through the mount it was executed from.
fn is_closed_mount() -> bool {
    let closed = StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOEXEC;
    rustix::fs::statvfs(OWN).is_ok_and(|fs| fs.f_flag.contains(closed))
}

fn is_sealed() -> bool {
    let seals = || -> Result<SealFlags, Errno> {
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
