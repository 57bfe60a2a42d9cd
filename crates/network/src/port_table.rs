//! Which host ports are published, and the sockets that keep others from binding them.
//!
//! The invariant: every published port is in the table exactly once, and it got there with a socket that was bound to
//! it. The sockets are bound but do not listen, so that whatever the firewall does not translate is refused as if
//! nobody were there; `dhow-net` keeps them, so that they outlive the daemon. All ports of a request are reserved
//! under one lock: starts at the same time never get the same one. Owned by `Fabric`.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use firewall::PortRule;
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_recv_buffer_size, set_socket_reuseaddr};
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
    held: HashMap<(Protocol, u16), Vec<IpAddr>>,
    ephemeral: PortRange,
    last_ephemeral: u16,
}

/// A port that was reserved. There is no socket for SCTP where the kernel has none.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) port: PublishedPort,
    pub(crate) socket: Option<OwnedFd>,
}

impl PortTable {
    /// An empty table with the system's range of ephemeral ports.
    pub(crate) fn new() -> Self {
        let ephemeral = std::fs::read_to_string(EPHEMERAL_SYSCTL).ok().and_then(|text| parse_range(&text));
        let ephemeral = ephemeral.unwrap_or(FALLBACK_EPHEMERAL);
        Self { held: HashMap::new(), ephemeral, last_ephemeral: ephemeral.end }
    }

    /// Reserves host ports for every spec, or none. A spec without an address gets the same port on each of the
    /// default ones. Answers come in the order of the specs. `target` is for messages.
    pub(crate) fn reserve(
        &mut self,
        specs: &[PortSpec],
        default_bindings: &[IpAddr],
        target: IpAddr,
    ) -> Result<Vec<Reserved>> {
        // Fixed ports go first, so that no range or ephemeral port takes what another spec insists on.
        let mut order: Vec<usize> = (0..specs.len()).collect();
        order.sort_by_key(|index| specs[*index].host.filter(|host| host.start != 0).map_or(u16::MAX, PortRange::span));
        let mut published: Vec<Vec<Reserved>> = specs.iter().map(|_| Vec::new()).collect();
        for index in order {
            let spec = &specs[index];
            let own = spec.host_ip.map(|address| [address]);
            let addresses = own.as_ref().map_or(default_bindings, |own| own.as_slice());
            match self.reserve_one(spec, addresses, target) {
                Ok(ports) => published[index] = ports,
                Err(error) => {
                    self.release(published.iter().flatten().map(|reserved| &reserved.port));
                    return Err(error);
                }
            }
        }
        Ok(published.into_iter().flatten().collect())
    }

    fn reserve_one(&mut self, spec: &PortSpec, addresses: &[IpAddr], target: IpAddr) -> Result<Vec<Reserved>> {
        match spec.host.filter(|host| host.start != 0) {
            Some(host) if host.start == host.end => self.reserve_port(spec, addresses, host.start, target),
            Some(host) => self.first_of(spec, addresses, host.start..=host.end, host, target),
            None => {
                let PortRange { start, end } = self.ephemeral;
                let from = if (start..end).contains(&self.last_ephemeral) { self.last_ephemeral + 1 } else { start };
                let candidates = (from..=end).chain(start..from);
                let ports = self.first_of(spec, addresses, candidates, self.ephemeral, target)?;
                if let Some(first) = ports.first() {
                    self.last_ephemeral = first.port.host_port;
                }
                Ok(ports)
            }
        }
    }

    /// The first port that can be had. Only taken ports are passed over: any other reason would hold for all.
    fn first_of(
        &mut self,
        spec: &PortSpec,
        addresses: &[IpAddr],
        mut candidates: impl Iterator<Item = u16>,
        range: PortRange,
        target: IpAddr,
    ) -> Result<Vec<Reserved>> {
        candidates
            .find_map(|port| match self.reserve_port(spec, addresses, port, target) {
                Err(Error::PortAllocated { .. }) => None,
                Err(Error::PortBind { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => None,
                other => Some(other),
            })
            .unwrap_or(Err(Error::PortsExhausted {
                address: addresses.first().copied().unwrap_or(IpAddr::from([0; 4])),
                start: range.start,
                end: range.end,
                container: spec.container,
            }))
    }

    /// One number on all the addresses, or on none.
    fn reserve_port(
        &mut self,
        spec: &PortSpec,
        addresses: &[IpAddr],
        port: u16,
        target: IpAddr,
    ) -> Result<Vec<Reserved>> {
        let protocol = spec.container.protocol;
        if let Some(address) = addresses.iter().find(|address| self.is_held(protocol, **address, port)) {
            return Err(Error::PortAllocated { address: *address, port });
        }
        let mut reserved = Vec::with_capacity(addresses.len());
        for address in addresses {
            let socket = bind(protocol, *address, port).map_err(|source| Error::PortBind {
                address: *address,
                port,
                container_address: target,
                container: spec.container,
                source,
            })?;
            let port =
                PublishedPort { container_port: spec.container.port, protocol, host_ip: *address, host_port: port };
            reserved.push(Reserved { port, socket });
        }
        self.held.entry((protocol, port)).or_default().extend(addresses);
        Ok(reserved)
    }

    /// A port is held when the same address has it, or one of the same family that stands for all.
    fn is_held(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.held.get(&(protocol, port)).is_some_and(|held| {
            held.iter().any(|other| {
                *other == address
                    || (other.is_ipv4() == address.is_ipv4() && (other.is_unspecified() || address.is_unspecified()))
            })
        })
    }

    /// Enters the port of a container found running.
    pub(crate) fn adopt(&mut self, port: &PublishedPort) {
        self.held.entry((port.protocol, port.host_port)).or_default().push(port.host_ip);
    }

    /// Gives ports back.
    pub(crate) fn release<'a>(&mut self, ports: impl IntoIterator<Item = &'a PublishedPort>) {
        for port in ports {
            let key = (port.protocol, port.host_port);
            if let Some(held) = self.held.get_mut(&key) {
                if let Some(at) = held.iter().position(|address| *address == port.host_ip) {
                    held.swap_remove(at);
                }
                if held.is_empty() {
                    self.held.remove(&key);
                }
            }
        }
    }
}

/// Binds the port of a container found running once more, for a `dhow-net` that lost its sockets. Nothing when another
/// program took it meanwhile: the container keeps its rules.
pub(crate) fn bind_again(port: &PortRule) -> Option<OwnedFd> {
    match bind(port.protocol, port.host_ip, port.host_port) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(address = %port.host_ip, port = port.host_port, %error, "a published port cannot be reserved again; the container keeps it");
            None
        }
    }
}

