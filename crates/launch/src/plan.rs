//! The launch plan: everything a container process needs, resolved to numbers, bytes and open
//! descriptors. Whoever executes a plan makes no choice and reads no configuration.

use serde::{Deserialize, Serialize};

/// Index into the descriptors that accompany a plan, in the order they were sent.
pub type FdIndex = u16;

/// Environment and arguments are bytes: the kernel does not ask for UTF-8.
pub type EnvBlock = Vec<Vec<u8>>;

/// A container from nothing to its first instruction.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct LaunchPlan {
    /// 64 lower-case hexadecimal digits.
    pub container_id: String,
    /// Directory (tmpfs, mode 0700, exists) where the shim makes its control socket `shim.sock`,
    /// its pid file `pid`, and, at the end, the exit record `exit`.
    pub run_dir: String,
    pub namespaces: NamespaceSet,
    pub rootfs: RootFs,
    /// Mounts in the order they are made, after the root is in place. Targets resolve inside the root.
    pub mounts: Vec<Mount>,
    /// Device nodes made in `/dev` (a tmpfs among `mounts`), or bound when the nodes cannot be made.
    pub devices: Vec<DeviceNode>,
    /// Paths hidden behind `/dev/null` (files) or an empty read-only tmpfs (directories). Missing ones are skipped.
    pub masked_paths: Vec<String>,
    /// Paths made read-only, recursively. Missing ones are skipped.
    pub readonly_paths: Vec<String>,
    /// Make the root itself read-only after every mount is in place.
    pub readonly_rootfs: bool,
    /// Written under `/proc/sys` from inside the new namespaces.
    pub sysctls: Vec<Sysctl>,
    /// Empty: leave the name as it is (shared UTS namespace).
    pub hostname: String,
    pub domainname: String,
    pub cgroup: CgroupHandle,
    pub process: Process,
    pub io: IoMode,
    pub log: LogConfig,
    /// Run our own init as PID 1, which forwards signals and reaps, with the user's process as its child (`--init`).
    pub init: bool,
    /// Read once at exit to learn whether the kernel killed for memory: v1 `memory.oom_control`
    /// or v2 `memory.events`, both of which hold a line `oom_kill N`.
    pub oom_fd: Option<FdIndex>,
}

/// Namespaces of a container. `New` is made by clone, `Join` entered through an open descriptor.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum NamespaceSource {
    /// A fresh namespace by clone, with only loopback, brought up.
    New,
    /// The namespace behind the descriptor.
    Join(FdIndex),
    /// The one the shim itself lives in.
    Host,
}

/// Where each namespace comes from. The mount namespace is always new.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct NamespaceSet {
    pub net: NamespaceSource,
    pub pid: NamespaceSource,
    pub ipc: NamespaceSource,
    pub uts: NamespaceSource,
    pub cgroup: NamespaceSource,
}

/// How the root comes to be.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum RootFs {
    /// A detached mount (fsmount or open_tree) ready to be attached.
    Detached(FdIndex),
    /// A directory, bound recursively.
    Directory(String),
}

