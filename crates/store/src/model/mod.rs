//! OCI and Docker image documents (OCI image-spec 1.1, Docker image manifest v2 schema 2).
//!
//! Documents are kept as the bytes they came in; these types read them, and write the ones made here.
//! Everything parsed goes through [`strict::parse`], so that two readers cannot see two documents.

mod config;
mod descriptor;
mod document;
pub(crate) mod strict;

pub use config::{Empty, Healthcheck, History, Image, ImageConfig, RootFs};
pub use descriptor::{Descriptor, media_type};
pub use document::{Document, Index, Manifest};

/// Most bytes of a manifest or index.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Most bytes of an image configuration.
pub const MAX_CONFIG: u64 = 8 << 20;
/// Most layers of an image: what overlayfs can stack.
pub const MAX_LAYERS: usize = 500;
