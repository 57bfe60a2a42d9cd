//! Scheduling, placement and execution domain of the calling thread, which a program inherits over execve.
//! Called by `runtime`.

use crate::Errno;
use crate::raw::check;

/// `struct sched_attr` of linux/sched/types.h, first version (48 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedAttr {
    /// Bytes of this structure; the call fills it in.
    pub size: u32,
    /// `SCHED_*` (sched(7)).
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Sets policy and parameters (sched_setattr(2)).
///
/// # Errors
/// `EPERM` for a real-time policy without `CAP_SYS_NICE`, `EINVAL` for parameters that do not fit the policy,
/// `EBUSY` when a deadline cannot be guaranteed.
pub fn set_scheduler(mut attr: SchedAttr) -> Result<(), Errno> {
    attr.size = size_of::<SchedAttr>() as u32;
    // SAFETY: `attr` is a sched_attr of the size it names and outlives the call; process 0 is the caller.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// Sets I/O class (bits 13 to 15) and priority within it (ioprio_set(2)).
///
/// # Errors
/// `EPERM` for the real-time class without `CAP_SYS_ADMIN` or `CAP_SYS_NICE`, `EINVAL`.
pub fn set_io_priority(value: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: integers only; 0 is the caller.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, libc::c_int::from(value)) }).map(drop)
}

/// Restricts the caller to the CPUs whose bits are set, bit n of word n / 64 (sched_setaffinity(2)).
///
/// # Errors
/// `EINVAL` when none of them is online or allowed by the caller's cpuset.
pub fn set_affinity(cpus: &[u64]) -> Result<(), Errno> {
    // SAFETY: the mask and its length in bytes describe one live slice; process 0 is the caller.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(cpus), cpus.as_ptr()) }).map(drop)
}

/// Sets the execution domain (personality(2)).
///
/// # Errors
/// `EINVAL` for a domain the kernel does not know.
pub fn set_personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: an integer only.
    check(unsafe { libc::personality(libc::c_ulong::from(domain)) }.into()).map(drop)
}

/// Sets from which nodes memory is taken (set_mempolicy(2)); bit n of word n / 64 is node n.
///
/// # Errors
/// `EINVAL` for nodes the host does not have or a mode the kernel does not know.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> Result<(), Errno> {
    // The kernel takes one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask is null with length 0, or `nodes`, of which the kernel reads whole words that are there.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}
