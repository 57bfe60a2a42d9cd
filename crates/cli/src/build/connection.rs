//! Connections to the builder: HTTP/1.1 requests that become gRPC, one for what we ask and one for what we are asked; and
//! descriptors of directories on the second, for a daemon on this host.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use client::{Client, Socket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::{Error, Result};

/// Names a directory that would be shared, once for each; in the answer, that they are taken.
const DIRECTORY: &str = "X-Dhow-Directory";

/// A connection in both directions.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// What a session says of itself.
pub(super) struct Greeting<'a> {
    pub(super) id: &'a str,
    pub(super) key: &'a str,
    pub(super) methods: &'a [&'a str],
    /// Directories that may be shared, by the names that the builder asks for them under.
    pub(super) directories: Vec<(String, OwnedFd)>,
}

/// The connection that we ask on.
pub(super) fn ask(client: &Client) -> Result<Box<dyn Io>> {
    let (socket, early) = client.post("/grpc").upgrade("h2c")?.into_parts();
    join(socket, early)
}

/// The connection that we are asked on, and whether the daemon has the directories.
pub(super) fn answer(client: &Client, greeting: Greeting<'_>) -> Result<(Box<dyn Io>, bool)> {
    let mut request = client
        .post("/session")
        .header("X-Docker-Expose-Session-Uuid", greeting.id)
        .header("X-Docker-Expose-Session-Name", "dhow")
        .header("X-Docker-Expose-Session-Sharedkey", greeting.key);
    for method in greeting.methods {
        request = request.header("X-Docker-Expose-Session-Grpc-Method", method);
    }
    for (name, _) in &greeting.directories {
        request = request.header(DIRECTORY, name);
    }
    let upgraded = request.upgrade("h2c")?;
    let shared = upgraded.header(DIRECTORY) == Some("accepted");
    let (mut socket, mut early) = upgraded.into_parts();
    if shared {
        share(&mut socket, &mut early, greeting.directories)?;
    }
    Ok((join(socket, early)?, shared))
}

/// Passes descriptors once the daemon says that it listens for them.
fn share(socket: &mut Socket, early: &mut Vec<u8>, directories: Vec<(String, OwnedFd)>) -> Result<()> {
    let Socket::Unix(socket) = socket else {
        return Err(Error::new("the daemon asks for directories over a connection that cannot carry them"));
    };
    if early.is_empty() {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        early.extend(byte);
    }
    if early.as_slice() != b"D" {
        return Err(Error::new(
            "the daemon's answer to shared directories is not understood; are dhow and dhowd of one version?",
        ));
    }
    early.clear();
    let descriptors: Vec<_> = directories.iter().map(|(_, fd)| fd.as_fd()).collect();
    let messages = sys::socket::FdSocket::new(socket.as_fd().try_clone_to_owned()?);
    messages
        .send(b"D", &descriptors)
        .map_err(|error| Error::new(format!("cannot share the directories of the build: {error}")))
}

/// The socket with what was read of it.
fn join(socket: Socket, early: Vec<u8>) -> Result<Box<dyn Io>> {
    let early = std::io::Cursor::new(early);
    Ok(match socket {
        Socket::Unix(socket) => {
            socket.set_nonblocking(true)?;
            let (read, write) = tokio::net::UnixStream::from_std(socket)?.into_split();
            Box::new(tokio::io::join(AsyncReadExt::chain(early, read), write))
        }
        Socket::Tcp(socket) => {
            socket.set_nonblocking(true)?;
            let (read, write) = tokio::net::TcpStream::from_std(socket)?.into_split();
            Box::new(tokio::io::join(AsyncReadExt::chain(early, read), write))
        }
    })
}
