//! Loading of a compiled seccomp program (seccomp(2), cBPF), with or without a listener for its notifications.
//! Called by `runtime`; the programs come from the `seccomp` crate as bytes.

use std::os::fd::{FromRawFd, OwnedFd};

use crate::Errno;
use crate::raw::check;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
pub const NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_TSYNC`, which only matters to processes of several threads.
pub const TSYNC: u32 = 1;

/// Most instructions the kernel takes: `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// Installs `program`, an array of `struct sock_filter` in native byte order, for the calling thread
/// and all it becomes. `flags` are `SECCOMP_FILTER_FLAG_*` bits; with [`NEW_LISTENER`] the answer is the
/// listener, close-on-exec (seccomp_unotify(2)).
///
/// # Errors
/// `EINVAL` for an empty, overlong or ragged program or one the kernel rejects, `EACCES` without
/// `CAP_SYS_ADMIN` and no_new_privs.
pub fn load(program: &[u8], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    let (instructions, rest) = program.as_chunks::<8>();
    if instructions.is_empty() || !rest.is_empty() || instructions.len() > MAX_INSTRUCTIONS {
        return Err(Errno::INVAL);
    }
    let filters: Vec<libc::sock_filter> = instructions
        .iter()
        .map(|i| libc::sock_filter {
            code: u16::from_ne_bytes([i[0], i[1]]),
            jt: i[2],
            jf: i[3],
            k: u32::from_ne_bytes([i[4], i[5], i[6], i[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(filters.len()).map_err(|_| Errno::INVAL)?,
        filter: filters.as_ptr().cast_mut(),
    };
    // One thread needs no other synchronised, and with a listener the two flags exclude each other.
    let flags = flags & !TSYNC;
    // SAFETY: `program` points at `len` initialised filters that outlive the call; the kernel copies and verifies them.
    let ret =
        check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) })?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    let listener = i32::try_from(ret).map_err(|_| Errno::BADF)?;
    // SAFETY: with the flag the kernel returns a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(listener) }))
}
