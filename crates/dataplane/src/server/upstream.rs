//! Sockets to name servers: one for each attempt at a question, connected, so that its port is random and only its server
//! is heard.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use dns::forward::Socket;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use sys::Errno;

use super::poller::{Interest, Kind, Poller, Token, Watched};

/// Longest message.
const MAX_MESSAGE: usize = 65_535;
/// Datagrams read from one socket at a time.
const READS: usize = 4;
/// Attempts of one question: one a server.
const MAX_ATTEMPTS: u8 = 8;

/// All of them.
pub(crate) struct Sockets {
    open: HashMap<u64, Open>,
    by_name: HashMap<Socket, u64>,
    buffer: Vec<u8>,
}

struct Open {
    name: Socket,
    socket: Watched,
    stream: Option<Transfer>,
}

/// A question by TCP.
struct Transfer {
    output: Vec<u8>,
    sent: usize,
    /// The answer with its length in front.
    input: Vec<u8>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { open: HashMap::new(), by_name: HashMap::new(), buffer: vec![0; MAX_MESSAGE] }
    }
}

fn open(server: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

impl Sockets {
    /// Sends a datagram from the socket `name`, which is opened if it is not there.
    pub(crate) fn send(
        &mut self,
        poller: &Poller,
        name: Socket,
        server: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let number = match self.by_name.get(&name) {
            Some(number) => *number,
            None => {
                let socket = open(server, SocketType::DGRAM)?;
                rustix::net::connect(&socket, &server)?;
                self.watch(poller, name, socket, Interest::READ, None)?
            }
        };
        let Some(open) = self.open.get(&number) else { return Err(Errno::BADF) };
        match rustix::net::send(&open.socket.fd, bytes, SendFlags::NOSIGNAL) {
            // Lost, as datagrams may be.
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Connects by TCP under the same name, to send `bytes`.
    pub(crate) fn connect(
        &mut self,
        poller: &Poller,
        name: Socket,
        server: SocketAddr,
        bytes: Vec<u8>,
    ) -> Result<(), Errno> {
        self.drop_name(name);
        let socket = open(server, SocketType::STREAM)?;
        match rustix::net::connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        let transfer = Transfer { output: bytes, sent: 0, input: Vec::new() };
        self.watch(poller, name, socket, Interest::WRITE, Some(transfer)).map(drop)
    }

    fn watch(
        &mut self,
        poller: &Poller,
        name: Socket,
        socket: OwnedFd,
        interest: Interest,
        stream: Option<Transfer>,
    ) -> Result<u64, Errno> {
        let number = poller.fresh();
        let mut socket = Watched::new(socket, Token::new(Kind::Upstream, number));
        socket.want(poller, interest)?;
        self.open.insert(number, Open { name, socket, stream });
        self.by_name.insert(name, number);
        Ok(number)
    }

    fn drop_name(&mut self, name: Socket) {
        if let Some(number) = self.by_name.remove(&name) {
            self.open.remove(&number);
        }
    }

    /// Closes all sockets of a question.
    pub(crate) fn close(&mut self, question: u64) {
        for attempt in 0..MAX_ATTEMPTS {
            self.drop_name(Socket { question, attempt });
        }
    }

    /// Reads what has come and hands it on, or why nothing will.
    pub(crate) fn on_ready(
        &mut self,
        poller: &Poller,
        number: u64,
        write: bool,
        mut event: impl FnMut(Socket, Result<&[u8], Errno>),
    ) {
        let Some(open) = self.open.get_mut(&number) else { return };
        let name = open.name;
        if let Some(transfer) = &mut open.stream {
            match advance(poller, &mut open.socket, transfer, write, &mut self.buffer) {
                Ok(false) => {}
                Ok(true) => event(name, Ok(transfer.input.get(2..).unwrap_or_default())),
                Err(errno) => event(name, Err(errno)),
            }
            return;
        }
        for _ in 0..READS {
            match rustix::net::recv(&open.socket.fd, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((_, count)) => event(name, Ok(self.buffer.get(..count).unwrap_or_default())),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The error of an earlier datagram is told once; the socket is used on.
                Err(errno) => {
                    event(name, Err(errno));
                    return;
                }
            }
        }
    }
}

/// Sends and reads; whether the answer is whole.
fn advance(
    poller: &Poller,
    socket: &mut Watched,
    transfer: &mut Transfer,
    write: bool,
    buffer: &mut [u8],
) -> Result<bool, Errno> {
    if write && transfer.sent < transfer.output.len() {
        rustix::net::sockopt::socket_error(&socket.fd)??;
        let rest = transfer.output.get(transfer.sent..).unwrap_or_default();
        match rustix::net::send(&socket.fd, rest, SendFlags::NOSIGNAL) {
            Ok(count) => transfer.sent += count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno),
        }
        if transfer.sent == transfer.output.len() {
            socket.want(poller, Interest::READ)?;
        }
        return Ok(false);
    }
    let wanted = match transfer.input.as_slice() {
        [high, low, ..] => 2 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 2,
    };
    let room = (wanted - transfer.input.len().min(wanted)).min(buffer.len());
    let Some(place) = buffer.get_mut(..room) else { return Ok(false) };
    match rustix::io::read(&socket.fd, &mut *place) {
        Ok(0) => return Err(Errno::CONNRESET),
        Ok(count) => transfer.input.extend_from_slice(place.get(..count).unwrap_or_default()),
        Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
        Err(errno) => return Err(errno),
    }
    let whole = match transfer.input.as_slice() {
        [high, low, ..] => transfer.input.len() >= 2 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    };
    // A length of nothing is no answer.
    if whole && transfer.input.len() <= 2 {
        return Err(Errno::PROTO);
    }
    Ok(whole)
}
