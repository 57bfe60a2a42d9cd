//! A prepared network namespace: loopback up, a resolver's sockets open, and one veth pair whose host's end is plugged into
//! nothing yet.
//!
//! The far end of the veth pair is born inside the namespace, as moving it there would wait for an RCU grace period. The
//! socket opened while inside stays bound to the namespace, so that giving its links addresses later costs one message
//! and no thread. Dropping one that was not used ends its namespace and with it the veth pair.

use std::os::fd::{AsFd, OwnedFd};

use netlink::route::{LinkChange, RouteRequests, RouteSocket, Veth};

use crate::resolver::ResolverSockets;
use crate::spec::DEFAULT_MTU;
use crate::{Error, Result, links, sysctl};

/// Name the prepared link has inside until it gets its own.
pub(crate) const SPARE: &str = "eth0";

/// A namespace on no network.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) netns: OwnedFd,
    /// Bound to the namespace.
    pub(crate) inside: RouteSocket,
    pub(crate) resolver: ResolverSockets,
    /// The prepared veth pair, until a network takes it.
    pub(crate) spare: Option<Pair>,
}

/// A veth pair.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Name of the host's end.
    pub(crate) veth: String,
    /// Index of the far end in its namespace.
    pub(crate) interface: u32,
}

impl Sandbox {
    /// Makes one; `host` is a socket in the bridges' namespace.
    pub(crate) fn prepare(host: &mut RouteSocket) -> Result<Self> {
        let (netns, made) = sys::netns::create_with(set_up_inside).map_err(Error::io("make a network namespace"))?;
        let (mut inside, resolver) = made?;
        let spare = make_pair(host, &mut inside, netns.as_fd(), SPARE, DEFAULT_MTU)?;
        Ok(Self { netns, inside, resolver, spare: Some(spare) })
    }
}

/// Makes a veth pair with its far end, of that name, in the namespace. The host's end is up and in no bridge.
pub(crate) fn make_pair(
    host: &mut RouteSocket,
    inside: &mut RouteSocket,
    netns: std::os::fd::BorrowedFd<'_>,
    interface: &str,
    mtu: u32,
) -> Result<Pair> {
    let veth = links::veth_name()?;
    let mut requests = RouteRequests::new();
    requests.create_veth(&Veth { name: &veth, master: 0, peer_name: interface, peer_netns: netns, mtu });
    host.apply(requests)?;
    let vanished = || Error::Config(format!("{interface} vanished from a namespace being prepared"));
    let index = inside.link(interface)?.ok_or_else(vanished)?.index;
    Ok(Pair { veth, interface: index })
}

/// Runs inside the new namespace: loopback up, the settings Docker gives every container's namespace, and the resolver.
fn set_up_inside() -> Result<(RouteSocket, ResolverSockets)> {
    let mut socket = RouteSocket::open()?;
    let mut requests = RouteRequests::new();
    requests.change_link_by_name("lo", &LinkChange { up: Some(true), ..LinkChange::default() });
    socket.apply(requests)?;
    // Ports below 1024 and ping need no capability inside a container.
    sysctl::set_if_present("ipv4/ip_unprivileged_port_start", "0")?;
    sysctl::set_if_present("ipv4/ping_group_range", "0 2147483647")?;
    // A container on two networks is no way from one to the other unless somebody makes it one.
    sysctl::set_if_present("ipv4/ip_forward", "0")?;
    // Links get no IPv6 address, not even a link-local one, unless their network has IPv6; loopback keeps ::1.
    sysctl::set_if_present("ipv6/conf/default/disable_ipv6", "1")?;
    let resolver = ResolverSockets::open()?;
    Ok((socket, resolver))
}
