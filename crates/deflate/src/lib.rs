//! Raw DEFLATE and gzip with exactly the bytes that Go's standard library writes.
//!
//! Most layers in registries are gzip of Go's `compress/gzip`. Who can make the compressed bytes again from the archive
//! need not keep them. The format leaves its writers free in where matches begin, how blocks are cut and which codes they
//! get; this crate takes each of these decisions as Go does. Go does not promise that they stay, and they have changed
//! once since 2016, so an encoder has a [`Dialect`].
//!
//! The invariant: what comes out depends on the dialect, the level and the bytes that go in, and not on how these are cut
//! into writes. Whoever relies on equality compares digests: an application that flushes in between, or a library that
//! takes the place of Go's, writes other bytes; so, in rare cases, does Go before 1.27 when its writes do not divide
//! 32 KiB (see `chain`).
//!
//! No I/O, and no memory beyond an encoder's tables, windows and one block. The algorithms and their constants are facts of
//! Go's `compress/flate` (BSD licence); each file names the version that it was read from.

mod bits;
mod block;
mod bytes;
mod chain;
mod crc32;
mod fast;
pub mod gzip;
mod huffman;
mod token;

/// Whose encoder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// Go 1.7 to 1.26, on any processor; compared with 1.21 and 1.26.
    GoClassic,
    /// Go 1.27 and later, as on amd64. On arm64 an estimate may be rounded differently; in 700 MB of a layer this made no
    /// difference.
    Go127,
}

/// Nothing here writes like this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no encoder for {dialect:?} at level {level}")]
pub struct Unsupported {
    pub dialect: Dialect,
    pub level: u8,
}

/// An encoder of one stream.
pub struct Encoder(Kind);

enum Kind {
    Fast(Box<fast::Fast>),
    Go127(Box<chain::Go127>),
    Classic(Box<chain::Classic>),
}

impl Encoder {
    /// `level` is 1, the fastest, to 9, the best; Go's default is 6.
    ///
    /// # Errors
    ///
    /// There is no encoder for the pair.
    pub fn new(dialect: Dialect, level: u8) -> Result<Self, Unsupported> {
        let kind = match (dialect, level) {
            (Dialect::Go127, ..7) => fast::Fast::go127(level).map(Box::new).map(Kind::Fast),
            (Dialect::Go127, 7..) => chain::Go127::new(level).map(Box::new).map(Kind::Go127),
            (Dialect::GoClassic, 1) => Some(Kind::Fast(Box::new(fast::Fast::classic()))),
            (Dialect::GoClassic, _) => chain::Classic::new(level).map(Box::new).map(Kind::Classic),
        };
        kind.map(Self).ok_or(Unsupported { dialect, level })
    }

    /// Takes input and appends what is ready to `out`.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match &mut self.0 {
            Kind::Fast(encoder) => encoder.write(input, out),
            Kind::Go127(encoder) => encoder.write(input, out),
            Kind::Classic(encoder) => encoder.write(input, out),
        }
    }

    /// Appends the rest and the end of the stream, after which nothing may be written.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match &mut self.0 {
            Kind::Fast(encoder) => encoder.finish(out),
            Kind::Go127(encoder) => encoder.finish(out),
            Kind::Classic(encoder) => encoder.finish(out),
        }
    }
}
