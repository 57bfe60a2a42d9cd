//! What images are made of: blobs as they came, layers ready to be mounted, and the way in for both.

mod ahead;
mod blobs;
mod files;
mod ingest;
mod layers;
mod partial;
mod recipes;
mod stream;
mod unpack;
mod writer;

pub use blobs::{Blob, Blobs};
pub use files::Files;
pub use ingest::{Ingest, LayerInfo};
pub use layers::{Format, Layers};
pub use partial::Partial;
pub use stream::ChunkReader;
pub use writer::BlobWriter;

pub(crate) use layers::{PendingLayer, indexed_files};
pub(crate) use partial::Partials;
pub(crate) use recipes::{Recipe, Recipes};
pub(crate) use unpack::index_of;
pub(crate) use writer::PendingBlob;

use std::ffi::OsString;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// A name nobody else has: `prefix` and 128 random bits.
pub(crate) fn random_name(prefix: &str) -> io::Result<OsString> {
    let mut bytes = [0_u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(OsString::from(format!("{prefix}{:032x}", u128::from_ne_bytes(bytes))))
}
