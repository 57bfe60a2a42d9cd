//! Why something could not be asked over D-Bus, or what was refused.

/// Failure on the way to or from the bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens.
    #[error("no D-Bus at {address}{}; does a message bus run there?", source.as_ref().map(|e| format!(" ({e})")).unwrap_or_default())]
    Connect {
        /// The addresses tried.
        address: String,
        /// The kernel's last answer, if an address was one of this machine's.
        source: Option<std::io::Error>,
    },
    /// The bus does not take who we are.
    #[error(
        "the bus does not accept this user ({answer}); a rootless runtime needs the bus of the user it was started by"
    )]
    Identity {
        /// What it said.
        answer: String,
    },
    /// An error came back.
    #[error("{text} ({name})")]
    Refused {
        /// Name of the error.
        name: String,
        /// Its words.
        text: String,
    },
    /// Nothing came back in time.
    #[error("no answer in time")]
    Timeout,
    /// The other side has gone.
    #[error("the connection was closed")]
    Closed,
    /// What came is no D-Bus.
    #[error("the answer is no D-Bus message")]
    Malformed,
    /// The socket failed.
    #[error(transparent)]
    Io(std::io::Error),
}

impl Error {
    /// Whether it is the error `name`.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Error::Refused { name, .. } if name == wanted)
    }
}
