//! Datagrams in batches, with the address each was sent to (recvmmsg(2), sendmmsg(2), ip(7), ipv6(7)).
//!
//! Buffers are made once and used again; a batch costs one system call. Nothing here waits.
//! Called by `dataplane`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::Errno;
use crate::raw::{check, last_errno};

/// Room for one control message with an address, aligned as they are.
type Control = [u64; 8];

/// Buffers that a batch of datagrams is received into.
pub struct Receiver {
    size: usize,
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    lengths: Vec<Arrived>,
    with_destination: bool,
}

/// What the kernel said about one datagram.
#[derive(Clone, Copy)]
struct Arrived {
    len: usize,
    cut: bool,
    destination: Option<IpAddr>,
}

/// A datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub bytes: &'a [u8],
    pub from: Option<SocketAddr>,
    /// The address it was sent to, when the socket was asked for it ([`want_destination`]).
    pub to: Option<IpAddr>,
    /// It was longer than the buffer.
    pub cut: bool,
}

impl Receiver {
    /// Room for `count` datagrams of at most `size` bytes. Pages that no datagram reaches take no memory.
    #[must_use]
    pub fn new(count: usize, size: usize) -> Self {
        // SAFETY: an all-zero sockaddr_storage is valid: of no family.
        let name = unsafe { std::mem::zeroed::<libc::sockaddr_storage>() };
        Self {
            size,
            buffers: vec![0; count * size],
            names: vec![name; count],
            controls: vec![[0; 8]; count],
            lengths: Vec::with_capacity(count),
            with_destination: false,
        }
    }

    /// The same, with the addresses that datagrams were sent to.
    #[must_use]
    pub fn with_destinations(count: usize, size: usize) -> Self {
        Self { with_destination: true, ..Self::new(count, size) }
    }

    /// Takes what is there, as much as there is room for, and gives how many.
    ///
    /// # Errors
    /// `EAGAIN` when there is nothing, else what recvmmsg(2) says: on a connected socket what its peer refused.
    pub fn receive(&mut self, socket: impl AsFd) -> Result<usize, Errno> {
        self.lengths.clear();
        let count = self.names.len();
        let mut vectors: Vec<libc::iovec> = self
            .buffers
            .chunks_exact_mut(self.size)
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(count);
        for ((vector, name), control) in vectors.iter_mut().zip(&mut self.names).zip(&mut self.controls) {
            // SAFETY: all-zero message headers are valid: nothing is named by them.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            // Should the kernel leave it out, it is not to be the one before.
            name.ss_family = 0;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = &raw mut *vector;
            header.msg_hdr.msg_iovlen = 1;
            if self.with_destination {
                header.msg_hdr.msg_control = control.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = size_of::<Control>() as _;
            }
            headers.push(header);
        }
        let got = loop {
            // SAFETY: every header names a live, exclusively borrowed address, buffer and control buffer of the lengths
            // given; there is no timeout.
            let got = unsafe {
                libc::recvmmsg(
                    socket.as_fd().as_raw_fd(),
                    headers.as_mut_ptr(),
                    headers.len() as libc::c_uint,
                    libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
                    std::ptr::null_mut(),
                )
            };
            match check(got.into()) {
                Err(Errno::INTR) => {}
                other => break usize::try_from(other?).unwrap_or(0),
            }
        };
        for header in headers.iter().take(got) {
            self.lengths.push(Arrived {
                len: (header.msg_len as usize).min(self.size),
                cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                destination: if self.with_destination { destination(&header.msg_hdr) } else { None },
            });
        }
        Ok(self.lengths.len())
    }

    /// One of the datagrams of the last [`Receiver::receive`].
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Datagram<'_>> {
        let arrived = self.lengths.get(index)?;
        let start = index * self.size;
        Some(Datagram {
            bytes: self.buffers.get(start..start + arrived.len)?,
            from: self.names.get(index).and_then(read_address),
            to: arrived.destination,
            cut: arrived.cut,
        })
    }
}

/// Datagrams that wait to be sent in one call.
pub struct Sender {
    data: Vec<u8>,
    waiting: Vec<Waiting>,
    most: usize,
}

struct Waiting {
    start: usize,
    len: usize,
    to: libc::sockaddr_storage,
    to_len: libc::socklen_t,
    control: Control,
    control_len: usize,
}

