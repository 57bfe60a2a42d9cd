//! rtnetlink (`NETLINK_ROUTE`): links, addresses and routes of both families, queueing disciplines.
//!
//! Changes are collected in a [`RouteRequests`] and sent together by [`RouteSocket::apply`], which costs one system
//! call for sending and one for the answers however many changes there are. Reading is by the dump methods.

mod address;
mod link;
mod link_monitor;
mod new_link;
mod qdisc;
mod requests;
#[expect(clippy::module_inception, reason = "named after the kernel object, as its neighbours are")]
mod route;

use crate::Result;
use crate::socket::Socket;

pub use address::{Address, IpAddress};
pub use link::{Link, LinkName, MacAddress};
pub use link_monitor::{LinkEvent, LinkMonitor};
pub use new_link::{IpvlanFlag, IpvlanMode, LinkKind, MacvlanMode, NewLink};
pub use qdisc::{Qdisc, TokenBucket};
pub use requests::{LinkChange, RouteRequests, Veth};
pub use route::{IpRoute, Route, TABLE_MAIN};

/// A `NETLINK_ROUTE` socket, bound to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
}

impl RouteSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`crate::Error::Socket`] when descriptors have run out.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(None)? })
    }

    /// Sends the collected changes; the kernel carries them out in order.
    ///
    /// # Errors
    /// The first refusal. Changes are independent: those before and after a refused one are in force.
    pub fn apply(&mut self, requests: RouteRequests) -> Result<()> {
        if requests.messages.len() == 0 {
            return Ok(());
        }
        requests.check()?;
        self.socket.request(requests.messages)
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// As any request; links that do not parse are left out.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        link::dump(&mut self.socket)
    }

    /// The link of that name, if there is one.
    ///
    /// # Errors
    /// Any refusal other than the link being absent.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        link::get(&mut self.socket, name)
    }

    /// All IPv4 addresses of the namespace.
    ///
    /// # Errors
    /// As any request; addresses that do not parse are left out.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        Ok(self.ip_addresses()?.iter().filter_map(IpAddress::v4).collect())
    }

    /// All addresses of both families.
    ///
    /// # Errors
    /// As any request; addresses that do not parse are left out.
    pub fn ip_addresses(&mut self) -> Result<Vec<IpAddress>> {
        address::dump(&mut self.socket)
    }

    /// All IPv4 routes of the namespace, of every table.
    ///
    /// # Errors
    /// As any request; routes that do not parse are left out.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        Ok(self.ip_routes()?.iter().filter_map(IpRoute::v4).collect())
    }

    /// All routes of both families, of every table.
    ///
    /// # Errors
    /// As any request; routes that do not parse are left out.
    pub fn ip_routes(&mut self) -> Result<Vec<IpRoute>> {
        route::dump(&mut self.socket)
    }
}

/// Reads `N` bytes at an offset of a fixed struct.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
