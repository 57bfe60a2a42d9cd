//! The documents of the OCI runtime specification (versions 1.0 to 1.3, Linux): `config.json` with all its parts, the
//! process of an `exec`, the limits of an `update`, the state, the features and the statistics.
//!
//! Invariant: nothing here touches the host. A document is read ([`Spec::parse`]), then judged as a whole
//! ([`Spec::validate`]); what passes both holds no name the runtime has no number for and no text the kernel would cut
//! off, so that most mistakes are told before anything exists. Called by `oci-runtime`.

mod fault;
pub mod features;
mod parse;
mod spec;
mod state;
pub mod stats;
mod template;
mod validate;
mod words;

pub use fault::Fault;
pub use features::Features;
pub use spec::{
    BlockIo, CAPABILITIES, Capabilities, ConsoleSize, Cpu, CpuAffinity, CpuList, CpuListError, Device, DeviceRule,
    Hook, Hooks, HugepageLimit, IdMapping, IntelRdt, InterfacePriority, IoClass, IoPriority, Linux, Memory,
    MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode, Mount, Namespace, NamespaceKind, NetDevice, Network, Personality,
    PersonalityDomain, Pids, Process, Rdma, Resources, Rlimit, RlimitKind, Root, Scheduler, SchedulerFlag,
    SchedulerPolicy, Spec, ThrottleDevice, TimeOffset, User, WeightDevice,
};
pub use state::{Listing, State, Status};
pub use template::{default_spec, rootless_spec};
pub use validate::clean_path;

/// The newest version of the specification whose fields are all read.
pub const VERSION: &str = "1.3.0";
