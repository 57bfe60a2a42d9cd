//! Why a layer cannot be put together; it can still be fetched as a whole.

use types::Digest;

/// What is wrong with a layer's table of contents or with what it leads to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The annotations do not name places within the blob.
    #[error("zstd:chunked annotation {0:?} is not what it should be")]
    Annotation(&'static str),
    /// A document that is another than the one named.
    #[error("zstd:chunked {what}: digest mismatch: expected {expected}, got {actual}")]
    Digest {
        /// Which.
        what: &'static str,
        /// The digest named.
        expected: Digest,
        /// That of the bytes.
        actual: Digest,
    },
    /// A document that cannot be read, or contradicts itself.
    #[error("zstd:chunked {what}: {why}")]
    Document {
        /// Which.
        what: &'static str,
        /// The rule it breaks.
        why: String,
    },
    /// Reading failed.
    #[error("zstd:chunked layer: {0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    pub(crate) fn toc(why: impl ToString) -> Self {
        Self::Document { what: "table of contents", why: why.to_string() }
    }

    pub(crate) fn split(why: impl ToString) -> Self {
        Self::Document { what: "tar-split", why: why.to_string() }
    }
}
