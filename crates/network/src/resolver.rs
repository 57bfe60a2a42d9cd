//! The two sockets that a container's names are served on, opened inside its network namespace.
//!
//! They are bound to 127.0.0.11 and a port that nobody else has; clients ask port 53. The rewriting between the two is done
//! without connection tracking where packets enter `lo`, so that nothing else of the container's traffic passes a rule and
//! a program inside can have port 53 for itself. Called while a namespace is prepared, and for a running container when
//! `dhow-net` has lost its sockets.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use netlink::nftables::{Family, NftSocket, Transaction};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, redirect};

/// Address that containers ask, as with Docker.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// How many ports are tried: that TCP has a port which UDP got is all but certain.
const ATTEMPTS: usize = 16;

/// Sockets of one container's resolver.
#[derive(Debug)]
pub(crate) struct ResolverSockets {
    pub(crate) udp: OwnedFd,
    /// Listening.
    pub(crate) tcp: OwnedFd,
}

impl ResolverSockets {
    /// Opens them in the network namespace of the calling thread, whose `lo` is up, and puts the rewriting in force in place
    /// of any there was.
    pub(crate) fn open() -> Result<Self> {
        let (udp, tcp) = pair().map_err(Error::io("open the sockets of a container's resolver"))?;
        let port = udp.local_addr().map_err(Error::io("look at a resolver's socket"))?.port();
        let mut table = Transaction::of(Family::Netdev, redirect::TABLE);
        redirect::install(&mut table, ADDRESS, port);
        NftSocket::open()?.apply(table)?;
        Ok(Self { udp: udp.into(), tcp: tcp.into() })
    }

    /// Opens them in the network namespace of a process.
    pub(crate) fn open_in_process(process: Process) -> Result<Self> {
        let netns = namespace_of(process)?;
        sys::netns::within(&netns, Self::open).map_err(Error::io("enter a container's network namespace"))?
    }
}

fn pair() -> std::io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let udp = UdpSocket::bind((ADDRESS, 0))?;
        match TcpListener::bind((ADDRESS, udp.local_addr()?.port())) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
}

/// A process and the network namespace it was put into. A number alone may be another process's by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Device and inode of the namespace.
    pub netns: (u64, u64),
}

impl Process {
    /// The process of a container that was started in the namespace.
    ///
    /// # Errors
    /// When the descriptor cannot be looked at.
    pub fn new(pid: i32, netns: impl AsFd) -> Result<Self> {
        Ok(Self { pid, netns: identity(netns)? })
    }
}

fn identity(netns: impl AsFd) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstat(netns)
        .map_err(|errno| Error::Io { action: "look at a network namespace".into(), source: errno.into() })?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The network namespace of a process, if the process is still the one that was put there.
pub(crate) fn namespace_of(process: Process) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", process.pid);
    let file = std::fs::File::open(&path).map_err(Error::io(format!("open {path}")))?;
    if identity(&file)? != process.netns {
        return Err(Error::Config(format!("process {} has ended, and its number is another's", process.pid)));
    }
    Ok(file.into())
}
