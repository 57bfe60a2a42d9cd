//! eBPF programs that decide device access of a v2 control group (bpf(2)).
//! Called by `cgroup`, which writes the instructions.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::Errno;
use crate::raw::check;

/// Most instructions accepted here, far above what a device list needs.
const MAX_INSTRUCTIONS: usize = 65_536;
/// Most programs looked for on one group: `BPF_CGROUP_MAX_PROGS`.
const MAX_PROGRAMS: usize = 64;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The same for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// The same for `BPF_PROG_QUERY`.
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The same for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// # Safety
/// `A` must be laid out as the part of `union bpf_attr` that `command` reads, and every address in it must be
/// valid for what the kernel does with it.
unsafe fn bpf<A>(command: libc::c_int, attr: &mut A) -> Result<libc::c_long, Errno> {
    // SAFETY: the pointer and length are of one live object; the rest is the caller's promise.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<A>()) })
}

fn fd(raw: RawFd) -> u32 {
    // Descriptors of live objects are never negative.
    raw as u32
}

/// Loads `instructions`, each a `struct bpf_insn` in native order, as a device program.
///
/// # Errors
/// `EINVAL` or `EACCES` for a program the verifier refuses, `EPERM` without CAP_BPF or CAP_SYS_ADMIN.
pub fn load_cgroup_device(instructions: &[u64]) -> Result<OwnedFd, Errno> {
    if instructions.is_empty() || instructions.len() > MAX_INSTRUCTIONS {
        return Err(Errno::INVAL);
    }
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: LoadAttr has the layout of the load attributes; instructions and licence outlive the call.
    let raw = unsafe { bpf(BPF_PROG_LOAD, &mut attr) }?;
    // SAFETY: on success the kernel returns a new descriptor that nobody else owns (close-on-exec is set).
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}

/// Makes `program` the only device program attached to `group` itself, an open v2 directory. The new one is in
/// force before the old ones go, so access is never wider than either allows.
///
/// # Errors
/// Those of bpf(2): `EPERM` without privilege, `EINVAL` if the kernel lacks device programs.
pub fn replace_cgroup_device(group: impl AsFd, program: impl AsFd) -> Result<(), Errno> {
    let target = fd(group.as_fd().as_raw_fd());
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut query = QueryAttr {
        target_fd: target,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_PROGRAMS as u32,
        padding: 0,
    };
    // SAFETY: QueryAttr has the layout of the query attributes; `ids` has room for `prog_cnt` numbers.
    unsafe { bpf(BPF_PROG_QUERY, &mut query) }?;
    let count = (query.prog_cnt as usize).min(MAX_PROGRAMS);
    attach(BPF_PROG_ATTACH, target, fd(program.as_fd().as_raw_fd()), BPF_F_ALLOW_MULTI)?;
    for &id in &ids[..count] {
        let mut attr = IdAttr { prog_id: id, next_id: 0, open_flags: 0 };
        // SAFETY: IdAttr has the layout of the id attributes and holds no address.
        let raw = match unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) } {
            Ok(raw) => raw,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e),
        };
        // SAFETY: on success the kernel returns a new descriptor that nobody else owns.
        let old = unsafe { OwnedFd::from_raw_fd(raw as RawFd) };
        match attach(BPF_PROG_DETACH, target, fd(old.as_raw_fd()), 0) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn attach(command: libc::c_int, target_fd: u32, attach_bpf_fd: u32, attach_flags: u32) -> Result<(), Errno> {
    let mut attr = AttachAttr { target_fd, attach_bpf_fd, attach_type: BPF_CGROUP_DEVICE, attach_flags };
    // SAFETY: AttachAttr has the layout of the attach attributes and holds no address.
    unsafe { bpf(command, &mut attr) }.map(drop)
}
