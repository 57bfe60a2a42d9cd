//! IPv4 routes as the kernel reports them (`RTM_GETROUTE`).

use std::net::Ipv4Addr;

use super::address::AF_INET;
use super::array_at;
use crate::Result;
use crate::attribute::Attributes;
use crate::socket::Socket;

pub(super) const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// Length of `struct rtmsg`.
pub(super) const RTMSG: usize = 12;
pub(super) const RTA_DESTINATION: u16 = 1;
pub(super) const RTA_OUTPUT_LINK: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;

/// An IPv4 route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Network it leads to; `0.0.0.0` with prefix 0 is the default route.
    pub destination: Ipv4Addr,
    /// Length of the network's prefix, 0 to 32.
    pub prefix: u8,
    /// Next hop, if any.
    pub gateway: Option<Ipv4Addr>,
    /// Interface index packets leave by, if the route names one.
    pub link: Option<u32>,
    /// Routing table: 254 is main, 255 local.
    pub table: u32,
}

fn parse(body: &[u8]) -> Option<Route> {
    let [family, prefix, _, _, table] = array_at(body, 0)?;
    let attributes = Attributes(body.get(RTMSG..)?);
    (family == AF_INET && prefix <= 32).then_some(())?;
    Some(Route {
        destination: attributes.find(RTA_DESTINATION).and_then(|a| a.ipv4()).unwrap_or(Ipv4Addr::UNSPECIFIED),
        prefix,
        gateway: attributes.find(RTA_GATEWAY).and_then(|a| a.ipv4()),
        link: attributes.find(RTA_OUTPUT_LINK).and_then(|a| a.u32()),
        table: attributes.find(RTA_TABLE).and_then(|a| a.u32()).unwrap_or(u32::from(table)),
    })
}

pub(super) fn dump(socket: &mut Socket) -> Result<Vec<Route>> {
    let routes = std::cell::RefCell::new(Vec::new());
    let mut fixed = [0; RTMSG];
    fixed[0] = AF_INET;
    socket.dump(
        GET_ROUTE,
        &fixed,
        "list routes",
        |kind, body| {
            if kind == NEW_ROUTE {
                routes.borrow_mut().extend(parse(body));
            }
        },
        || routes.borrow_mut().clear(),
    )?;
    Ok(routes.into_inner())
}
