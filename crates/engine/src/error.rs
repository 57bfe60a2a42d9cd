//! The engine's one error: what failed in Docker's words, of which kind, and what to do next.
//!
//! Clients match on these texts, so a text is made where the fact is known and never reworded on the
//! way out. Made everywhere in this crate, read by `api` through [`Error::kind`] and `Display`.

use std::fmt;

use types::Kind;

/// Shorthand of every fallible call of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed request: kind, text for the user, and an optional next step.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

#[derive(Debug, thiserror::Error)]
struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error {
    /// An error with Docker's wording.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hint: None }))
    }

    /// The class of the failure; the API's status code follows from it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Add a next step.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Put what was being done before the text, as `doing: text`.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.0.message = format!("{doing}: {}", self.0.message);
        self
    }

    /// The text under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// An input/output failure of the engine's own files.
    #[must_use]
    pub fn io(doing: impl fmt::Display, source: impl fmt::Display) -> Self {
        Self::new(Kind::Internal, format!("{doing}: {source}"))
    }

    pub(crate) fn no_such_container(reference: &str) -> Self {
        Self::new(Kind::NotFound, format!("No such container: {reference}"))
    }
}

/// `fail!(NotFound, "No such container: {r}")`: an [`Error`] of a [`Kind`] with a formatted text.
macro_rules! fail {
    ($kind:ident, $($arg:tt)*) => { $crate::error::Error::new(types::Kind::$kind, format!($($arg)*)) };
}
pub(crate) use fail;

impl From<state::Error> for Error {
    fn from(source: state::Error) -> Self {
        Self::new(source.kind(), source.to_string())
    }
}

impl From<store::Error> for Error {
    fn from(source: store::Error) -> Self {
        Self::new(source.kind(), source.to_string())
    }
}

impl From<network::Error> for Error {
    fn from(source: network::Error) -> Self {
        Self::new(source.kind(), source.to_string())
    }
}

impl From<cgroup::Error> for Error {
    fn from(source: cgroup::Error) -> Self {
        Self::new(Kind::Internal, source.to_string())
    }
}