/// Binds a socket that keeps the port; nothing for SCTP where the kernel has none.
fn bind(protocol: Protocol, address: IpAddr, port: u16) -> io::Result<Option<OwnedFd>> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match socket_with(family, kind, SocketFlags::CLOEXEC, Some(number)) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => return Ok(None),
        other => other?,
    };
    if address.is_ipv6() {
        // The IPv4 address of the same number is a socket of its own.
        set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier owner that linger in TIME_WAIT do not count against us...
        set_socket_reuseaddr(&socket, true)?;
    } else {
        // Datagrams nobody will ever read should not take up memory.
        let _ = set_socket_recv_buffer_size(&socket, 0);
    }
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    if protocol == Protocol::Tcp {
        // ... but nobody shall listen beside us by the same leniency.
        set_socket_reuseaddr(&socket, false)?;
    }
    Ok(Some(socket))
}

/// Whether sockets of the host may have IPv6 addresses.
pub(crate) fn host_has_ipv6() -> bool {
    socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .is_ok_and(|socket| rustix::net::bind(&socket, &SocketAddr::new(IpAddr::from([0u16; 8]), 0)).is_ok())
}

fn parse_range(text: &str) -> Option<PortRange> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    let (start, end) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (start > 0 && start <= end).then_some(PortRange { start, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
    use types::ExposedPort;

    const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2));
    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn spec(protocol: Protocol, host_ip: IpAddr, start: u16, end: u16) -> PortSpec {
        let host = (start > 0).then_some(PortRange { start, end });
        PortSpec { container: ExposedPort { port: 80, protocol }, host_ip: Some(host_ip), host }
    }

    fn reserve(table: &mut PortTable, spec: PortSpec) -> Result<Reserved> {
        table.reserve(&[spec], &[ANY], TARGET).map(|mut ports| ports.remove(0))
    }

    #[test]
    fn an_ephemeral_port_is_bound_and_kept_from_others() {
        let mut table = PortTable::new();
        let Reserved { port, socket } = reserve(&mut table, spec(Protocol::Tcp, LOOPBACK, 0, 0)).unwrap();
        assert!((table.ephemeral.start..=table.ephemeral.end).contains(&port.host_port));
        assert!(
            TcpListener::bind((LOOPBACK, port.host_port)).is_err(),
            "std sets SO_REUSEADDR and must fail all the same"
        );
        table.release([&port]);
        drop(socket);
        assert!(TcpListener::bind((LOOPBACK, port.host_port)).is_ok());
    }

    #[test]
    fn our_own_and_foreign_conflicts_are_told_apart() {
        let mut table = PortTable::new();
        let port = reserve(&mut table, spec(Protocol::Udp, LOOPBACK, 0, 0)).unwrap().port.host_port;
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
        assert!(table.reserve(&specs, &[ANY], TARGET).is_err());
        assert!(table.held.is_empty());

        let fixed = reserve(&mut table, spec(Protocol::Tcp, LOOPBACK, 0, 0)).unwrap().port.host_port;
        table.held.clear();
        let range = spec(Protocol::Tcp, LOOPBACK, fixed, fixed.saturating_add(20));
        let published = table.reserve(&[range, spec(Protocol::Tcp, LOOPBACK, fixed, fixed)], &[ANY], TARGET).unwrap();
        assert_eq!(published[1].port.host_port, fixed);
        assert_ne!(published[0].port.host_port, fixed);
    }

    #[test]
    fn both_families_get_one_number() {
        if !host_has_ipv6() {
            return;
        }
        let mut table = PortTable::new();
        let open = PortSpec { host_ip: None, ..spec(Protocol::Tcp, ANY, 0, 0) };
        let first = table.reserve(&[open], &[ANY, ANY6], TARGET).unwrap();
        let addresses: Vec<IpAddr> = first.iter().map(|reserved| reserved.port.host_ip).collect();
        assert_eq!(addresses, [ANY, ANY6]);
        let number = first[0].port.host_port;
        assert_eq!(number, first[1].port.host_port);
        // A number that only one family has free is passed over by a range and refused by name.
        let fixed = PortSpec { host: Some(PortRange { start: number, end: number }), ..open };
        let one = table.reserve(&[PortSpec { host_ip: Some(LOOPBACK), ..fixed }], &[], TARGET);
        assert!(matches!(one, Err(Error::PortAllocated { .. })));
        table.release(first.iter().map(|reserved| &reserved.port));
        assert!(table.held.is_empty());
    }

    #[test]
    fn an_address_the_host_lacks_is_refused() {
        let absent = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
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
