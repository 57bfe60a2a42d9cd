//! Control groups of containers, the same way on v1, v2 and hybrid hosts.
//!
//! [`Hierarchy::detect`] learns once what the host has; [`Cgroup`] is one container's group in all of
//! it: limits, devices, freezer, statistics, processes, removal. Callers never ask which version runs.
//!
//! Invariant: paths are built only from mount points the kernel reported and from components checked
//! by this crate; a file is opened for writing only if the kernel made it.

mod apply;
mod apply_v1;
mod apply_v2;
mod controllers;
mod delegation;
mod device_list;
mod device_program;
mod devices;
mod error;
mod file;
mod freezer;
mod group;
mod hierarchy;
mod kill;
mod make;
mod mountinfo;
mod path;
mod resources;
mod stats;
mod support;
pub mod systemd;
mod unified;

pub use delegation::Delegated;
pub use device_program::device_program;
pub use devices::{Access, DeviceKind, DeviceRule};
pub use error::Error;
pub use freezer::FreezerState;
pub use group::{Cgroup, remove_empty_parent};
pub use hierarchy::{Hierarchy, Mode};
pub use make::{Existing, Made};
pub use resources::{
    HugepageLimit, NetPriority, RdmaLimit, Resources, ThrottleDevice, WeightDevice, io_weight, weight_of_shares,
};
pub use stats::{
    BlkioEntry, BlkioStats, CpuStats, CpusetStats, HugepageStats, MemoryCounter, MemoryStats, MiscStats, NumaPages,
    PidsStats, Pressure, PressureLine, RdmaEntry, RdmaStats, Stats,
};
pub use support::Support;
