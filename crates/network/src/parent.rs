//! Networks on a link of the host: macvlan and ipvlan.
//!
//! Their containers are neighbours of the host's own network; no rules, ports or addresses of ours stand between. A parent
//! `LINK.VLAN` that does not exist is made on LINK and removed with the last network on it: every network that shares such a
//! parent counts it as its own. Called by `Net` and
//! `Attachment`.

use std::os::fd::BorrowedFd;

use netlink::route::{IpvlanFlag, IpvlanMode, LinkChange, LinkKind, MacvlanMode, NewLink, RouteRequests, RouteSocket};
use rustix::io::Errno;

use crate::spec::NetworkSpec;
use crate::{Driver, Error, Result};

/// Start of the names of links to nowhere, for networks without a parent; twelve digits of the network's id follow.
const NOWHERE_PREFIX: &str = "dm-";

/// Name of the link that the network's links are on.
pub(crate) fn name_of(spec: &NetworkSpec) -> Result<String> {
    let id = spec.id.to_string();
    Ok(spec.parent_options()?.parent.unwrap_or_else(|| format!("{NOWHERE_PREFIX}{}", &id[..12])))
}

/// Checks that a network can share its parent with another. The kernel has one mode per parent of ipvlan links, and gives all
/// of them the last one's; beside links of another kind it makes none.
pub(crate) fn check_shared(spec: &NetworkSpec, other: &NetworkSpec) -> Result<()> {
    let parent = name_of(spec)?;
    if spec.driver != other.driver {
        let (driver, name) = (other.driver.as_str(), &other.name);
        return Err(Error::Config(format!(
            "network {name} of driver {driver} is already using parent interface {parent}"
        )));
    }
    let (wanted, there) = (spec.parent_options()?, other.parent_options()?);
    if spec.driver == Driver::Ipvlan && (&wanted.mode, &wanted.flag) != (&there.mode, &there.flag) {
        return Err(Error::Config(format!(
            "network {} is already using parent interface {parent} with ipvlan_mode {} and ipvlan_flag {}, which all networks \
             on it have",
            other.name, there.mode, there.flag
        )));
    }
    Ok(())
}

/// Finds the parent or makes it, and says whether it was there before.
pub(crate) fn ensure(route: &mut RouteSocket, spec: &NetworkSpec) -> Result<bool> {
    let name = name_of(spec)?;
    if route.link(&name)?.is_some() {
        return Ok(true);
    }
    let driver = spec.driver.as_str();
    let mut requests = RouteRequests::new();
    match spec.parent_options()?.parent {
        None => {
            requests.create_link(&NewLink { up: true, ..NewLink::new(&name, LinkKind::Dummy) });
            route.apply(requests).map_err(|error| {
                lacking(error, || format!("a {driver} network without a parent needs the kernel's dummy links; name one with -o parent=LINK"))
            })?;
        }
        Some(_) => {
            let (link, vlan) = name
                .rsplit_once('.')
                .and_then(|(link, vlan)| Some((link, vlan.parse::<u16>().ok()?)))
                .ok_or_else(|| {
                Error::Config(format!(
                    "the parent {name} does not exist; name a link of this host, or LINK.VLAN for one to be made"
                ))
            })?;
            if !(1..=4094).contains(&vlan) {
                return Err(Error::Config(format!("invalid parent {name}: a VLAN is 1 to 4094")));
            }
            let missing = || Error::Config(format!("the parent {link} of {name} does not exist"));
            let parent = route.link(link)?.ok_or_else(missing)?.index;
            requests.create_link(&NewLink {
                parent: Some(parent),
                up: true,
                ..NewLink::new(&name, LinkKind::Vlan(vlan))
            });
            route.apply(requests).map_err(|error| {
                lacking(error, || format!("the kernel has no VLAN links, which parent {name} needs"))
            })?;
        }
    }
    Ok(false)
}

/// Makes a container's link, born in its namespace under a name of ours.
pub(crate) fn make_link(
    route: &mut RouteSocket,
    spec: &NetworkSpec,
    name: &str,
    netns: BorrowedFd<'_>,
    mtu: Option<u32>,
) -> Result<()> {
    let options = spec.parent_options()?;
    let kind = match spec.driver {
        Driver::Ipvlan => {
            let mode = match options.mode.as_str() {
                "l3" => IpvlanMode::L3,
                "l3s" => IpvlanMode::L3s,
                _ => IpvlanMode::L2,
            };
            let flag = match options.flag.as_str() {
                "private" => IpvlanFlag::Private,
                "vepa" => IpvlanFlag::Vepa,
                _ => IpvlanFlag::Bridge,
            };
            LinkKind::Ipvlan(mode, flag)
        }
        _ => LinkKind::Macvlan(match options.mode.as_str() {
            "private" => MacvlanMode::Private,
            "vepa" => MacvlanMode::Vepa,
            "passthru" => MacvlanMode::Passthru,
            _ => MacvlanMode::Bridge,
        }),
    };
    let parent = name_of(spec)?;
    let missing = || Error::Config(format!("the parent {parent} of network {} does not exist", spec.name));
    let link = route.link(&parent)?.ok_or_else(missing)?;
    let mut requests = RouteRequests::new();
    if !link.up {
        requests.change_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() });
    }
    requests.create_link(&NewLink { parent: Some(link.index), netns: Some(netns), mtu, ..NewLink::new(name, kind) });
    let driver = spec.driver.as_str();
    route.apply(requests).map_err(|error| lacking(error, || format!("the kernel has no {driver} links")))
}

/// Removes a parent that was made for the network; for the last network on it.
pub(crate) fn release(route: &mut RouteSocket, spec: &NetworkSpec) {
    if spec.foreign_link {
        return;
    }
    let removed = (|| -> Result<()> {
        let name = name_of(spec)?;
        let mut requests = RouteRequests::new();
        requests.delete_link(&name);
        match route.apply(requests) {
            Err(error) if !error.is_absent() => Err(error.into()),
            _ => Ok(()),
        }
    })();
    if let Err(error) = removed {
        tracing::warn!(network = spec.name, %error, "the parent link of a network stays");
    }
}

/// A refusal because the kernel has no such links, in plain words.
fn lacking(error: netlink::Error, what: impl FnOnce() -> String) -> Error {
    if error.errno() == Some(Errno::OPNOTSUPP) { Error::Unsupported(what()) } else { error.into() }
}
