//! What is judged: an image, and what was found beside it.

use types::{Digest, Reference};

/// What a document of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the reference stands for, of an image of several platforms.
    Index,
    /// The manifest of one of its platforms.
    Platform,
    /// The manifest of an image that has only one.
    Manifest,
}

impl Role {
    /// The word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Platform => "platform's manifest",
            Self::Manifest => "manifest",
        }
    }
}

/// An image: its name and the documents a signature may be on. Their digests have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The name it was asked for by.
    pub reference: &'a Reference,
    /// Role, digest and bytes of each.
    pub documents: &'a [(Role, Digest, Vec<u8>)],
}

/// How signatures are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// cosign's tag.
    Cosign,
    /// A sigstore bundle that refers to the image.
    Bundle,
    /// A Notation signature that refers to the image.
    Notation,
}

impl Form {
    /// The word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cosign => "cosign",
            Self::Bundle => "sigstore bundle",
            Self::Notation => "notation",
        }
    }
}

/// Something that may be a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The document it was found at.
    pub on: Digest,
    /// Where it came from: the digest of its payload or manifest.
    pub place: String,
    /// How it is kept.
    pub form: Form,
    /// What it is.
    pub body: Body,
}

/// The bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Payload and signature apart.
    Simple {
        /// What was signed.
        payload: Vec<u8>,
        /// Base64.
        signature: String,
        /// A certificate is beside it, as keyless signatures have it.
        certificate: bool,
    },
    /// A bundle.
    Bundle(Vec<u8>),
    /// An envelope.
    Envelope {
        /// `application/jose+json`.
        media_type: String,
        /// The envelope.
        bytes: Vec<u8>,
    },
    /// It could not be fetched or read, and why.
    Unusable(String),
}
