//! What is fuzzed: one function for each parser of what comes from outside. Each takes any bytes, must end, and panics
//! when a promise of the parser is broken: a crash is a bug.
//!
//! The programs in `targets` hand these to libFuzzer (`cargo xtask fuzz TARGET`); the test in `tests` runs the seeds
//! through them on stable.

mod dns_messages;
mod dockerfiles;
mod documents;
mod indexes;
mod names;
mod patches;
mod signatures;
mod streams;
mod tars;

pub use dns_messages::dns;
pub use dockerfiles::{dockerfile_ignore, dockerfile_parse};
pub use documents::{image_config, manifest};
pub use indexes::erofs_index;
pub use names::{reference, whiteout};
pub use patches::chunked;
pub use signatures::signature;
pub use streams::{gzip, gzip_header, zstd};
pub use tars::{pax, tar};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; the directories of seeds have these names.
pub const TARGETS: [Target; 15] = [
    ("tar", tar),
    ("pax", pax),
    ("gzip", gzip),
    ("gzip_header", gzip_header),
    ("zstd", zstd),
    ("manifest", manifest),
    ("image_config", image_config),
    ("reference", reference),
    ("whiteout", whiteout),
    ("erofs_index", erofs_index),
    ("signature", signature),
    ("chunked", chunked),
    ("dns", dns),
    ("dockerfile_parse", dockerfile_parse),
    ("dockerfile_ignore", dockerfile_ignore),
];
