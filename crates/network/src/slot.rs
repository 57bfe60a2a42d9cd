//! A prepared slot: a fresh network namespace whose `eth0` is a port of the bridge, still without an address.
//!
//! The far end of the veth pair is born inside the namespace, as moving it there would wait for an RCU grace period. The
//! socket opened while inside stays bound to the namespace, so that giving it an address later costs one message
//! and no thread. Dropping a slot that was not used ends its namespace and with it the veth pair.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use netlink::route::{LinkChange, MacAddress, RouteRequests, RouteSocket, Veth};

use crate::{Error, Result, sysctl};

/// Name of the container's end.
const INTERFACE: &str = "eth0";
/// Start of the names of the host's ends; eight hexadecimal digits follow.
const VETH_PREFIX: &str = "dhv";

/// Where slots are made.
#[derive(Debug, Clone)]
pub(crate) struct SlotSite {
    /// Index of the bridge link.
    pub(crate) bridge: u32,
    /// Largest packet in bytes.
    pub(crate) mtu: u32,
}

/// A namespace on the bridge without an address.
#[derive(Debug)]
pub(crate) struct PreparedSlot {
    netns: OwnedFd,
    /// Bound to the new namespace.
    socket: RouteSocket,
    interface: u32,
    mtu: u32,
    pub(crate) veth: String,
}

impl PreparedSlot {
    /// Makes a slot; `host` is a socket in the bridge's namespace.
    pub(crate) fn prepare(host: &mut RouteSocket, site: &SlotSite) -> Result<Self> {
        let (netns, socket) = sys::netns::create_with(set_up_inside).map_err(Error::io("make a network namespace"))?;
        let mut socket = socket?;
        let veth = format!("{VETH_PREFIX}{:08x}", crate::random::bytes::<4>().map(u32::from_ne_bytes)?);
        let mut requests = RouteRequests::new();
        requests.create_veth(&Veth {
            name: &veth,
            master: site.bridge,
            peer_name: INTERFACE,
            peer_netns: netns.as_fd(),
            mtu: site.mtu,
        });
        requests.set_hairpin(&veth);
        host.apply(requests)?;
        let interface = socket
            .link(INTERFACE)?
            .ok_or_else(|| Error::Config(format!("{INTERFACE} vanished from a namespace being prepared")))?
            .index;
        Ok(Self { netns, socket, interface, mtu: site.mtu, veth })
    }

    /// Gives `eth0` its addresses, brings it up and adds the default route.
    pub(crate) fn configure(
        mut self,
        ip: Ipv4Addr,
        prefix: u8,
        gateway: Ipv4Addr,
        mac: MacAddress,
        mtu: u32,
    ) -> Result<OwnedFd> {
        let mtu = (mtu != self.mtu).then_some(mtu);
        let mut requests = RouteRequests::new();
        requests
            .change_link(self.interface, &LinkChange { up: Some(true), mac: Some(mac), mtu, group: None })
            .add_address(self.interface, ip, prefix)
            .set_route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway), None);
        self.socket.apply(requests)?;
        Ok(self.netns)
    }
}

/// Runs inside the new namespace: loopback up, and the settings Docker gives every container's namespace.
fn set_up_inside() -> Result<RouteSocket> {
    let mut socket = RouteSocket::open()?;
    let mut requests = RouteRequests::new();
    requests.change_link_by_name("lo", &LinkChange { up: Some(true), ..LinkChange::default() });
    socket.apply(requests)?;
    // Ports below 1024 and ping need no capability inside a container.
    sysctl::set_if_present("ipv4/ip_unprivileged_port_start", "0")?;
    sysctl::set_if_present("ipv4/ping_group_range", "0 2147483647")?;
    // eth0 gets no IPv6 address, not even a link-local one; loopback keeps ::1.
    sysctl::set_if_present("ipv6/conf/default/disable_ipv6", "1")?;
    Ok(socket)
}

/// Whether a link's name is one of ours.
pub(crate) fn is_slot_veth(name: &str) -> bool {
    name.strip_prefix(VETH_PREFIX).is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}
