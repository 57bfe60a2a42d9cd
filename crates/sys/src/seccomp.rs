//! Loading of a compiled seccomp program (seccomp(2), cBPF).
//! Called by `runtime`; the programs come from the `seccomp` crate as bytes.

use crate::Errno;
use crate::raw::check;

/// Most instructions the kernel takes: `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// Installs `program`, an array of `struct sock_filter` in native byte order, for the calling thread
/// and all it becomes.
///
/// # Errors
/// `EINVAL` for an empty, overlong or ragged program or one the kernel rejects, `EACCES` without
/// `CAP_SYS_ADMIN` and no_new_privs.
pub fn load(program: &[u8]) -> Result<(), Errno> {
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
    // SAFETY: `program` points at `len` initialised filters that outlive the call; the kernel copies and verifies them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) }).map(drop)
}
