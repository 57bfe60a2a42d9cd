//! Control groups of containers, the same way on v1, v2 and hybrid hosts.
//!
//! [`Hierarchy::detect`] learns once what the host has; [`Cgroup`] is one container's group in all of
//! it: limits, devices, freezer, statistics, processes, removal. Callers never ask which version runs.
//!
//! Invariant: paths are built only from mount points the kernel reported and from components checked
//! by this crate; a file is opened for writing only if the kernel made it.

mod apply_v1;
mod apply_v2;
mod devices;
mod error;
mod file;
mod freezer;
mod group;
mod hierarchy;
mod mountinfo;
mod resources;
mod stats;
mod support;

pub use devices::{Access, DeviceKind, DeviceRule, device_program};
pub use error::Error;
pub use freezer::FreezerState;
pub use group::{Cgroup, remove_empty_parent};
pub use hierarchy::{Hierarchy, Mode};
pub use resources::{Resources, ThrottleDevice, WeightDevice};
pub use stats::{BlkioEntry, BlkioStats, CpuStats, MemoryStats, PidsStats, Stats};
pub use support::Support;
