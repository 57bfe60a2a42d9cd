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
mod compile;
mod default_profile;
mod policy;
mod profile;
pub mod syscall;

pub use arch::Arch;
pub use compile::compile;
pub use profile::{
    Action, ArchMapEntry, Arg, Conditions, Context, FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_TSYNC,
    FLAG_WAIT_KILLABLE_RECV, KernelVersion, MAX_ERRNO, Op, Profile, Rule,
};

/// Why a profile was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Rules are given but no default action.
    #[error("seccomp profile has rules but no defaultAction; add one, for example SCMP_ACT_ERRNO")]
    NoDefaultAction,
    /// `name` and `names` in one rule.
    #[error("seccomp rule {rule} has both 'name' and 'names'; keep one of them")]
    NameAndNames {
        /// Position of the rule in `syscalls`, from 0.
        rule: usize,
    },
    /// A rule names no system call.
    #[error("seccomp rule {rule} names no system call; give 'names' at least one")]
    NoNames {
        /// Position of the rule in `syscalls`, from 0.
        rule: usize,
    },
    /// `architectures` and `archMap` in one profile.
    #[error("seccomp profile has both 'architectures' and 'archMap'; keep one of them")]
    ArchitecturesAndArchMap,
    /// An architecture that libseccomp does not know either.
    #[error("seccomp architecture '{0}' is unknown; use a name such as SCMP_ARCH_X86_64")]
    UnknownArchitecture(String),
    /// Argument index beyond the six a system call has.
    #[error("seccomp rule {rule} compares argument {index}; arguments are numbered 0 to 5")]
    ArgumentIndex {
        /// Position of the rule in `syscalls`, from 0.
        rule: usize,
        /// The index given.
        index: u32,
    },
    /// `errnoRet` that no system call can return.
    #[error("seccomp errnoRet {0} is out of range; errno values go from 0 to {MAX_ERRNO}")]
    Errno(u32),
    /// A flag this engine does not know.
    #[error("seccomp flag '{0}' is unknown; see seccomp(2) for SECCOMP_FILTER_FLAG_ names")]
    UnknownFlag(String),
    /// The profile or the program made from it is larger than the kernel takes.
    #[error("seccomp profile is too large: {what} {count} exceeds {limit}; merge or drop rules")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
}
