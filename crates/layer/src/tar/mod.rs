//! The tar format: POSIX ustar and pax (IEEE Std 1003.1, `pax`), and what GNU tar adds.
//!
//! [`Decoder`] is the sans-IO core, [`Reader`] and [`Writer`] wrap `std::io`, [`Entry`] is one member.

mod decoder;
mod entry;
mod error;
mod header;
mod limits;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use decoder::{Decoder, Step};
pub use entry::{Entry, Kind, Mtime};
pub use error::Error;
pub use limits::Limits;
pub use reader::Reader;
pub use writer::{SPARSE_MAX, Writer};

/// Size of a tar block in bytes.
pub const BLOCK: usize = 512;
