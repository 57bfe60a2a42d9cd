//! Archives of container images, without I/O of its own: tar in and out, whiteouts, compression, digests.
//!
//! The tar decoder ([`tar::Decoder`]) is a state machine fed with slices; [`tar::Reader`] and
//! [`tar::Writer`] are thin shells over `std::io`. Everything that comes in is taken to be hostile: sizes,
//! names and record counts are bounded by [`tar::Limits`], and an archive that two readers could
//! understand differently is refused rather than guessed at. The store and the engine are the callers.

pub mod codec;
pub mod digest;
pub mod tar;
pub mod whiteout;

pub use codec::{Codec, Decompress};
pub use digest::{DigestReader, DigestWriter};
pub use whiteout::Whiteout;
