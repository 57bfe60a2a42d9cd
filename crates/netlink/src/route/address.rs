//! IPv4 addresses as the kernel reports them (`RTM_GETADDR`).

use std::net::Ipv4Addr;

use super::array_at;
use crate::Result;
use crate::attribute::Attributes;
use crate::socket::Socket;

pub(super) const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
/// Length of `struct ifaddrmsg`.
const IFADDR: usize = 8;
pub(super) const AF_INET: u8 = 2;
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_BROADCAST: u16 = 4;

/// An IPv4 address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Interface index.
    pub link: u32,
    /// The address itself.
    pub local: Ipv4Addr,
    /// Length of its subnet's prefix, 0 to 32.
    pub prefix: u8,
}

fn parse(body: &[u8]) -> Option<Address> {
    let [family, prefix] = array_at(body, 0)?;
    let link = u32::from_ne_bytes(array_at(body, 4)?);
    let attributes = Attributes(body.get(IFADDR..)?);
    // On point-to-point links IFA_ADDRESS is the far end; IFA_LOCAL is always ours where present.
    let local = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?.ipv4()?;
    (family == AF_INET && prefix <= 32).then_some(Address { link, local, prefix })
}

pub(super) fn dump(socket: &mut Socket) -> Result<Vec<Address>> {
    let addresses = std::cell::RefCell::new(Vec::new());
    let mut fixed = [0; IFADDR];
    fixed[0] = AF_INET;
    socket.dump(
        GET_ADDRESS,
        &fixed,
        "list addresses",
        |kind, body| {
            if kind == NEW_ADDRESS {
                addresses.borrow_mut().extend(parse(body));
            }
        },
        || addresses.borrow_mut().clear(),
    )?;
    Ok(addresses.into_inner())
}
