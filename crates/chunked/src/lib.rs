//! Layers in the zstd:chunked form: what of a blob has to be fetched when many of its files are here already.
//!
//! Such a blob is a zstd stream like any other, in which every file's content begins a frame of its own. Behind it, where
//! decoders skip, stand a table of contents (each file with its size, its digest and the places of its frames) and
//! the archive without its contents (tar-split). Annotations of the layer's descriptor say where both are. With them a
//! [`Plan`] tells which bytes of the blob are missing, and an [`Assembly`] gives the archive, byte for byte, from files that
//! are here and from those bytes.
//!
//! Nothing is believed of all this: what comes out is to be compared with the layer's digest (`diff_id`), and a layer
//! that is not right is fetched as a whole. The format is that of `containers/storage` (`pkg/chunked`), version 1.

mod assembly;
mod error;
mod place;
mod plan;
mod split;
mod toc;

pub use assembly::Assembly;
pub use error::Error;
pub use place::{Part, Place};
pub use plan::Plan;
pub use split::Split;
pub use toc::{File, Toc};

/// Largest window of a zstd frame, as a power of two: what other layers may have.
const WINDOW_LOG: u32 = 27;

/// A document without its compression: more than `limit` bytes do not come out.
type Plain<R> = std::io::Take<zstd::stream::read::Decoder<'static, R>>;

fn decompress<R: std::io::BufRead>(compressed: R, limit: u64) -> std::io::Result<Plain<R>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(std::io::Read::take(decoder, limit))
}

/// Checks a document that is named by its digest.
fn check(what: &'static str, bytes: &[u8], expected: &types::Digest) -> Result<(), Error> {
    use sha2::Digest as _;
    let actual = types::Digest::sha256(sha2::Sha256::digest(bytes).into());
    if actual == *expected { Ok(()) } else { Err(Error::Digest { what, expected: *expected, actual }) }
}
