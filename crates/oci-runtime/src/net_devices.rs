//! `linux.netDevices`: interfaces of the host that move into the container's network namespace (runtime-spec,
//! "Network Devices"). They keep their addresses, and go back to the host, or away, with the namespace.

use std::os::fd::{AsFd, OwnedFd};

use netlink::route::{IpAddress, LinkChange, RouteRequests, RouteSocket};
use oci::{NamespaceKind, Spec};
use rustix::fs::{Mode, OFlags};

use crate::error::{Doing, Error, Result};

/// An interface that is in the container now.
struct Moved {
    name: String,
    addresses: Vec<IpAddress>,
}

/// Moves the interfaces into the namespace of the child `pid`, which waits, or the one it is to join.
///
/// # Errors
/// An interface that is not there, and what the kernel says.
pub(crate) fn move_all(spec: &Spec, pid: i32) -> Result<()> {
    let Some(devices) = spec.linux.as_ref().map(|linux| &linux.net_devices).filter(|devices| !devices.is_empty())
    else {
        return Ok(());
    };
    let own = format!("/proc/{pid}/ns/net");
    let path = spec.namespace(NamespaceKind::Network).and_then(|namespace| namespace.path.clone()).unwrap_or(own);
    let netns = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open the network namespace {path}"))?;
    let mut host = RouteSocket::open().map_err(refused)?;
    let addresses = host.ip_addresses().map_err(refused)?;
    let mut moved = Vec::new();
    for (name, device) in devices {
        let link = host.link(name).map_err(refused)?.ok_or_else(|| {
            Error::Other(format!("config.json: linux.netDevices.{name}: the host has no interface of this name"))
        })?;
        let inside = if device.name.is_empty() { name } else { &device.name };
        let mut requests = RouteRequests::new();
        requests.move_link(link.index, netns.as_fd(), inside);
        host.apply(requests).map_err(refused)?;
        let of_it = |address: &&IpAddress| address.link == link.index && address.global && address.permanent;
        let kept = addresses.iter().filter(of_it).copied().collect();
        moved.push(Moved { name: inside.clone(), addresses: kept });
    }
    settle(&netns, moved)
}

/// Gives the interfaces their addresses back and brings them up.
fn settle(netns: &OwnedFd, moved: Vec<Moved>) -> Result<()> {
    let inside = move || -> netlink::Result<()> {
        let mut socket = RouteSocket::open()?;
        for device in moved {
            let Some(link) = socket.link(&device.name)? else { continue };
            let mut requests = RouteRequests::new();
            for address in device.addresses {
                requests.add_ip_address(link.index, address.local, address.prefix);
            }
            requests.change_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() });
            socket.apply(requests)?;
        }
        Ok(())
    };
    sys::netns::within(netns, inside).doing(|| "enter the container's network namespace".to_owned())?.map_err(refused)
}

fn refused(error: netlink::Error) -> Error {
    Error::Other(format!("cannot move network devices into the container: {error}"))
}
