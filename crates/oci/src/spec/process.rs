//! The process of a container (runtime-spec, config.md "Process"), or one that joins it (`exec`). Turned into the
//! launch plan's by `oci-runtime`.

use serde::Deserialize;

use super::capabilities::Names;
use super::{Capabilities, CpuAffinity, IoPriority, Scheduler};
use crate::parse::{self, nil};
use crate::words::words;
use crate::{Fault, validate};

/// A process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Whether it has a terminal.
    #[serde(deserialize_with = "nil")]
    pub terminal: bool,
    /// The terminal's size.
    pub console_size: Option<ConsoleSize>,
    /// Whom it runs as.
    #[serde(deserialize_with = "nil")]
    pub user: User,
    /// Program and arguments.
    #[serde(deserialize_with = "nil")]
    pub args: Vec<String>,
    /// Environment, `NAME=value`.
    #[serde(deserialize_with = "nil")]
    pub env: Vec<String>,
    /// Working directory, absolute.
    #[serde(deserialize_with = "nil")]
    pub cwd: String,
    pub(crate) capabilities: Option<Names>,
    /// Resource limits.
    #[serde(deserialize_with = "nil")]
    pub rlimits: Vec<Rlimit>,
    /// Whether programs gain nothing from set-user-ID bits and file capabilities.
    #[serde(deserialize_with = "nil")]
    pub no_new_privileges: bool,
    /// AppArmor profile; empty for none.
    #[serde(deserialize_with = "nil")]
    pub apparmor_profile: String,
    /// -1000 to 1000; none leaves what it is.
    pub oom_score_adj: Option<i32>,
    /// CPU scheduling.
    pub scheduler: Option<Scheduler>,
    /// SELinux label; empty for none.
    #[serde(deserialize_with = "nil")]
    pub selinux_label: String,
    /// I/O scheduling.
    pub io_priority: Option<IoPriority>,
    /// CPUs it runs on when it joins a container.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct ConsoleSize {
    /// Rows.
    #[serde(deserialize_with = "nil")]
    pub height: u64,
    /// Columns.
    #[serde(deserialize_with = "nil")]
    pub width: u64,
}

/// Whom a process runs as, by numbers of the container's user namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User id.
    #[serde(deserialize_with = "nil")]
    pub uid: u32,
    /// Group id.
    #[serde(deserialize_with = "nil")]
    pub gid: u32,
    /// File mode creation mask; none leaves the choice to the runtime.
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(deserialize_with = "nil")]
    pub additional_gids: Vec<u32>,
}

/// A resource limit (getrlimit(2)).
#[derive(Debug, Clone, Deserialize)]
pub struct Rlimit {
    /// Of what.
    #[serde(rename = "type")]
    pub kind: RlimitKind,
    /// Up to where the soft limit may be raised; `u64::MAX` is no limit.
    pub hard: u64,
    /// What holds.
    pub soft: u64,
}

words! {
    /// What is limited.
    RlimitKind: /// `RLIMIT_*` number (asm-generic/resource.h).
    number -> u32 {
        Cpu = "RLIMIT_CPU" => 0,
        FileSize = "RLIMIT_FSIZE" => 1,
        Data = "RLIMIT_DATA" => 2,
        Stack = "RLIMIT_STACK" => 3,
        Core = "RLIMIT_CORE" => 4,
        ResidentSet = "RLIMIT_RSS" => 5,
        Processes = "RLIMIT_NPROC" => 6,
        OpenFiles = "RLIMIT_NOFILE" => 7,
        LockedMemory = "RLIMIT_MEMLOCK" => 8,
        AddressSpace = "RLIMIT_AS" => 9,
        Locks = "RLIMIT_LOCKS" => 10,
        PendingSignals = "RLIMIT_SIGPENDING" => 11,
        MessageQueues = "RLIMIT_MSGQUEUE" => 12,
        Nice = "RLIMIT_NICE" => 13,
        RealTimePriority = "RLIMIT_RTPRIO" => 14,
        RealTimeRun = "RLIMIT_RTTIME" => 15,
    }
}

impl Process {
    /// Reads the document of `exec --process`.
    ///
    /// # Errors
    /// The place of what cannot be represented.
    pub fn parse(text: &[u8]) -> Result<Self, Fault> {
        parse::document(parse::PROCESS, text)
    }

    /// Checks it, as [`crate::Spec::validate`] does.
    ///
    /// # Errors
    /// The first mistake.
    pub fn validate(&self) -> Result<Vec<String>, Fault> {
        validate::process(self)
    }

    /// The five capability sets; empty where none are given. Unknown names are in none.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities.as_ref().map(Names::bits).unwrap_or_default()
    }

    /// Names among the capabilities that no kernel known here has, once each.
    #[must_use]
    pub fn unknown_capabilities(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.capabilities.iter().flat_map(Names::unknown).map(|(_, _, name)| name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The bounding set.
    #[must_use]
    pub fn bounding(&self) -> u64 {
        self.capabilities().bounding
    }

    /// Adds capabilities to the bounding, effective and permitted sets.
    ///
    /// # Errors
    /// None at present: unknown names are warned of by [`Process::validate`], as those of a document are.
    pub fn add_capabilities(&mut self, names: &[String]) -> Result<(), Fault> {
        self.capabilities.get_or_insert_default().add(names);
        Ok(())
    }
}
