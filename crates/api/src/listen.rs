//! Listening sockets of the API: parsing `-H` addresses and binding them safely.
//!
//! A Unix socket is created with its final permissions (never wider for a moment), replaces only a
//! socket nobody answers on, and is removed again only if it is still the one that was bound.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode};
use tokio::net::{TcpListener, UnixListener};

/// An address to listen on, as given by `-H`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// `unix:///path`.
    Unix(PathBuf),
    /// `tcp://host:port`; the host may be a name, which TCP clients may then use in `Host`.
    Tcp {
        /// Name or address; empty means 127.0.0.1.
        host: String,
        /// Port, 2375 when left out.
        port: u16,
    },
    /// `fd://`: the sockets a service manager passed (sd_listen_fds(3)).
    Inherited,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The text after `-H` is no address this daemon knows.
    #[error("invalid bind address ({address}): {reason}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Someone answers on the socket.
    #[error("another daemon listens on {}: stop it first, or choose another socket with -H", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket has the socket's name.
    #[error("cannot listen on {}: the file exists and is not a socket; remove it or choose another path with -H", .0.display())]
    NotASocket(PathBuf),
    /// The directory is a link somebody else made.
    #[error("cannot listen in {}: it is a symbolic link of uid {owner}, who could point it elsewhere; use a real directory", .path.display())]
    ForeignLink {
        /// The directory.
        path: PathBuf,
        /// Who owns the link.
        owner: u32,
    },
    /// The operating system refused.
    #[error("cannot listen on {address}: {action}: {source}")]
    System {
        /// The address.
        address: String,
        /// The step that failed.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket and the identity of its file.
    Unix {
        /// The socket.
        socket: UnixListener,
        /// Where it is bound.
        path: PathBuf,
        /// Device and inode of the file, so that only our own is removed.
        identity: (u64, u64),
    },
    /// A TCP socket.
    Tcp(TcpListener),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Unix(path) => write!(f, "unix://{}", path.display()),
            Host::Inherited => f.write_str("fd://"),
            Host::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Host::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

impl Host {
    /// Reads an address as dockerd's `-H` takes it.
    ///
    /// # Errors
    /// Unknown schemes, relative socket paths, bad ports.
    pub fn parse(text: &str) -> Result<Host, ListenError> {
        let bad = |reason| ListenError::Address { address: text.to_owned(), reason };
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(bad("a Unix socket needs an absolute path, as in unix:///run/dhow/dhow.sock"));
            }
            return Ok(Host::Unix(PathBuf::from(path)));
        }
        if let Some(rest) = text.strip_prefix("fd://") {
            return if rest.is_empty() {
                Ok(Host::Inherited)
            } else {
                Err(bad("fd:// takes every passed socket; names are not supported"))
            };
        }
        let Some(rest) = text.strip_prefix("tcp://") else {
            return Err(bad("use unix://PATH or tcp://HOST:PORT"));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = if let Some(v6) = rest.strip_prefix('[') {
            let (host, tail) = v6.split_once(']').ok_or_else(|| bad("missing ] after an IPv6 address"))?;
            (host, tail.strip_prefix(':').unwrap_or_default())
        } else {
            rest.rsplit_once(':').unwrap_or((rest, ""))
        };
        if host.contains(['/', '@', '?']) {
            return Err(bad("only a host and a port may follow tcp://"));
        }
        let port = if port.is_empty() {
            2375
        } else {
            port.parse().map_err(|_| bad("the port is not a number below 65536"))?
        };
        Ok(Host::Tcp { host: if host.is_empty() { "127.0.0.1".to_owned() } else { host.to_owned() }, port })
    }

    /// The name a TCP client would use, for the check of `Host` headers.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Host::Unix(_) | Host::Inherited => None,
            Host::Tcp { host, .. } => Some(host),
        }
    }
}

