//! What tests of an OCI runtime share: bundles, the runtime under test, and a watch over the host.
//!
//! ```no_run
//! use oci_tests::{Bundle, Canary, Environment, Runtime};
//!
//! let Some(_environment) = Environment::get() else { return };
//! let canary = Canary::new(); // fails the test when the host has changed
//! let runtime = Runtime::new(); // kills and deletes everything, and fails the test when something stays
//! let bundle = Bundle::new().shell("cat /proc/self/status");
//! let output = runtime.run(&bundle).ok();
//! assert!(output.stdout.contains("CapInh:\t0000000000000000"));
//! ```
//!
//! Any program with runc's command line can be tested: see [`Environment`].

#![allow(clippy::print_stderr, reason = "tests talk to whoever runs them")]

mod bundle;
mod canary;
mod command;
mod config;
mod console;
mod container;
mod environment;
mod leaks;
mod mountinfo;
mod output;
mod profile;
mod rootfs;
mod runtime;

pub use bundle::Bundle;
pub use canary::Canary;
pub use command::copy_program;
pub use config::{CAPABILITIES, MASKED_PATHS, READONLY_PATHS};
pub use console::{Console, Terminal};
pub use container::Container;
pub use environment::Environment;
pub use mountinfo::{MountLine, mounts_of};
pub use output::Output;
pub use profile::docker_default as docker_seccomp;
pub use runtime::{Runtime, eventually};