/// One mount of the container.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// Absolute path as the container sees it; made when missing, never followed out of the root.
    pub target: String,
    /// `MOUNT_ATTR_*` bits (linux/mount.h): RDONLY 1, NOSUID 2, NODEV 4, NOEXEC 8, NOATIME 0x10, STRICTATIME 0x20 …
    pub attrs: u64,
    /// Apply `attrs` to the whole tree below, not only to the top.
    pub recursive: bool,
    /// `MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE`, with `MS_REC` where wanted; 0 leaves it private.
    pub propagation: u64,
    /// Target is a regular file: create a file, not a directory, when it is missing.
    pub file: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum MountKind {
    /// A file system made by fsopen: its type, then key/value options (no value: a flag).
    Fs { fstype: String, source: String, options: Vec<(String, Option<String>)> },
    /// A detached bind mount the daemon opened (open_tree with CLONE), so the source is pinned.
    Detached(FdIndex),
    /// The cgroup hierarchies, in the form of the host: v2 one mount, v1 a tmpfs with one bind per controller
    /// holding the container's own group.
    Cgroup,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct DeviceNode {
    /// Absolute path in the container.
    pub path: String,
    /// `S_IFCHR`/`S_IFBLK` and permission bits.
    pub mode: u32,
    pub major: u32,
    pub minor: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Sysctl {
    /// Dotted or slashed key, for example `net.ipv4.ip_forward`.
    pub key: String,
    pub value: String,
    /// Engine default: a refusal is a warning. Asked for by the user: a refusal fails the start.
    pub optional: bool,
}

/// The container's control group, already made and limited by the daemon.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, Default)]
pub struct CgroupHandle {
    /// Directory of the v2 group, for CLONE_INTO_CGROUP.
    pub v2_dir: Option<FdIndex>,
    /// Open `tasks` of each v1 hierarchy; the child, which has one thread, writes `0` to each.
    pub v1_tasks: Vec<FdIndex>,
    /// v1 only, for [`MountKind::Cgroup`]: host directory of the group and the name to show it under
    /// (for example `cpu,cpuacct`).
    pub v1_mounts: Vec<(String, String)>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_*` number (asm-generic/resource.h).
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
    /// Engine default: a refusal is ignored.
    pub optional: bool,
}

/// The user's process: credentials, limits and what to execute.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Process {
    /// Argument vector; `args[0]` without a slash is searched in the `PATH` of `env`.
    pub args: Vec<Vec<u8>>,
    pub env: EnvBlock,
    /// Absolute; made (0755, root) when missing, as Docker does.
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, in addition to nothing: the list is complete.
    pub groups: Vec<u32>,
    /// Capability bit sets, bit n = capability n. Inheritable is always empty.
    pub bounding: u64,
    pub permitted: u64,
    pub effective: u64,
    pub ambient: u64,
    pub no_new_privileges: bool,
    /// A compiled cBPF program: `struct sock_filter` array in native byte order. None: unconfined.
    pub seccomp: Option<Vec<u8>>,
    pub rlimits: Vec<Rlimit>,
    /// Written to `/proc/self/oom_score_adj`; refusals of a lower value than allowed are ignored.
    pub oom_score_adj: Option<i32>,
    /// Umask, 0o022 unless told otherwise.
    pub umask: u32,
    /// Profile for `/proc/self/attr/apparmor/exec`, when the host has AppArmor.
    pub apparmor: Option<String>,
}

/// Standard streams of a process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum IoMode {
    /// A pseudo terminal; also bound at `/dev/console` for a container.
    Terminal(Terminal),
    /// Pipes. Without `stdin` the process reads `/dev/null`. With `stdin_once` standard input is
    /// closed when the first client that attached to it goes; without it only an explicit close of
    /// the write side by a client ends it when `stdin_once` is set too.
    Pipes { stdin: bool, stdin_once: bool },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Terminal {
    pub rows: u16,
    pub cols: u16,
    /// Keep a client's input path open (`-i`).
    pub stdin: bool,
    pub stdin_once: bool,
}

/// The container's log file, owned by the shim.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum LogConfig {
    None,
    /// Docker's json-file: `{"log":"…\n","stream":"stdout","time":"…"}` a line, RFC 3339 with nanoseconds.
    JsonFile {
        path: String,
        /// Bytes after which the file rotates to `path.1` … ; 0: never.
        max_size: u64,
        /// Files kept, the live one included; at least 1.
        max_files: u32,
        /// Extra `"attrs":{…}` JSON object appended to each line (labels, env log options), or empty.
        attrs_json: String,
    },
}

/// A further process in a running container.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct ExecPlan {
    /// 64 lower-case hexadecimal digits.
    pub exec_id: String,
    pub process: Process,
    pub io: IoMode,
    /// Group of the container, so that the exec is accounted to it.
    pub cgroup: CgroupHandle,
}
