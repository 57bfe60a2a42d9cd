//! Addresses of engines as `-H` and `DOCKER_HOST` write them, and how to connect to them.

use std::{
    io,
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use crate::{Error, Result, connection::Stream};

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A Unix stream socket.
    Unix(PathBuf),
    /// `host:port` over plain TCP, optionally below a path prefix.
    Tcp {
        /// `name:port`.
        address: String,
        /// Prefix of every request path, without a trailing slash; usually empty.
        base: String,
    },
}

impl Host {
    /// Parses `unix:///path`, `tcp://name:port` or `http://name:port`.
    ///
    /// # Errors
    /// [`Error::Host`] when the text is none of these, or names a transport this client does not have.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Error::Host(format!(
                "unable to parse docker host `{text}`: write unix:///path or tcp://name:port"
            )));
        };
        match scheme {
            "unix" => {
                if rest.is_empty() {
                    return Err(Error::Host(format!(
                        "unable to parse docker host `{text}`: the socket path is missing"
                    )));
                }
                Ok(Self::Unix(PathBuf::from(rest)))
            }
            "tcp" | "http" => {
                let (address, base) = rest.split_once('/').unwrap_or((rest, ""));
                if address.is_empty()
                    || address.contains(['?', '#', '@', ' '])
                    || base.contains(['?', '#', ' ', '\r', '\n'])
                {
                    return Err(Error::Host(format!("unable to parse docker host `{text}`: write tcp://name:port")));
                }
                let has_port = address.rsplit_once(':').is_some_and(|(name, port)| {
                    port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']'))
                });
                let address = if has_port { address.to_owned() } else { format!("{address}:2375") };
                let base = base.trim_end_matches('/');
                let base = if base.is_empty() { String::new() } else { format!("/{base}") };
                Ok(Self::Tcp { address, base })
            }
            "https" => Err(Error::Host(format!(
                "{text}: TLS to the daemon is not supported yet; use a unix:// or tcp:// address, or a tunnel"
            ))),
            "ssh" => Err(Error::Host(format!(
                "{text}: ssh:// hosts are not supported yet; forward the socket with `ssh -L` and use unix://"
            ))),
            other => Err(Error::Host(format!("unable to parse docker host `{text}`: unknown scheme `{other}`"))),
        }
    }

    /// The socket path of a Unix host.
    pub fn unix_path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp { .. } => None,
        }
    }

    pub(crate) fn base(&self) -> &str {
        match self {
            Self::Unix(_) => "",
            Self::Tcp { base, .. } => base,
        }
    }

    /// Value of the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Tcp { address, .. } => address,
        }
    }

    pub(crate) fn connect(&self) -> Result<Stream> {
        let stream = match self {
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Self::Tcp { address, .. } => TcpStream::connect(address).map(|stream| {
                // Small requests and interactive bytes must not wait for acknowledgements; failure only costs latency.
                let _ = stream.set_nodelay(true);
                Stream::Tcp(stream)
            }),
        };
        stream.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Permission { host: self.to_string() },
            _ => Error::Connect { host: self.to_string(), source },
        })
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { address, base } => write!(f, "tcp://{address}{base}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Host;

    #[test]
    fn addresses() {
        assert_eq!(Host::parse("unix:///run/x.sock").unwrap(), Host::Unix("/run/x.sock".into()));
        assert_eq!(Host::parse("tcp://h:1/b/").unwrap().to_string(), "tcp://h:1/b");
        assert_eq!(Host::parse("tcp://h").unwrap().to_string(), "tcp://h:2375");
        assert_eq!(Host::parse("tcp://[::1]").unwrap().to_string(), "tcp://[::1]:2375");
        for bad in ["", "/run/x.sock", "unix://", "tcp://", "npipe://x", "tcp://a b"] {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
        assert!(Host::parse("https://h:2376").unwrap_err().to_string().contains("TLS"));
        assert!(Host::parse("ssh://h").unwrap_err().to_string().contains("ssh"));
    }
}
