//! Message sockets that carry descriptors: SOCK_SEQPACKET UNIX sockets, one datagram a message.
//!
//! A message arrives whole with all its descriptors, or not at all: truncation of either is an error.
//! Every received descriptor is close-on-exec. Called by the shim and by the daemon side of it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::Errno;

/// Most descriptors one message carries: the kernel's `SCM_MAX_FD`.
pub const MAX_FDS: usize = 253;

/// One end of a SEQPACKET connection.
#[derive(Debug)]
pub struct FdSocket(OwnedFd);

/// A message: its length in the buffer and what came along. Length 0 is the end of the connection.
#[derive(Debug)]
pub struct Received {
    pub len: usize,
    pub fds: Vec<OwnedFd>,
}

impl FdSocket {
    /// Wraps an open SEQPACKET socket.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Two connected ends, close-on-exec, blocking.
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    /// Connects to the socket file `path`. A path too long for an address goes through its directory's descriptor.
    ///
    /// # Errors
    /// What socket(2), open(2) or connect(2) says.
    pub fn connect(path: &Path) -> Result<Self, Errno> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        with_address(path, |address| rustix::net::connect(&socket, address))?;
        Ok(Self(socket))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// `EMSGSIZE` for more than [`MAX_FDS`] descriptors, `EAGAIN` when the peer's queue is full and
    /// the socket does not block, else what sendmsg(2) says. Never raises SIGPIPE.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        if fds.len() > MAX_FDS {
            return Err(Errno::MSGSIZE);
        }
        let mut space = Vec::new();
        if !fds.is_empty() {
            space.resize(rustix::cmsg_space!(ScmRights(MAX_FDS)), MaybeUninit::uninit());
        }
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::MSGSIZE);
        }
        let sent = retry(|| rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL))?;
        if sent == bytes.len() { Ok(()) } else { Err(Errno::MSGSIZE) }
    }

    /// Receives one message into `buffer`.
    ///
    /// # Errors
    /// `EMSGSIZE` when the message or its descriptors did not fit (all of it is dropped), `EAGAIN`
    /// when there is none and the socket does not block, else what recvmsg(2) says.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<Received, Errno> {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let result = retry(|| {
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if result.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(Errno::MSGSIZE);
        }
        Ok(Received { len: result.bytes, fds })
    }

    /// Switches between waiting and `EAGAIN`.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn set_nonblocking(&self, on: bool) -> Result<(), Errno> {
        crate::fd::set_nonblocking(self.0.as_fd(), on)
    }

    /// Effective user id of the peer when it connected.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn peer_uid(&self) -> Result<u32, Errno> {
        rustix::net::sockopt::socket_peercred(&self.0).map(|cred| cred.uid.as_raw())
    }
}

impl AsFd for FdSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<FdSocket> for OwnedFd {
    fn from(socket: FdSocket) -> Self {
        socket.0
    }
}

/// A listening SEQPACKET socket at a path.
#[derive(Debug)]
pub struct FdListener(OwnedFd);

impl FdListener {
    /// Makes the socket file `path` (an old one is replaced), mode 0600, and listens, without blocking on accept.
    ///
    /// # Errors
    /// What socket(2), open(2), bind(2) or listen(2) says.
    pub fn bind(path: &Path) -> Result<Self, Errno> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        match rustix::fs::unlink(path) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        // The mode of the file is that of the socket inode; before bind it can still be narrowed.
        rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
        with_address(path, |address| rustix::net::bind(&socket, address))?;
        rustix::net::listen(&socket, 16)?;
        Ok(Self(socket))
    }

    /// The next waiting connection, not blocking.
    ///
    /// # Errors
    /// `EAGAIN` when none waits, else what accept4(2) says.
    pub fn accept(&self) -> Result<FdSocket, Errno> {
        rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map(FdSocket)
    }
}

impl FdListener {
    /// Wraps an open listening SEQPACKET socket, inherited or received.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Waits for the next connection, which blocks.
    ///
    /// # Errors
    /// What poll(2) or accept4(2) says.
    pub fn wait(&self) -> Result<FdSocket, Errno> {
        loop {
            let mut fds = [rustix::event::PollFd::new(&self.0, rustix::event::PollFlags::IN)];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            match rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC) {
                Ok(socket) => return Ok(FdSocket(socket)),
                // Gone again before it was taken.
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for FdListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Two connected ends of a byte stream, close-on-exec, blocking.
///
/// # Errors
/// What socketpair(2) says.
pub fn stream_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

/// Memory of what was sent and the peer has not taken yet: on a Unix socket not read, on TCP not
/// acknowledged. 0 when the peer has everything (`SIOCOUTQ`, unix(7) and tcp(7)).
///
/// # Errors
/// `EINVAL` for a listening socket.
pub fn unread_by_peer(socket: impl AsFd) -> Result<usize, Errno> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, which is SIOCOUTQ on sockets, writes one int.
    crate::raw::check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }.into())?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// `sun_path` holds 107 bytes and the NUL; longer paths are named through their open directory.
fn with_address<T>(path: &Path, call: impl FnOnce(&SocketAddrUnix) -> Result<T, Errno>) -> Result<T, Errno> {
    if path.as_os_str().as_bytes().len() < 108 {
        return call(&SocketAddrUnix::new(path)?);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, rustix::fs::Mode::empty())?;
    let mut short = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    short.extend_from_slice(name.as_bytes());
    call(&SocketAddrUnix::new(short)?)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_travel_and_truncation_is_an_error() {
        let (a, b) = FdSocket::pair().unwrap();
        let file = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        a.send(b"hello", &[file.as_fd(), file.as_fd()]).unwrap();
        let mut buffer = [0u8; 16];
        let got = b.recv(&mut buffer).unwrap();
        assert_eq!((&buffer[..got.len], got.fds.len()), (&b"hello"[..], 2));
        assert!(rustix::io::fcntl_getfd(&got.fds[0]).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        a.send(&[1; 32], &[]).unwrap();
        assert_eq!(b.recv(&mut buffer).unwrap_err(), Errno::MSGSIZE);
        drop(a);
        assert_eq!(b.recv(&mut buffer).unwrap().len, 0);
    }

    #[test]
    fn long_paths_bind_and_connect() {
        let dir = std::env::temp_dir().join(format!("sys-{}", std::process::id())).join("x".repeat(150));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("s.sock");
        let listener = FdListener::bind(&path).unwrap();
        let client = FdSocket::connect(&path).unwrap();
        let server = listener.accept().unwrap();
        client.send(b"x", &[]).unwrap();
        assert_eq!(server.recv(&mut [0; 4]).unwrap().len, 1);
        assert_eq!(server.peer_uid().unwrap(), rustix::process::geteuid().as_raw());
        std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }
}
