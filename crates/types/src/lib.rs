//! The vocabulary of the engine: ids, digests, references, platforms, sizes, durations, signals,
//! ports, names, filters and the closed set of error kinds.
//!
//! Pure: no I/O, no clock, no async. Every parser here takes text from outside and either gives
//! back a value that keeps its type's invariant or an error that says what was wrong; where
//! Docker's clients match on the wording, the wording is Docker's.

mod digest;
mod duration;
mod filters;
mod id;
mod kind;
mod name;
mod platform;
mod port;
mod reference;
mod signal;
mod size;

pub use digest::{ChainId, DiffId, Digest, DigestError};
pub use duration::{DurationError, GoDuration, human_duration};
pub use filters::Filters;
pub use id::{ContainerId, EndpointId, ExecId, Id, IdError, NetworkId, SandboxId};
pub use kind::Kind;
pub use name::{ContainerName, NameError, VolumeName};
pub use platform::{Platform, PlatformError};
pub use port::{ExposedPort, PortError, PortMapping, PortRange, Protocol, parse_port_spec};
pub use reference::{Reference, ReferenceError, valid_path_component, valid_tag};
pub use signal::{Signal, SignalError};
pub use size::{SizeError, bytes_size, from_human_size, human_size, human_size_with_precision, ram_in_bytes};
