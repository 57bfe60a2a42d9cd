//! Which host ports are published, and the sockets that keep others from binding them.
//!
//! The invariant: every published port is in the table exactly once, and as long as it is, a socket of ours holds it
//! where the kernel let us have it. The sockets are bound but do not listen, so that whatever the firewall does not
//! translate is refused as if nobody were there. Owned by `Bridge`.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use types::{PortRange, Protocol};

use crate::port::{PortSpec, PublishedPort};
use crate::{Error, Result};

/// Range of ephemeral ports where the system does not tell its own.
const FALLBACK_EPHEMERAL: PortRange = PortRange { start: 49153, end: 65535 };
const EPHEMERAL_SYSCTL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Published ports of one network namespace.
#[derive(Debug)]
pub(crate) struct PortTable {
    /// Who holds each port. One number may be published on several addresses.
    held: HashMap<(Protocol, u16), Vec<Holder>>,
    ephemeral: PortRange,
    last_ephemeral: u16,
}

/// A published port's host address and socket. The socket is missing where another program got hold of the port while
/// no daemon ran: the container keeps it all the same.
type Holder = (Ipv4Addr, Option<OwnedFd>);

impl PortTable {
    /// An empty table with the system's range of ephemeral ports.
    pub(crate) fn new() -> Self {
        let ephemeral = std::fs::read_to_string(EPHEMERAL_SYSCTL).ok().and_then(|text| parse_range(&text));
        let ephemeral = ephemeral.unwrap_or(FALLBACK_EPHEMERAL);
        Self { held: HashMap::new(), ephemeral, last_ephemeral: ephemeral.end }
    }

    /// Reserves a host port for every spec, or none. Answers come in the order of the specs.
    pub(crate) fn reserve(
        &mut self,
        specs: &[PortSpec],
        default_binding: Ipv4Addr,
        container_address: Ipv4Addr,
    ) -> Result<Vec<PublishedPort>> {
        // Fixed ports go first, so that no range or ephemeral port takes what another spec insists on.
        let mut order: Vec<usize> = (0..specs.len()).collect();
        order.sort_by_key(|index| specs[*index].host.filter(|host| host.start != 0).map_or(u16::MAX, PortRange::span));
        let mut published: Vec<Option<PublishedPort>> = vec![None; specs.len()];
        for index in order {
            let spec = &specs[index];
            let address = spec.host_ip.unwrap_or(default_binding);
            match self.reserve_one(spec, address, container_address) {
                Ok(port) => published[index] = Some(port),
                Err(error) => {
                    self.release(published.iter().flatten());
                    return Err(error);
                }
            }
        }
        Ok(published.into_iter().flatten().collect())
    }

    fn reserve_one(&mut self, spec: &PortSpec, address: Ipv4Addr, target: Ipv4Addr) -> Result<PublishedPort> {
        match spec.host.filter(|host| host.start != 0) {
            Some(host) if host.start == host.end => self.reserve_port(spec, address, host.start, target),
            Some(host) => self.first_of(spec, address, host.start..=host.end, host, target),
            None => {
                let PortRange { start, end } = self.ephemeral;
                let from = if (start..end).contains(&self.last_ephemeral) { self.last_ephemeral + 1 } else { start };
                let candidates = (from..=end).chain(start..from);
                let port = self.first_of(spec, address, candidates, self.ephemeral, target)?;
                self.last_ephemeral = port.host_port;
                Ok(port)
            }
        }
    }

    /// The first port that can be had. Only taken ports are passed over: any other reason would hold for all.
    fn first_of(
        &mut self,
        spec: &PortSpec,
        address: Ipv4Addr,
        mut candidates: impl Iterator<Item = u16>,
        range: PortRange,
        target: Ipv4Addr,
    ) -> Result<PublishedPort> {
        candidates
            .find_map(|port| match self.reserve_port(spec, address, port, target) {
                Err(Error::PortAllocated { .. }) => None,
                Err(Error::PortBind { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => None,
                other => Some(other),
            })
            .unwrap_or(Err(Error::PortsExhausted {
                address,
                start: range.start,
                end: range.end,
                container: spec.container,
            }))
    }

    fn reserve_port(
        &mut self,
        spec: &PortSpec,
        address: Ipv4Addr,
        port: u16,
        target: Ipv4Addr,
    ) -> Result<PublishedPort> {
        let protocol = spec.container.protocol;
        if self.is_held(protocol, address, port) {
            return Err(Error::PortAllocated { address, port });
        }
        let socket = bind(protocol, address, port).map_err(|source| Error::PortBind {
            address,
            port,
            container_address: target,
            container: spec.container,
            source,
        })?;
        self.held.entry((protocol, port)).or_default().push((address, socket));
        Ok(PublishedPort { container_port: spec.container.port, protocol, host_ip: address, host_port: port })
    }

    /// A port is held when the same or an all-embracing address has it.
    fn is_held(&self, protocol: Protocol, address: Ipv4Addr, port: u16) -> bool {
        self.held.get(&(protocol, port)).is_some_and(|held| {
            held.iter().any(|(other, _)| *other == address || other.is_unspecified() || address.is_unspecified())
        })
    }

    /// Enters the port of a container found running; false when it could not be bound again.
    pub(crate) fn adopt(&mut self, port: &PublishedPort) -> bool {
        let socket = bind(port.protocol, port.host_ip, port.host_port);
        let bound = socket.is_ok();
        let held = self.held.entry((port.protocol, port.host_port)).or_default();
        held.push((port.host_ip, socket.ok().flatten()));
        bound
    }

    /// Gives ports back.
    pub(crate) fn release<'a>(&mut self, ports: impl IntoIterator<Item = &'a PublishedPort>) {
        for port in ports {
            let key = (port.protocol, port.host_port);
            if let Some(held) = self.held.get_mut(&key) {
                held.retain(|(address, _)| *address != port.host_ip);
                if held.is_empty() {
                    self.held.remove(&key);
                }
            }
        }
    }
}

/// Binds a socket that keeps the port; nothing for SCTP where the kernel has none.
fn bind(protocol: Protocol, address: Ipv4Addr, port: u16) -> io::Result<Option<OwnedFd>> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = match socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, Some(number)) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => return Ok(None),
        other => other?,
    };
    if protocol == Protocol::Tcp {
        // Connections of an earlier owner that linger in TIME_WAIT do not count against us...
        set_socket_reuseaddr(&socket, true)?;
    } else {
        // Datagrams nobody will ever read should not take up memory.
        let _ = set_socket_recv_buffer_size(&socket, 0);
    }
    rustix::net::bind(&socket, &SocketAddrV4::new(address, port))?;
    if protocol == Protocol::Tcp {
        // ... but nobody shall listen beside us by the same leniency.
        set_socket_reuseaddr(&socket, false)?;
    }
    Ok(Some(socket))
}

