//! A starting container's places on its networks. Blocking; called while a start is prepared.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use network::{Endpoint, Link, Resolver};
use types::NetworkId;

use super::request::join_request;
use super::{BRIDGE, HOST, NONE, legacy_links};
use crate::config::EngineConfig;
use crate::container::record::Record;
use crate::container::start::port_specs;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// The namespace with all its links, and the places; none where the container needs no network of ours.
///
/// # Errors
/// In Docker's words: a network that is gone, an address or a port that is taken.
pub(crate) fn join(inner: &Inner, record: &Record) -> Result<Option<(OwnedFd, Vec<Endpoint>)>> {
    let mode = record.host_config.network_mode.as_str();
    if matches!(mode, HOST | NONE) || mode.starts_with("container:") || record.config.network_disabled {
        return Ok(None);
    }
    let networks = &inner.networks;
    if mode == BRIDGE && !networks.bridged() {
        return Err(fail!(
            NotFound,
            "failed to set up container networking: network bridge not found: this engine runs without a bridge; use --network none or host"
        ));
    }
    legacy_links::check(inner, record)?;
    let failed = |error: Error| error.context("failed to set up container networking");
    let container = record.id.parse().map_err(|e| fail!(Internal, "{e}"))?;
    let mut attachment = networks.fabric().prepare(container).map_err(|error| failed(error.into()))?;
    // The default bridge first, the others by name.
    let mut names: Vec<&String> = record.endpoints.keys().collect();
    names.sort_by_key(|name| name.as_str() != BRIDGE);
    let mut joined = 0;
    for name in names {
        let network = networks.named(name).map_or_else(|| networks.find(name), Ok).map_err(failed)?;
        if matches!(network.record.name.as_str(), HOST | NONE) || network.record.config_only {
            continue;
        }
        let request = join_request(&network, record, &record.endpoints[name]).map_err(failed)?;
        attachment.join(&request).map_err(|error| failed(error.into()))?;
        joined += 1;
    }
    // One that was taken off its last network starts with loopback and no network.
    if joined == 0 && !record.endpoints.is_empty() {
        return Err(fail!(NotFound, "failed to set up container networking: network {mode} not found"));
    }
    let resolver = resolver(inner, record);
    let ports = port_specs(record)?;
    attachment.finish(&resolver, &ports).map(Some).map_err(|error| {
        let port = matches!(
            error,
            network::Error::PortAllocated { .. }
                | network::Error::PortBind { .. }
                | network::Error::PortsExhausted { .. }
        );
        let error = Error::from(error);
        let error = match port {
            true => error.context(format!(
                "driver failed programming external connectivity on endpoint {} ({})",
                record.name, record.id
            )),
            false => error,
        };
        failed(error)
    })
}

/// Where a container's names come from beyond its networks.
pub(super) fn resolver(inner: &Inner, record: &Record) -> Resolver {
    let networks = &inner.networks;
    let network = |name: &str| Some(networks.named(name).map_or_else(|| networks.find(name), Ok).ok()?.id);
    let find = |reference: &str| {
        let found = inner.containers.get(reference).ok()?.record();
        Some((found.id.clone(), found.name.clone()))
    };
    resolver_of(&inner.config, record, network, find)
}

/// As [`resolver`]. `network` gives the id of a network by its name, `find` id and name of another container.
pub(crate) fn resolver_of(
    config: &EngineConfig,
    record: &Record,
    network: impl Fn(&str) -> Option<NetworkId>,
    find: impl Fn(&str) -> Option<(String, String)>,
) -> Resolver {
    let pick = |own: &Option<Vec<String>>, default: &[String]| match own {
        Some(list) if !list.is_empty() => list.clone(),
        _ => default.to_vec(),
    };
    let servers: Vec<IpAddr> =
        pick(&record.host_config.dns, &config.dns).iter().filter_map(|text| text.parse().ok()).collect();
    let options = pick(&record.host_config.dns_options, &config.dns_options);
    let ndots_set = options.iter().any(|option| option.strip_prefix("ndots:").is_some_and(|n| n != "0"));
    let mut links = Vec::new();
    for (name, settings) in &record.endpoints {
        let Some(network) = network(name) else { continue };
        for (target, alias) in settings.links.iter().flatten().map(|link| legacy_links::parse(link)) {
            // A name is looked up when it is asked for; by its id a container is known on every network.
            let name = match find(target) {
                Some((id, name)) if name != target => short(&id),
                _ => target.to_owned(),
            };
            links.push(Link { alias: alias.to_owned(), network, name });
        }
    }
    if let Some(network) = network(BRIDGE).filter(|_| record.endpoints.contains_key(BRIDGE)) {
        for (target, alias) in legacy_links::of(record) {
            let id = find(target).map_or_else(|| target.to_owned(), |(id, _)| id);
            links.push(Link { alias: alias.to_owned(), network, name: short(&id) });
        }
    }
    Resolver { servers: (!servers.is_empty()).then_some(servers), links, ndots_set }
}

/// The digits of an id that name its container on a network.
fn short(id: &str) -> String {
    id.get(..12).unwrap_or(id).to_owned()
}
