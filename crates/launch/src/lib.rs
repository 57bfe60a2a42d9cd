//! What the daemon and the shim say to each other: the launch plan of a container or an exec,
//! the control messages, and their wire form.
//!
//! The daemon resolves everything (paths, ids, capabilities, the compiled seccomp program, open
//! mounts) before it hands a plan over, so the shim only executes. Plans travel in a memfd whose
//! descriptor accompanies the first control message; every other message is one SEQPACKET datagram.
//! Called by `engine` (daemon side), `shim` and `runtime`.

pub mod plan;
pub mod wire;

pub use plan::{
    CgroupHandle, Clock, DeviceNode, EnvBlock, ExecPlan, FdIndex, IoMode, LaunchPlan, LogConfig, MemoryPolicy, Mount,
    MountKind, NamespaceSet, NamespaceSource, Process, Rlimit, RootFs, Scheduler, Sysctl, Terminal, TimeOffset,
};
pub use wire::{
    Event, ExitRecord, FailureStage, MAX_MESSAGE, ReplyFrame, Request, RequestFrame, Response, Snapshot, Streams,
    WIRE_VERSION, WireError,
};
