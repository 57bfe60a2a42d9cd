//! Image store: blobs, unpacked layers, image documents, root file systems and archives of them.
//!
//! Synchronous; callers on an async runtime use their blocking pool. Everything lives below one data
//! directory: `content/blobs` (bytes as they came), `content/recipes` (of blobs that can be made again), `layers` (unpacked once per diff ID),
//! `containers/ID/{upper,work}`. What is visible is complete and synced. Names and tags of images are
//! not kept here: the engine's database has them.

mod check;
mod compact;
mod content;
mod error;
mod store;

pub mod image;
pub mod model;
pub mod overlay;
pub mod tree;

pub use check::Verdict;
pub use compact::Compacted;
pub use content::{Blob, BlobWriter, Blobs, ChunkReader, Files, Format, Ingest, LayerInfo, Layers, Partial};
pub use error::{Error, Result};
pub use store::{Removed, Store};
