//! The launch plan: everything a container process needs, resolved to numbers, bytes and open
//! descriptors. Whoever executes a plan makes no choice and reads no configuration.

use serde::{Deserialize, Serialize};

/// Index into the descriptors that accompany a plan, in the order they were sent.
pub type FdIndex = u16;

/// Environment and arguments are bytes: the kernel does not ask for UTF-8.
pub type EnvBlock = Vec<Vec<u8>>;

/// A container from nothing to its first instruction.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct LaunchPlan {
    /// 64 lower-case hexadecimal digits.
    pub container_id: String,
    /// Directory (tmpfs, mode 0700, exists) where the shim makes its control socket `shim.sock`,
    /// its pid file `pid` and the exit record `exit`, which is empty until the end.
    /// After a launch that succeeded only the daemon can remove them.
    pub run_dir: String,
    pub namespaces: NamespaceSet,
    pub rootfs: RootFs,
    /// Instead of pivoting, move the root over the host's and change root (`--no-pivot`, for a host that runs from
    /// its initramfs). Weaker: the host's mounts stay below.
    pub no_pivot: bool,
    /// Propagation the root has in the end, one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` and `MS_UNBINDABLE`; 0 leaves
    /// it private. `MS_REC` means nothing here: every other mount has its own.
    pub root_propagation: u64,
    /// Offsets of the clocks in a new time namespace (time_namespaces(7)).
    pub time_offsets: Vec<TimeOffset>,
    /// Stay in the caller's session keyring.
    pub shared_keyring: bool,
    /// Mounts in the order they are made, after the root is in place. Targets resolve inside the root.
    pub mounts: Vec<Mount>,
    /// Device nodes made in `/dev` (a tmpfs among `mounts`), or bound when the nodes cannot be made.
    pub devices: Vec<DeviceNode>,
    /// The host's nodes are bound for `devices`: whoever starts the container may make none, being in a user namespace.
    pub bind_devices: bool,
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
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub enum NamespaceSource {
    /// A fresh namespace by clone; a network with only loopback, brought up.
    New,
    /// The namespace behind the descriptor.
    Join(FdIndex),
    /// The one the starter itself lives in.
    #[default]
    Host,
}

/// Where each namespace comes from.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct NamespaceSet {
    /// Never `Host`: a container cannot be had without mounts of its own.
    pub mount: NamespaceSource,
    pub net: NamespaceSource,
    pub pid: NamespaceSource,
    pub ipc: NamespaceSource,
    pub uts: NamespaceSource,
    pub cgroup: NamespaceSource,
    /// In a user namespace, new or joined, the container is set up as its user and group 0.
    pub user: NamespaceSource,
    pub time: NamespaceSource,
}

impl Default for NamespaceSet {
    /// A mount namespace of its own, all others the starter's.
    fn default() -> Self {
        let host = NamespaceSource::Host;
        Self {
            mount: NamespaceSource::New,
            net: host,
            pid: host,
            ipc: host,
            uts: host,
            cgroup: host,
            user: host,
            time: host,
        }
    }
}

/// How far a clock of a new time namespace is ahead of the host's.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct TimeOffset {
    pub clock: Clock,
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanoseconds: u32,
}

/// The clocks a time namespace has (clock_gettime(2)).
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Clock {
    Monotonic,
    Boottime,
}

/// How the root comes to be.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum RootFs {
    /// A detached mount (fsmount or open_tree) ready to be attached. It is entered before anything is mounted in it.
    Detached(FdIndex),
    /// A directory, bound recursively on itself. It is entered last: until then paths of the host can be bound,
    /// procfs can be mounted in a user namespace, and hooks see the root where the host has it.
    Directory(String),
    /// A detached mount that is entered last, for a container whose root may not reach the directory itself.
    DetachedLast(FdIndex),
}

impl Default for RootFs {
    fn default() -> Self {
        Self::Directory("/".to_owned())
    }
}

/// One mount of the container.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// Absolute path as the container sees it; made when missing, never followed out of the root.
    pub target: String,
    /// `MOUNT_ATTR_*` bits (linux/mount.h): RDONLY 1, NOSUID 2, NODEV 4, NOEXEC 8, NOATIME 0x10, STRICTATIME 0x20 …
    pub attrs: u64,
    /// The same bits, taken away from what a bind mount has of its source.
    pub clear: u64,
    /// Bits set, and taken away, on the mount and all below it.
    pub tree_attrs: u64,
    pub tree_clear: u64,
    /// `MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE`, with `MS_REC` where wanted; 0 leaves it private.
    pub propagation: u64,
    /// Target is a regular file: create a file, not a directory, when it is missing.
    pub file: bool,
    /// A tmpfs that begins with a copy of what the directory below it holds.
    pub copy_up: bool,
}

