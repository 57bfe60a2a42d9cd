//! Seccomp: a Docker or OCI profile becomes one classic BPF program.
//!
//! The daemon parses a profile ([`Profile`]), picks the rules that hold for a container ([`Context`])
//! and gets from [`compile`] the bytes of a `struct sock_filter` array, ready for seccomp(2). Nothing
//! here talks to the kernel; the program is loaded by the code that spawns the container.
//!
//! Invariant: for every architecture, system call number and argument vector the program returns what
//! a naive reading of the profile returns (`tests/oracle.rs` proves it with an interpreter).

mod arch;
mod assembler;
mod caps;
mod check;
mod compile;
mod default_profile;
mod error;
pub mod known;
mod order;
mod policy;
mod profile;
pub mod syscall;

pub use arch::Arch;
pub use check::check;
pub use compile::compile;
pub use error::Error;
pub use profile::{
    Action, ArchMapEntry, Arg, Conditions, Context, FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_TSYNC,
    FLAG_WAIT_KILLABLE_RECV, KernelVersion, MAX_ERRNO, MAX_TRACE_MESSAGE, Op, Profile, Rule,
};