/// Takes over a listening socket that a service manager bound; its file, if any, is the manager's
/// and is not removed.
///
/// # Errors
/// A descriptor that is no listening stream socket of a known family.
pub fn inherited(fd: OwnedFd) -> Result<Listener, ListenError> {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let system = |action| move |source| ListenError::System { address: "fd://".to_owned(), action, source };
    let look = system("look at a passed descriptor");
    let kind = sockopt::socket_type(&fd).map_err(|e| look(e.into()))?;
    let listening = sockopt::socket_acceptconn(&fd).map_err(|e| look(e.into()))?;
    let family = sockopt::socket_domain(&fd).map_err(|e| look(e.into()))?;
    if kind != SocketType::STREAM || !listening {
        return Err(look(io::Error::other("it is not a listening stream socket")));
    }
    rustix::io::ioctl_fionbio(&fd, true).map_err(|e| look(e.into()))?;
    match family {
        AddressFamily::UNIX => {
            let socket = std::os::unix::net::UnixListener::from(fd);
            let path = socket.local_addr().ok().and_then(|a| a.as_pathname().map(Path::to_owned)).unwrap_or_default();
            let socket = UnixListener::from_std(socket).map_err(look)?;
            // No file has inode 0: the manager's socket is never taken for our own.
            Ok(Listener::Unix { socket, path, identity: (0, 0) })
        }
        AddressFamily::INET | AddressFamily::INET6 => {
            TcpListener::from_std(std::net::TcpListener::from(fd)).map(Listener::Tcp).map_err(look)
        }
        _ => Err(look(io::Error::other("its address family is neither Unix nor TCP"))),
    }
}

/// Binds an address. `group` names the group that may use a Unix socket; it is silently root's
/// alone when the host has no such group.
///
/// Must be called within a tokio runtime, before other threads create files: the file mode of the
/// socket is set through the process's umask.
///
/// # Errors
/// See [`ListenError`].
pub async fn bind(host: &Host, group: &str) -> Result<Listener, ListenError> {
    match host {
        Host::Inherited => {
            Err(ListenError::Address { address: host.to_string(), reason: "no socket was passed by a service manager" })
        }
        Host::Unix(path) => bind_unix(path, group),
        Host::Tcp { host: name, port } => {
            let system = |action| move |source| ListenError::System { address: host.to_string(), action, source };
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), *port)).await.map_err(system("resolve the name"))?.collect();
            if addresses.iter().any(|a| !a.ip().is_loopback()) {
                tracing::warn!(
                    "the API listens on {host} WITHOUT ENCRYPTION OR AUTHENTICATION: whoever reaches this port is root on this machine; use a Unix socket over SSH instead"
                );
            } else {
                tracing::warn!(
                    "the API listens on {host} without authentication: every user of this machine can become root through it"
                );
            }
            let socket = TcpListener::bind(&addresses[..]).await.map_err(system("bind"))?;
            Ok(Listener::Tcp(socket))
        }
    }
}

fn bind_unix(path: &Path, group: &str) -> Result<Listener, ListenError> {
    let system =
        |action| move |source| ListenError::System { address: format!("unix://{}", path.display()), action, source };
    let parent = path.parent().unwrap_or(Path::new("/"));
    match std::fs::symlink_metadata(parent) {
        Ok(found) if found.is_symlink() && found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() => {
            return Err(ListenError::ForeignLink { path: parent.to_owned(), owner: found.uid() });
        }
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // Passable for the socket's group, listable by nobody.
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(parent)
                .map_err(system("create its directory"))?;
        }
        Err(e) => return Err(system("look at its directory")(e)),
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(ListenError::InUse(path.to_owned())),
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(system("remove the socket of a dead daemon"))?;
            }
            Err(e) => return Err(system("see whether another daemon listens there")(e)),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(system("look at it")(e)),
    }
    let group = if group.is_empty() { None } else { group_id(group) };
    // 0660 from the first moment on; the owner is root until the group is set.
    let before = rustix::process::umask(Mode::from_raw_mode(0o117));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let socket = bound.map_err(system("bind"))?;
    if let Some(gid) = group {
        rustix::fs::chown(path, None, Some(Gid::from_raw(gid)))
            .map_err(|e| system("give it to its group")(e.into()))?;
    }
    let found = std::fs::symlink_metadata(path).map_err(system("look at it"))?;
    Ok(Listener::Unix { socket, path: path.to_owned(), identity: (found.dev(), found.ino()) })
}

