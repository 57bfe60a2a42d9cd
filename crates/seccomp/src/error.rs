//! Why a profile was refused. Every text names the position in the document (`syscalls[3].args[0].index`,
//! counted from 0), what is wrong there and what to do; callers show it as it is.

use crate::profile::{MAX_ERRNO, MAX_TRACE_MESSAGE};

/// Why a profile was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Rules are given but no default action.
    #[error("seccomp profile: defaultAction is missing though there are rules; add one, for example SCMP_ACT_ERRNO")]
    NoDefaultAction,
    /// `SCMP_ACT_NOTIFY` for every call, so also for those by which the listener is handed over.
    #[error(
        "seccomp profile: SCMP_ACT_NOTIFY cannot be used as default action, since handing over the listener would \
         wait for the listener; list the calls to be notified of in syscalls"
    )]
    NotifyByDefault,
    /// `SCMP_ACT_NOTIFY` for write(2), by which the listener is handed over.
    #[error(
        "seccomp profile: {at}: SCMP_ACT_NOTIFY cannot be used for the write syscall, since handing over the \
         listener would wait for the listener; remove it"
    )]
    NotifyWrite {
        /// Position of the name.
        at: String,
    },
    /// `SCMP_ACT_NOTIFY` without `listenerPath`: nobody would answer.
    #[error("seccomp profile: {at} is SCMP_ACT_NOTIFY but listenerPath is not set; name the listener's socket there")]
    NoListener {
        /// Position of the action.
        at: String,
    },
    /// `listenerMetadata` without `listenerPath`.
    #[error("seccomp profile: listenerMetadata is set but listenerPath is not; set both or neither")]
    MetadataWithoutListener,
    /// `name` and `names` in one rule.
    #[error("seccomp profile: {at} has both 'name' and 'names'; keep one of them")]
    NameAndNames {
        /// Position of the rule.
        at: String,
    },
    /// A rule names no system call.
    #[error("seccomp profile: {at} names no system call; give 'names' at least one")]
    NoNames {
        /// Position of the rule.
        at: String,
    },
    /// A name that is empty.
    #[error("seccomp profile: {at} is empty; name a system call")]
    EmptyName {
        /// Position of the name.
        at: String,
    },
    /// `architectures` and `archMap` in one profile.
    #[error("seccomp profile has both 'architectures' and 'archMap'; keep one of them")]
    ArchitecturesAndArchMap,
    /// An architecture that libseccomp does not know either.
    #[error("seccomp profile: {at}: architecture '{name}' is unknown; use a name such as SCMP_ARCH_X86_64")]
    UnknownArchitecture {
        /// Position of the name.
        at: String,
        /// The name, cut after 64 characters.
        name: String,
    },
    /// Argument index beyond the six a system call has.
    #[error("seccomp profile: {at} is {index}; arguments are numbered 0 to 5")]
    ArgumentIndex {
        /// Position of the index.
        at: String,
        /// The index given.
        index: u32,
    },
    /// An errno that no system call can return.
    #[error("seccomp profile: {at} is {value}; errno values go from 0 to {MAX_ERRNO}")]
    Errno {
        /// Position of the value.
        at: String,
        /// The value given.
        value: u32,
    },
    /// A message for the tracer that does not fit.
    #[error("seccomp profile: {at} is {value}; what a tracer is told goes from 0 to {MAX_TRACE_MESSAGE}")]
    TraceMessage {
        /// Position of the value.
        at: String,
        /// The value given.
        value: u32,
    },
    /// A flag this engine does not know.
    #[error("seccomp profile: {at}: flag '{name}' is unknown; see seccomp(2) for SECCOMP_FILTER_FLAG_ names")]
    UnknownFlag {
        /// Position of the flag.
        at: String,
        /// The name, cut after 64 characters.
        name: String,
    },
    /// A flag about notifications in a profile that has none; seccomp(2) refuses it.
    #[error(
        "seccomp profile: {at}: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY; remove it"
    )]
    FlagWithoutNotify {
        /// Position of the flag.
        at: String,
    },
    /// The profile or the program made from it is larger than the kernel takes.
    #[error("seccomp profile is too large: {what} {count} exceeds {limit}; merge or drop rules")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many there are, at least.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
}

impl Error {
    /// The position in the profile that the error is about, or nothing when it is about the whole.
    #[must_use]
    pub fn at(&self) -> Option<&str> {
        match self {
            Self::NotifyWrite { at }
            | Self::NoListener { at }
            | Self::NameAndNames { at }
            | Self::NoNames { at }
            | Self::EmptyName { at }
            | Self::UnknownArchitecture { at, .. }
            | Self::ArgumentIndex { at, .. }
            | Self::Errno { at, .. }
            | Self::TraceMessage { at, .. }
            | Self::UnknownFlag { at, .. }
            | Self::FlagWithoutNotify { at } => Some(at),
            Self::NoDefaultAction | Self::NotifyByDefault => Some("defaultAction"),
            Self::MetadataWithoutListener => Some("listenerPath"),
            Self::ArchitecturesAndArchMap | Self::TooLarge { .. } => None,
        }
    }
}