impl Mount {
    /// A mount with no option but its kind's.
    #[must_use]
    pub fn new(kind: MountKind, target: impl Into<String>) -> Self {
        Self {
            kind,
            target: target.into(),
            attrs: 0,
            clear: 0,
            tree_attrs: 0,
            tree_clear: 0,
            propagation: 0,
            file: false,
            copy_up: false,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum MountKind {
    /// A file system made by fsopen: its type, then key/value options (no value: a flag).
    Fs { fstype: String, source: String, options: Vec<(String, Option<String>)> },
    /// A detached bind mount the daemon opened (open_tree with CLONE), so the source is pinned.
    Detached(FdIndex),
    /// A bind of a path of the host, opened in the new mount namespace before anything changes there; whether the
    /// target is a file or a directory is what the source is. Only for a root that is entered last.
    Path { source: String, recursive: bool },
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
    /// The host has v2 alone and shows it so, also where no group is joined.
    pub v2_only: bool,
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
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
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
    /// Capability bit sets, bit n = capability n. Ambient ones are inheritable whatever `inheritable` says.
    pub bounding: u64,
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub ambient: u64,
    pub no_new_privileges: bool,
    /// A compiled cBPF program: `struct sock_filter` array in native byte order. None: unconfined.
    pub seccomp: Option<Vec<u8>>,
    /// `SECCOMP_FILTER_FLAG_*` bits (seccomp(2)). With `NEW_LISTENER` the starter gets the listener.
    pub seccomp_flags: u32,
    pub rlimits: Vec<Rlimit>,
    /// Written to `/proc/self/oom_score_adj` unless it is so already; a refusal is a warning. None: as the starter's,
    /// which for a protected engine is not what its containers should have.
    pub oom_score_adj: Option<i32>,
    /// Umask, 0o022 unless told otherwise.
    pub umask: u32,
    /// Profile for `/proc/self/attr/apparmor/exec`, when the host has AppArmor.
    pub apparmor: Option<String>,
    /// SELinux label for `/proc/self/attr/exec`.
    pub selinux: Option<String>,
    /// CPU scheduling (sched_setattr(2)).
    pub scheduler: Option<Scheduler>,
    /// I/O class and priority as ioprio_set(2) takes them.
    pub io_priority: Option<u16>,
    /// CPUs to run on while being set up, and from the program on (sched_setaffinity(2)); bit n of word n / 64.
    pub initial_cpus: Option<Vec<u64>>,
    pub final_cpus: Option<Vec<u64>>,
    /// Execution domain (personality(2)).
    pub personality: Option<u32>,
    /// Where memory is taken from on a host of several nodes (set_mempolicy(2)).
    pub memory_policy: Option<MemoryPolicy>,
    /// Descriptors from 3 on that the program keeps (`--preserve-fds`).
    pub preserve_fds: u32,
}

/// Arguments of sched_setattr(2).
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Scheduler {
    /// `SCHED_*` number.
    pub policy: u32,
    pub nice: i32,
    pub priority: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Arguments of set_mempolicy(2).
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// `MPOL_*` number with `MPOL_F_*` flags.
    pub mode: i32,
    /// Bit n of word n / 64 is node n.
    pub nodes: Vec<u64>,
}

impl Default for IoMode {
    fn default() -> Self {
        Self::Pipes { stdin: false, stdin_once: false }
    }
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
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub enum LogConfig {
    #[default]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct ExecPlan {
    /// 64 lower-case hexadecimal digits.
    pub exec_id: String,
    pub process: Process,
    pub io: IoMode,
    /// Group of the container, so that the exec is accounted to it.
    pub cgroup: CgroupHandle,
    /// The container has a user namespace of its own, which is entered first.
    pub user_namespace: bool,
    /// The container has a time namespace of its own.
    pub time_namespace: bool,
    /// `CLONE_NEW*` flags of namespaces that the container has in common with whoever starts the process: from its
    /// user namespace they could not be entered again (setns(2)).
    pub common_namespaces: u64,
    /// Stay in the caller's session keyring.
    pub shared_keyring: bool,
}
