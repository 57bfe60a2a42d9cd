//! The one error of the client: what the daemon answered, or why it could not be asked.

use std::io;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon answered with a status of 400 or more. Clients and scripts match this wording.
    #[error("Error response from daemon: {message}")]
    Api {
        /// HTTP status code.
        status: u16,
        /// `message` of the error document, or the body as text.
        message: String,
    },
    /// Nobody listens at the address.
    #[error("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")]
    Connect {
        /// Address as the user gave it.
        host: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The socket exists and this user may not use it.
    #[error("permission denied while trying to connect to the Docker daemon socket at {host}")]
    Permission {
        /// Address as the user gave it.
        host: String,
    },
    /// The connection broke while it was in use.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The other side does not speak HTTP as agreed.
    #[error("the daemon's answer cannot be understood: {0}")]
    Protocol(String),
    /// The address cannot be used.
    #[error("{0}")]
    Host(String),
    /// A document did not have the form the API promises.
    #[error("cannot decode the daemon's answer: {0}")]
    Decode(#[from] serde_json::Error),
}

impl Error {
    /// HTTP status if the daemon answered at all.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// True for 404 answers.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// True when no daemon could be reached at the address.
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Permission { .. })
    }

    /// The message without the prefix that marks it as the daemon's.
    pub fn message(&self) -> String {
        match self {
            Self::Api { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}