fn parse_range(text: &str) -> Option<PortRange> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    let (start, end) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (start > 0 && start <= end).then_some(PortRange { start, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use types::ExposedPort;

    const TARGET: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
    const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

    fn spec(protocol: Protocol, host_ip: Ipv4Addr, start: u16, end: u16) -> PortSpec {
        let host = (start > 0).then_some(PortRange { start, end });
        PortSpec { container: ExposedPort { port: 80, protocol }, host_ip: Some(host_ip), host }
    }

    fn reserve(table: &mut PortTable, spec: PortSpec) -> Result<PublishedPort> {
        table.reserve(&[spec], ANY, TARGET).map(|ports| ports[0])
    }

    #[test]
    fn an_ephemeral_port_is_bound_and_kept_from_others() {
        let mut table = PortTable::new();
        let port = reserve(&mut table, spec(Protocol::Tcp, LOOPBACK, 0, 0)).unwrap();
        assert!((table.ephemeral.start..=table.ephemeral.end).contains(&port.host_port));
        assert!(
            TcpListener::bind((LOOPBACK, port.host_port)).is_err(),
            "std sets SO_REUSEADDR and must fail all the same"
        );
        table.release([&port]);
        assert!(TcpListener::bind((LOOPBACK, port.host_port)).is_ok());
    }

    #[test]
    fn our_own_and_foreign_conflicts_are_told_apart() {
        let mut table = PortTable::new();
        let port = reserve(&mut table, spec(Protocol::Udp, LOOPBACK, 0, 0)).unwrap().host_port;
        for address in [LOOPBACK, ANY] {
            let error = reserve(&mut table, spec(Protocol::Udp, address, port, port)).unwrap_err();
            assert!(matches!(error, Error::PortAllocated { .. }), "{error}");
        }
        let foreign = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        let port = foreign.local_addr().unwrap().port();
        let error = reserve(&mut table, spec(Protocol::Udp, ANY, port, port)).unwrap_err();
        assert!(error.to_string().ends_with("address already in use"), "{error}");
        let foreign = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = foreign.local_addr().unwrap().port();
        let error = reserve(&mut table, spec(Protocol::Tcp, LOOPBACK, port, port)).unwrap_err();
        assert!(matches!(error, Error::PortBind { .. }), "{error}");
    }

    #[test]
    fn all_or_none_and_fixed_ports_first() {
        let mut table = PortTable::new();
        let foreign = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let taken = foreign.local_addr().unwrap().port();
        let specs = [spec(Protocol::Tcp, LOOPBACK, 0, 0), spec(Protocol::Tcp, LOOPBACK, taken, taken)];
        assert!(table.reserve(&specs, ANY, TARGET).is_err());
        assert!(table.held.is_empty());

        let fixed = reserve(&mut table, spec(Protocol::Tcp, LOOPBACK, 0, 0)).unwrap().host_port;
        table.held.clear();
        let range = spec(Protocol::Tcp, LOOPBACK, fixed, fixed.saturating_add(20));
        let published = table.reserve(&[range, spec(Protocol::Tcp, LOOPBACK, fixed, fixed)], ANY, TARGET).unwrap();
        assert_eq!(published[1].host_port, fixed);
        assert_ne!(published[0].host_port, fixed);
    }

    #[test]
    fn an_address_the_host_lacks_is_refused() {
        let absent = Ipv4Addr::new(203, 0, 113, 77);
        let error = reserve(&mut PortTable::new(), spec(Protocol::Tcp, absent, 8080, 8080)).unwrap_err();
        assert!(error.to_string().ends_with("cannot assign requested address"), "{error}");
    }

    #[test]
    fn range_of_the_system() {
        assert_eq!(parse_range("32768\t60999\n"), Some(PortRange { start: 32768, end: 60999 }));
        for bad in ["", "1", "9 8", "0 5", "x y"] {
            assert_eq!(parse_range(bad), None);
        }
    }
}
