//! Connecting containers to networks and disconnecting them, running or not.
//!
//! A container that does not run only changes its record. For one that runs the data plane comes first; what it refuses
//! leaves the record as it was. Called by the façade, and by renaming for the names.

use std::net::IpAddr;
use std::sync::Arc;

use docker_types::network::EndpointSettings;
use network::Endpoint;
use state::Durability;

use super::join::resolver;
use super::request::{check_endpoint, join_request, names_of};
use super::{BRIDGE, HOST, Known, NONE, hosts, legacy_links};
use crate::container::Container;
use crate::container::record::{Phase, Record};
use crate::container::start::{port_specs, published};
use crate::engine::Inner;
use crate::error::{Result, fail};

/// Give a container a place on a network.
///
/// # Errors
/// Forbidden when it has one; Invalid for settings and modes that do not go together; what the data plane refuses.
pub(crate) async fn connect(
    inner: &Arc<Inner>,
    network: &Arc<Known>,
    container: &Arc<Container>,
    settings: EndpointSettings,
) -> Result<()> {
    let lifecycle = container.lifecycle.lock().await;
    let record = container.record();
    let name = &network.record.name;
    let mode = record.host_config.network_mode.as_str();
    if matches!(record.state.phase, Phase::Removing | Phase::Dead) {
        return Err(fail!(
            Conflict,
            "container {} is marked for removal and cannot be connected or disconnected to the network",
            record.id
        ));
    }
    if name == HOST {
        return Err(fail!(
            Invalid,
            "cannot connect container to host network - container must be created in host network mode"
        ));
    }
    if mode == HOST {
        return Err(fail!(
            Invalid,
            "container sharing network namespace with another container or host cannot be connected to any other network"
        ));
    }
    if mode.starts_with("container:") {
        return Err(fail!(
            Invalid,
            "container sharing network namespace with another container or host cannot be connected to any other network"
        ));
    }
    if (name == NONE) != (mode == NONE) && (name == NONE || record.state.phase.is_live()) {
        return Err(fail!(
            Invalid,
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        ));
    }
    if network.record.config_only {
        return Err(fail!(Forbidden, "cannot connect to configuration network {name:?}: it is a template for others"));
    }
    check_endpoint(Some(network), &settings)?;
    if record.state.phase.is_live() {
        if record.state.endpoints.iter().any(|endpoint| endpoint.network == network.id) {
            return Err(fail!(Forbidden, "endpoint with name {} already exists in network {name}", record.name));
        }
        let (worker, joining, given) = (Arc::clone(inner), Arc::clone(network), settings.clone());
        let record = Arc::clone(&record);
        let endpoints = inner.blocking("connect a container", move || plug(&worker, &joining, &record, &given)).await?;
        container.change(|r| {
            r.state.ports = published(&endpoints);
            r.state.endpoints = endpoints;
        });
    }
    container.change(|r| {
        r.endpoints.insert(name.clone(), settings);
        if r.host_config.network_mode == NONE && name != NONE {
            // It leaves the private mode, as dockerd has it.
            r.endpoints.remove(NONE);
            r.host_config.network_mode = name.clone();
        }
    });
    let live = container.phase().is_live();
    if name == BRIDGE {
        legacy_links::follow(inner, container).await;
    }
    inner.persist(container, Durability::Process).await?;
    drop(lifecycle);
    if live {
        inner.publish_network(container, "connect", name);
    }
    Ok(())
}

/// The running half of [`connect`].
fn plug(inner: &Inner, network: &Known, record: &Record, settings: &EndpointSettings) -> Result<Vec<Endpoint>> {
    let container = record.id.parse().map_err(|e| fail!(Internal, "{e}"))?;
    let mut with = record.clone();
    with.endpoints.insert(network.record.name.clone(), settings.clone());
    let request = join_request(network, &with, settings)?;
    let fabric = inner.networks.fabric();
    let mut attachment = fabric.enter(container, record.state.process(), record.state.endpoints.clone())?;
    let joined = attachment.join(&request)?.clone();
    let resolver = resolver(inner, &with);
    let (_, endpoints) = attachment.finish(&resolver, &port_specs(record)?)?;
    let addresses: Vec<IpAddr> = joined.addresses().collect();
    let path = inner.container_dir(&record.id).join("hosts");
    if let Err(error) = hosts::add(&path, &addresses, &own_names(record)) {
        tracing::warn!(container = record.id, %error, "a new address is missing in a container's hosts file");
    }
    Ok(endpoints)
}

