//! Kernel settings of links and bridges, through `/proc/sys/net`, of the network namespace the thread is in.
//!
//! The link's name has been checked where it came in, so that a path made of it leads nowhere else.
//! See the kernel's `Documentation/networking/ip-sysctl.rst`.

use std::io;

use netlink::route::LinkName;

use crate::{Error, Result};

/// Sets a setting of a link for `family`, `ipv4` or `ipv6`. One that the kernel lacks (IPv6 switched off) is passed over;
/// nothing is written when the value holds already, since `/proc/sys` may be read-only.
pub(crate) fn set(family: &str, link: LinkName, name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{family}/conf/{}/{name}", link.as_str());
    match std::fs::read_to_string(&path) {
        Ok(present) if present.trim_end() == value => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        _ => {}
    }
    std::fs::write(&path, value).map_err(|source| Error::Io { action: format!("set {path} to {value}"), source })
}

/// Whether packets of both families pass the firewall also where a bridge only passes them on (`br_netfilter`).
///
/// Then the rules keep containers of one network apart, and ports of its bridge must not be isolated: the kernel
/// translates packets to a published port while they are still in the bridge, which would not let them out of an
/// isolated port. Without it the rules do not see what a bridge passes on, and ports have to be isolated.
#[must_use]
pub fn bridges_are_filtered() -> bool {
    ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"].iter().all(|name| {
        std::fs::read_to_string(format!("/proc/sys/net/bridge/{name}")).is_ok_and(|value| value.trim_end() == "1")
    })
}
