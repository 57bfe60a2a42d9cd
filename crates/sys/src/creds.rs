//! Users, groups, capabilities and the flags beside them, of the calling thread.
//!
//! Every function acts on one thread only: the callers are single-threaded children on their way to execve, or threads that
//! do without a capability for a while.
//! Called by `runtime`, and by `engine` for what limits of volumes hold.

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::Errno;
use crate::raw::check;

/// Capability sets as bits, bit n being capability n (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

/// `CAP_NET_ADMIN`.
pub const CAP_NET_ADMIN: u64 = 1 << 12;
/// `CAP_MKNOD`.
pub const CAP_MKNOD: u64 = 1 << 27;
/// `CAP_SYS_ADMIN`.
pub const CAP_SYS_ADMIN: u64 = 1 << 21;
/// `CAP_SYS_RESOURCE`.
pub const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// The sets the calling thread holds.
///
/// # Errors
/// What capget(2) says.
pub fn capabilities() -> Result<Capabilities, Errno> {
    let sets = rustix::thread::capabilities(None)?;
    Ok(Capabilities {
        effective: sets.effective.bits(),
        permitted: sets.permitted.bits(),
        inheritable: sets.inheritable.bits(),
    })
}

/// Replaces the sets of the calling thread.
///
/// # Errors
/// What capset(2) says.
pub fn set_capabilities(sets: Capabilities) -> Result<(), Errno> {
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::from_bits_retain(sets.effective),
            permitted: CapabilitySet::from_bits_retain(sets.permitted),
            inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
        },
    )
}

/// The bounding set.
///
/// # Errors
/// What prctl(2) says, a filter's refusal above all: a set that cannot be read must not pass for an empty one.
pub fn bounding_set() -> Result<u64, Errno> {
    let mut set = 0;
    for cap in 0..64u32 {
        // SAFETY: PR_CAPBSET_READ takes integers only.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_READ, cap as libc::c_ulong, 0, 0, 0) }.into()) {
            Ok(0) => {}
            Ok(_) => set |= 1 << cap,
            Err(Errno::INVAL) if cap > 0 => return Ok(set),
            Err(errno) => return Err(errno),
        }
    }
    Ok(set)
}

/// Takes every capability not in `keep` out of the bounding set.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`, unless nothing is to be taken out.
pub fn limit_bounding_set(keep: u64) -> Result<(), Errno> {
    for cap in (0..64u32).filter(|cap| keep & (1 << cap) == 0) {
        // SAFETY: PR_CAPBSET_DROP takes integers only.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap as libc::c_ulong, 0, 0, 0) }.into()) {
            Ok(_) => {}
            // Capabilities are numbered without gaps: this kernel knows no more.
            Err(Errno::INVAL) => break,
            Err(Errno::PERM) if bounding_set()? & !keep == 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Makes the ambient set exactly `set`.
///
/// # Errors
/// `EPERM` for a capability that is not both permitted and inheritable.
pub fn set_ambient(set: u64) -> Result<(), Errno> {
    // SAFETY: PR_CAP_AMBIENT takes integers only.
    match check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) }.into()) {
        // Before Linux 4.3 there is no ambient set to clear.
        Ok(_) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    for cap in (0..64u32).filter(|cap| set & (1 << cap) != 0) {
        let cap = libc::c_ulong::from(cap);
        // SAFETY: as above.
        let ret = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, cap, 0, 0) };
        check(ret.into())?;
    }
    Ok(())
}

/// Whether permitted capabilities survive leaving user id 0.
///
/// # Errors
/// What prctl(2) says.
pub fn set_keep_capabilities(on: bool) -> Result<(), Errno> {
    rustix::thread::set_keep_capabilities(on)
}

/// Becomes user and group 0 of the user namespace entered, keeping whatever supplementary groups the caller had:
/// dropping them may be forbidden there (`/proc/PID/setgroups`).
///
/// # Errors
/// `EINVAL` when the namespace maps no id 0, `EPERM` before ids are mapped.
pub fn become_namespace_root() -> Result<(), Errno> {
    match rustix::thread::set_thread_groups(&[]) {
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let gid = rustix::fs::Gid::ROOT;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = rustix::fs::Uid::ROOT;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Sets supplementary groups, then all group ids, then all user ids.
///
/// # Errors
/// What setgroups(2), setresgid(2) or setresuid(2) says.
pub fn set_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    // The ids -1 mean "leave as it is" to the kernel: never what a container asked for.
    if uid == u32::MAX || gid == u32::MAX || groups.contains(&u32::MAX) {
        return Err(Errno::INVAL);
    }
    let groups: Vec<_> = groups.iter().map(|gid| rustix::fs::Gid::from_raw(*gid)).collect();
    match rustix::thread::set_thread_groups(&groups) {
        // In a user namespace that may not set groups; with none asked for there is nothing to lose but those held.
        Err(Errno::PERM) if groups.is_empty() => {}
        other => other?,
    }
    let gid = rustix::fs::Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = rustix::fs::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Promises that no execve will ever grant more privileges (`PR_SET_NO_NEW_PRIVS`).
///
/// # Errors
/// What prctl(2) says.
pub fn set_no_new_privileges() -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)
}

/// Whether others of the same user may look into this process now.
///
/// # Errors
/// What prctl(2) says.
pub fn is_dumpable() -> Result<bool, Errno> {
    rustix::process::dumpable_behavior().map(|behavior| behavior == rustix::process::DumpableBehavior::Dumpable)
}

/// Whether others of the same user may look into this process. Not dumpable also means that
/// `/proc/self/exe` and `/proc/self/fd` are closed to a container the process has entered.
///
/// # Errors
/// What prctl(2) says.
pub fn set_dumpable(on: bool) -> Result<(), Errno> {
    use rustix::process::DumpableBehavior::{Dumpable, NotDumpable};
    rustix::process::set_dumpable_behavior(if on { Dumpable } else { NotDumpable })
}
