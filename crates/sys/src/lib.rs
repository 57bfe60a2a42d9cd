//! System calls with safe faces: the only crate of the project with unsafe code.
//!
//! What rustix offers is used and re-shaped; the rest (clone3, mount_setattr, seccomp, close_range, …)
//! is called here. Nothing here makes policy: callers decide, this crate calls and reports the errno.

#![allow(unsafe_code)]

pub mod bpf;
pub mod clone;
pub mod creds;
pub mod datagram;
pub mod exe;
pub mod fd;
pub mod keyring;
pub mod landlock;
pub mod loopback;
pub mod memfd;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink_option;
pub mod netns;
pub mod path;
pub mod process;
pub mod pty;
pub mod quota;
pub mod sched;
pub mod seccomp;
pub mod socket;
pub mod spawn;
pub mod syscall;
pub mod writeback;

mod raw;

pub use rustix::io::Errno;
