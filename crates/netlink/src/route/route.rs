//! Routes: as the kernel reports them (`RTM_GETROUTE`), and setting and deleting them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{AF_INET, AF_INET6};
use super::array_at;
use super::requests::RouteRequests;
use crate::Result;
use crate::attribute::Attributes;
use crate::message::{CREATE, REPLACE};
use crate::socket::{ACKNOWLEDGE, Socket};

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
/// Length of `struct rtmsg`.
const RTMSG: usize = 12;
const RTA_DESTINATION: u16 = 1;
const RTA_OUTPUT_LINK: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_TABLE: u16 = 15;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
/// When deleting: of whatever scope.
const SCOPE_NOWHERE: u8 = 255;
const UNICAST: u8 = 1;

/// Number of the routing table in everyday use.
pub const TABLE_MAIN: u32 = 254;

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

/// A route of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRoute {
    /// Network it leads to; the unspecified address with prefix 0 is the default route.
    pub destination: IpAddr,
    /// Length of the network's prefix, 0 to 32 or 128.
    pub prefix: u8,
    /// Next hop, if any.
    pub gateway: Option<IpAddr>,
    /// Interface index packets leave by, if the route names one.
    pub link: Option<u32>,
    /// Among routes to the same network the lowest counts; the kernel's choice if none (IPv4 0, IPv6 1024).
    pub metric: Option<u32>,
    /// Routing table: 254 is main, 255 local.
    pub table: u32,
}

impl IpRoute {
    /// A route in the main table, still without a way.
    #[must_use]
    pub const fn to(destination: IpAddr, prefix: u8) -> Self {
        Self { destination, prefix, gateway: None, link: None, metric: None, table: TABLE_MAIN }
    }

    /// The default route of the gateway's family.
    #[must_use]
    pub const fn default_by(gateway: IpAddr) -> Self {
        let everywhere = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { gateway: Some(gateway), ..Self::to(everywhere, 0) }
    }

    /// The same, if it is of IPv4.
    pub(super) fn v4(&self) -> Option<Route> {
        let IpAddr::V4(destination) = self.destination else { return None };
        let gateway = match self.gateway {
            Some(IpAddr::V4(gateway)) => Some(gateway),
            _ => None,
        };
        Some(Route { destination, prefix: self.prefix, gateway, link: self.link, table: self.table })
    }
}

fn parse(body: &[u8]) -> Option<IpRoute> {
    let [family, prefix, _, _, table] = array_at(body, 0)?;
    let attributes = Attributes(body.get(RTMSG..)?);
    let (longest, everywhere): (u8, IpAddr) = match family {
        AF_INET => (32, Ipv4Addr::UNSPECIFIED.into()),
        AF_INET6 => (128, Ipv6Addr::UNSPECIFIED.into()),
        _ => return None,
    };
    let destination = match attributes.find(RTA_DESTINATION) {
        Some(destination) => destination.ip()?,
        None => everywhere,
    };
    if prefix > longest || destination.is_ipv4() != everywhere.is_ipv4() {
        return None;
    }
    Some(IpRoute {
        destination,
        prefix,
        gateway: attributes.find(RTA_GATEWAY).and_then(|a| a.ip()),
        link: attributes.find(RTA_OUTPUT_LINK).and_then(|a| a.u32()),
        metric: attributes.find(RTA_PRIORITY).and_then(|a| a.u32()),
        table: attributes.find(RTA_TABLE).and_then(|a| a.u32()).unwrap_or(u32::from(table)),
    })
}

pub(super) fn dump(socket: &mut Socket) -> Result<Vec<IpRoute>> {
    let routes = std::cell::RefCell::new(Vec::new());
    socket.dump(
        GET_ROUTE,
        &[0; RTMSG],
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

impl RouteRequests {
    /// Adds or replaces the IPv4 route to a network: through a gateway, or directly over the link.
    pub fn set_route(
        &mut self,
        destination: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
        link: Option<u32>,
    ) -> &mut Self {
        let route = IpRoute { gateway: gateway.map(IpAddr::V4), link, ..IpRoute::to(destination.into(), prefix) };
        self.set_ip_route(&route)
    }

    /// Adds a route, or replaces the one to the same network with the same metric.
    pub fn set_ip_route(&mut self, route: &IpRoute) -> &mut Self {
        let v4_link = route.gateway.is_none() && route.destination.is_ipv4();
        let scope = if v4_link { SCOPE_LINK } else { SCOPE_UNIVERSE };
        let request = format!("add route {}/{}", route.destination, route.prefix);
        self.route(NEW_ROUTE, ACKNOWLEDGE | CREATE | REPLACE, request, route, scope)
    }

    /// Deletes a route; what is `None` is not compared. Refused with `ESRCH` when there is none.
    pub fn delete_ip_route(&mut self, route: &IpRoute) -> &mut Self {
        let request = format!("delete route {}/{}", route.destination, route.prefix);
        self.route(DELETE_ROUTE, ACKNOWLEDGE, request, route, SCOPE_NOWHERE)
    }

    fn route(&mut self, kind: u16, flags: u16, request: String, route: &IpRoute, scope: u8) -> &mut Self {
        self.messages.message(kind, flags, request, |m| {
            let family = if route.destination.is_ipv4() { AF_INET } else { AF_INET6 };
            // Tables beyond 255 are named by their attribute alone.
            let table = u8::try_from(route.table).unwrap_or(0);
            let (protocol, unicast) = if kind == NEW_ROUTE { (PROTOCOL_BOOT, UNICAST) } else { (0, 0) };
            let mut rtmsg = [0; RTMSG];
            rtmsg[..8].copy_from_slice(&[family, route.prefix, 0, 0, table, protocol, scope, unicast]);
            m.raw(&rtmsg);
            if route.prefix > 0 {
                m.ip(RTA_DESTINATION, route.destination);
            }
            if let Some(gateway) = route.gateway {
                m.ip(RTA_GATEWAY, gateway);
            }
            if let Some(link) = route.link {
                m.u32(RTA_OUTPUT_LINK, link);
            }
            if let Some(metric) = route.metric {
                m.u32(RTA_PRIORITY, metric);
            }
            if table == 0 {
                m.u32(RTA_TABLE, route.table);
            }
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_both_families_are_read() {
        let v4 = [&[2, 8, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0][..], &[8, 0, 1, 0, 10, 0, 0, 0]].concat();
        let route = parse(&v4).unwrap();
        assert_eq!((route.destination, route.prefix, route.table), (Ipv4Addr::new(10, 0, 0, 0).into(), 8, 254));
        let mut v6 = vec![10, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        assert_eq!(parse(&v6).unwrap().destination, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        v6[1] = 129;
        assert!(parse(&v6).is_none());
        for cut in 0..v4.len() {
            let _ = parse(&v4[..cut]);
        }
        // A destination of the other family.
        let mut mixed = v4;
        mixed[0] = 10;
        assert!(parse(&mixed).is_none());
    }
}