impl Sender {
    /// For at most `most` datagrams at a time.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { data: Vec::new(), waiting: Vec::with_capacity(most), most }
    }

    /// Whether it is time to send.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= self.most
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a datagram to `to`, sent from the address `from` if one is given.
    pub fn push(&mut self, bytes: &[u8], to: &SocketAddr, from: Option<IpAddr>) {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        let (to, to_len) = write_address(to);
        let mut control = [0; 8];
        let control_len = from.map_or(0, |from| write_source(&mut control, from));
        self.waiting.push(Waiting { start, len: bytes.len(), to, to_len, control, control_len });
    }

    /// Sends what waits and gives how many the kernel took. What it does not take at once is dropped, as datagrams are.
    pub fn flush(&mut self, socket: impl AsFd) -> usize {
        let sent = self.send(socket.as_fd());
        self.data.clear();
        self.waiting.clear();
        // One large datagram is no reason to keep its room.
        self.data.shrink_to(64 * 1024);
        sent
    }

    fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        let data = &mut self.data;
        let mut vectors: Vec<libc::iovec> = Vec::with_capacity(self.waiting.len());
        for waiting in &self.waiting {
            let Some(bytes) = data.get_mut(waiting.start..waiting.start + waiting.len) else { return 0 };
            vectors.push(libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() });
        }
        let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(self.waiting.len());
        for (waiting, vector) in self.waiting.iter_mut().zip(&mut vectors) {
            // SAFETY: all-zero message headers are valid: nothing is named by them.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = (&raw mut waiting.to).cast();
            header.msg_hdr.msg_namelen = waiting.to_len;
            header.msg_hdr.msg_iov = &raw mut *vector;
            header.msg_hdr.msg_iovlen = 1;
            if waiting.control_len > 0 {
                header.msg_hdr.msg_control = waiting.control.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = waiting.control_len as _;
            }
            headers.push(header);
        }
        let (mut at, mut sent) = (0, 0);
        while let Some(rest) = headers.get_mut(at..).filter(|rest| !rest.is_empty()) {
            // SAFETY: every header names a live address, buffer and control buffer of the lengths given, which the kernel
            // only reads.
            let done = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            match usize::try_from(done) {
                Ok(0) => break,
                Ok(done) => {
                    at += done;
                    sent += done;
                }
                Err(_) => match last_errno() {
                    Errno::INTR => {}
                    Errno::AGAIN | Errno::NOBUFS => break,
                    // About the first alone.
                    _ => at += 1,
                },
            }
        }
        sent
    }
}

/// Asks for the address that each datagram was sent to.
///
/// # Errors
/// What setsockopt(2) says.
pub fn want_destination(socket: impl AsFd, v6: bool) -> Result<(), Errno> {
    let (level, name) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::IPPROTO_IP, libc::IP_PKTINFO) };
    let on: libc::c_int = 1;
    // SAFETY: both options read one int.
    let ret = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    check(ret.into()).map(drop)
}

fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has filled the control buffer and its length; the macros stay within them, and data is read
    // only where its type says there is enough of it.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    return Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    return Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

/// Writes the control message that chooses a source address; its length.
fn write_source(control: &mut Control, from: IpAddr) -> usize {
    fn put<T>(control: &mut Control, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
        let size = size_of::<T>() as libc::c_uint;
        // SAFETY: the two functions only compute.
        let (space, len) = unsafe { (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size)) };
        if space > size_of::<Control>() {
            return 0;
        }
        // SAFETY: the buffer is aligned for a header and, as checked, long enough for it and its data.
        unsafe {
            let message = control.as_mut_ptr().cast::<libc::cmsghdr>();
            (*message).cmsg_level = level;
            (*message).cmsg_type = kind;
            (*message).cmsg_len = len as _;
            libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
        }
        space
    }
    match from {
        IpAddr::V4(address) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(address).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put(control, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(address) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: address.octets() }, ipi6_ifindex: 0 };
            put(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

fn read_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: storage is larger than and aligned for every socket address; the family says which it is.
            let address = unsafe { (&raw const *storage).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let address = unsafe { (&raw const *storage).cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(address.sin6_port), 0, address.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_address(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: an all-zero sockaddr_storage is valid: of no family.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = match address {
        SocketAddr::V4(address) => {
            // SAFETY: all-zero is valid for it too.
            let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = address.port().to_be();
            raw.sin_addr.s_addr = u32::from(*address.ip()).to_be();
            // SAFETY: storage is larger than and aligned for every socket address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            // SAFETY: as above.
            let mut raw: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = address.port().to_be();
            raw.sin6_addr.s6_addr = address.ip().octets();
            raw.sin6_scope_id = address.scope_id();
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as libc::socklen_t)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn there_and_back(listen: &str, dial: &str) {
        let server = UdpSocket::bind(listen).unwrap();
        let port = server.local_addr().unwrap().port();
        want_destination(&server, listen.contains('[')).unwrap();
        let client = UdpSocket::bind(listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")).unwrap();
        client.connect((dial, port)).unwrap();
        for n in 0..5u8 {
            client.send(&vec![n; 1 + usize::from(n) * 10]).unwrap();
        }
        let mut receiver = Receiver::with_destinations(4, 30);
        assert_eq!(receiver.receive(&server).unwrap(), 4);
        let mut sender = Sender::new(4);
        for n in 0..4u8 {
            let datagram = receiver.get(n.into()).unwrap();
            let len = (1 + usize::from(n) * 10).min(30);
            assert_eq!((datagram.bytes.len(), datagram.cut), (len, n == 3));
            assert_eq!(datagram.from, Some(client.local_addr().unwrap()));
            assert_eq!(datagram.to, Some(dial.parse().unwrap()));
            sender.push(datagram.bytes, &datagram.from.unwrap(), datagram.to);
        }
        assert!(receiver.get(4).is_none() && sender.is_full());
        assert_eq!(sender.flush(&server), 4);
        assert!(sender.is_empty());
        let mut buffer = [0; 64];
        // The client is connected, so that only answers from the address it asked arrive.
        for n in 0..4u8 {
            let len = client.recv(&mut buffer).unwrap();
            assert_eq!((len, buffer[0]), ((1 + usize::from(n) * 10).min(30), n));
        }
        assert_eq!(receiver.receive(&server).unwrap(), 1);
        assert_eq!(receiver.receive(&server).unwrap_err(), Errno::AGAIN);
    }

    #[test]
    fn batches_keep_addresses_and_lengths() {
        there_and_back("0.0.0.0:0", "127.0.0.2");
    }

    #[test]
    fn batches_of_the_sixth_version() {
        // Not every host has it.
        if UdpSocket::bind("[::1]:0").is_ok() {
            there_and_back("[::]:0", "::1");
        }
    }
}