/// Take a container off a network.
///
/// # Errors
/// Internal, as dockerd answers, when it is not on it; Invalid for the host's network.
pub(crate) async fn disconnect(
    inner: &Arc<Inner>,
    network: &Arc<Known>,
    container: &Arc<Container>,
    force: bool,
) -> Result<()> {
    let lifecycle = container.lifecycle.lock().await;
    let record = container.record();
    let name = &network.record.name;
    if record.host_config.network_mode == HOST || name == HOST {
        return Err(fail!(Invalid, "container cannot be disconnected from host network or connected to host network"));
    }
    if !record.endpoints.contains_key(name) {
        return Err(fail!(Internal, "container {} is not connected to network {name}", record.id));
    }
    let was_live = record.state.phase.is_live();
    if let Some(endpoint) = record.state.endpoints.iter().find(|endpoint| endpoint.network == network.id).cloned() {
        let (worker, record) = (Arc::clone(inner), Arc::clone(&record));
        let unplugged = inner.blocking("disconnect a container", move || unplug(&worker, &record, &endpoint)).await;
        let endpoints = match unplugged {
            Ok(endpoints) => endpoints,
            Err(error) if force => {
                tracing::warn!(container = container.id(), %error, "a container was disconnected by force");
                let rest = container.record().state.endpoints.clone();
                rest.into_iter().filter(|endpoint| endpoint.network != network.id).collect()
            }
            Err(error) => return Err(error),
        };
        container.change(|r| {
            r.state.ports = published(&endpoints);
            r.state.endpoints = endpoints;
        });
    }
    container.change(|r| drop(r.endpoints.remove(name)));
    if name == BRIDGE {
        legacy_links::follow(inner, container).await;
    }
    inner.persist(container, Durability::Process).await?;
    drop(lifecycle);
    if was_live {
        inner.publish_network(container, "disconnect", name);
    }
    Ok(())
}

/// The running half of [`disconnect`].
fn unplug(inner: &Inner, record: &Record, endpoint: &Endpoint) -> Result<Vec<Endpoint>> {
    let container = record.id.parse().map_err(|e| fail!(Internal, "{e}"))?;
    let fabric = inner.networks.fabric();
    let mut attachment = fabric.enter(container, record.state.process(), record.state.endpoints.clone())?;
    let ports = port_specs(record)?;
    attachment.leave(&endpoint.id)?;
    let mut without = record.clone();
    without.endpoints.remove(&endpoint.network_name);
    let resolver = resolver(inner, &without);
    let endpoints = match attachment.finish(&resolver, &ports) {
        Ok((_, endpoints)) => endpoints,
        Err(error) => {
            // It has left all the same: the record must not say otherwise.
            tracing::warn!(container = record.id, %error, "ports could not move to another network of the container");
            let rest = record.state.endpoints.iter().filter(|other| other.id != endpoint.id).cloned();
            rest.map(|other| Endpoint { ports: Vec::new(), ..other }).collect()
        }
    };
    let addresses: Vec<IpAddr> = endpoint.addresses().collect();
    let path = inner.container_dir(&record.id).join("hosts");
    if let Err(error) = hosts::remove(&path, &addresses, &own_names(record)) {
        tracing::warn!(container = record.id, %error, "an old address stays in a container's hosts file");
    }
    Ok(endpoints)
}

/// Have a running container found by its new name. What fails is logged: the name has changed.
pub(crate) async fn renamed(inner: &Arc<Inner>, container: &Arc<Container>) {
    let record = container.record();
    if !record.state.phase.is_live() || record.state.endpoints.is_empty() {
        return;
    }
    let worker = Arc::clone(inner);
    let done = inner
        .blocking("rename a container on its networks", move || {
            let id = record.id.parse().map_err(|e| fail!(Internal, "{e}"))?;
            let fabric = worker.networks.fabric();
            let mut endpoints = record.state.endpoints.clone();
            let mut attachment = fabric.enter(id, record.state.process(), endpoints.clone())?;
            for endpoint in &mut endpoints {
                let settings = record.endpoints.get(&endpoint.network_name).cloned().unwrap_or_default();
                let names = names_of(&record, &settings);
                attachment.set_names(&endpoint.id, names.clone())?;
                endpoint.names = names;
            }
            Ok(endpoints)
        })
        .await;
    match done {
        Ok(endpoints) => {
            container.change(|r| r.state.endpoints = endpoints);
        }
        Err(error) => tracing::warn!(container = container.id(), %error, "a container is still found by its old name"),
    }
}

/// How the container calls itself in its hosts file.
pub(super) fn own_names(record: &Record) -> String {
    let (hostname, domain) = (&record.config.hostname, &record.config.domainname);
    if domain.is_empty() { hostname.clone() } else { format!("{hostname}.{domain} {hostname}") }
}