/// The number of a group by name (group(5)); a number stands for itself.
fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let mut fields = groups.lines().map(|line| line.split(':'));
    fields.find_map(|mut line| if line.next() == Some(name) { line.nth(1)?.parse().ok() } else { None })
}

impl Listener {
    /// The address as logged.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Listener::Unix { path, .. } => format!("unix://{}", path.display()),
            Listener::Tcp(socket) => {
                socket.local_addr().map_or_else(|_| "tcp://?".to_owned(), |a| format!("tcp://{a}"))
            }
        }
    }

    /// Removes the file of a Unix socket, unless another daemon's has taken its place.
    pub fn remove_file(&self) {
        if let Listener::Unix { path, identity, .. } = self
            && let Ok(found) = std::fs::symlink_metadata(path)
            && (found.dev(), found.ino()) == *identity
            && let Err(e) = std::fs::remove_file(path)
        {
            tracing::warn!("cannot remove the socket {}: {e}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(Host::parse("unix:///run/x.sock").unwrap(), Host::Unix("/run/x.sock".into()));
        let tcp = |host: &str, port| Host::Tcp { host: host.to_owned(), port };
        assert_eq!(Host::parse("tcp://127.0.0.1:2375").unwrap(), tcp("127.0.0.1", 2375));
        assert_eq!(Host::parse("tcp://:4243").unwrap(), tcp("127.0.0.1", 4243));
        assert_eq!(Host::parse("tcp://[::1]:4243").unwrap(), tcp("::1", 4243));
        assert_eq!(Host::parse("tcp://box/").unwrap(), tcp("box", 2375));
        assert_eq!(Host::parse("tcp://[::1]:4243").unwrap().to_string(), "tcp://[::1]:4243");
        assert_eq!(Host::parse("fd://").unwrap(), Host::Inherited);
        for bad in [
            "",
            "unix://",
            "unix://relative",
            "fd://name",
            "npipe://x",
            "tcp://x:99999",
            "tcp://[::1",
            "tcp://a@b:1",
            "/run/x",
        ] {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn unix_socket_rules() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/api.sock");
        let host = Host::Unix(path.clone());
        let first = bind(&host, "").await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(bind(&host, "").await, Err(ListenError::InUse(_))));

        // Dead sockets are replaced, and a replaced file is not removed by its former owner.
        let Listener::Unix { socket, path: bound, identity } = first else { unreachable!() };
        drop(socket);
        let second = bind(&host, "").await.unwrap();
        let other = bind(&Host::Unix(dir.path().join("other.sock")), "").await.unwrap();
        let Listener::Unix { socket, .. } = other else { unreachable!() };
        Listener::Unix { socket, path: bound, identity: (identity.0, identity.1 ^ 1) }.remove_file();
        assert!(path.exists());
        second.remove_file();
        assert!(!path.exists());

        for make in [|p: &Path| std::fs::write(p, b"x").unwrap(), |p: &Path| symlink("/nowhere", p).unwrap()] {
            make(&path);
            assert!(matches!(bind(&host, "").await, Err(ListenError::NotASocket(_))));
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn passed_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let bound = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let listener = inherited(bound.into()).unwrap();
        assert_eq!(listener.describe(), format!("unix://{}", path.display()));
        listener.remove_file();
        assert!(path.exists(), "the manager's file was removed");
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(inherited(tcp.into()), Ok(Listener::Tcp(_))));
        assert!(inherited(std::fs::File::open("/dev/null").unwrap().into()).is_err());
        let (one, _two) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(inherited(one.into()).is_err());
        assert!(bind(&Host::Inherited, "").await.is_err());
    }

    #[test]
    fn groups() {
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("4711"), Some(4711));
        assert_eq!(group_id("no-such-group-here"), None);
    }
}
