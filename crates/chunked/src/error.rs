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

/// Most characters of a reason, which may quote the document.
const WHY_MAX: usize = 300;

impl Error {
    pub(crate) fn toc(why: impl ToString) -> Self {
        Self::document("table of contents", &why.to_string())
    }

    pub(crate) fn split(why: impl ToString) -> Self {
        Self::document("tar-split", &why.to_string())
    }

    fn document(what: &'static str, why: &str) -> Self {
        Self::Document { what, why: why.chars().take(WHY_MAX).collect() }
    }
}
