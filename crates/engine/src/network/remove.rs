//! Removing networks that no running container is on.

use std::sync::Arc;

use docker_types::network::NetworkPruneReport;
use state::Op;
use types::Filters;

use super::Known;
use crate::container::list::until;
use crate::engine::Inner;
use crate::error::{Result, fail};

/// Remove a network.
///
/// # Errors
/// Not found; Forbidden for a built-in one, one with running containers, or a template in use.
pub(crate) async fn remove(inner: &Arc<Inner>, reference: &str) -> Result<()> {
    let _changing = inner.networks.changing.lock().await;
    let network = inner.networks.find(reference)?;
    if network.built_in {
        return Err(fail!(Forbidden, "{} is a pre-defined network and cannot be removed", network.record.name));
    }
    if let Some(reason) = in_use(inner, &network) {
        return Err(fail!(Forbidden, "error while removing network: {reason}"));
    }
    destroy(inner, &network).await
}

/// Why the network cannot go, if it cannot.
fn in_use(inner: &Inner, network: &Known) -> Option<String> {
    let name = &network.record.name;
    if network.record.config_only {
        let used = inner.networks.all().iter().any(|other| other.record.config_from == *name);
        return used.then(|| format!("configuration network {name:?} is in use"));
    }
    let mut active = Vec::new();
    for container in inner.containers.all() {
        let record = container.record();
        if let Some(endpoint) = record.state.endpoints.iter().find(|endpoint| endpoint.network == network.id) {
            let id = endpoint.id.to_string();
            active.push(format!("name:{:?} id:{:?}", record.name, &id[..12]));
        }
    }
    (!active.is_empty()).then(|| format!("network {name} has active endpoints ({})", active.join(", ")))
}

async fn destroy(inner: &Arc<Inner>, network: &Known) -> Result<()> {
    let id = network.id;
    if !network.record.config_only {
        let worker = Arc::clone(inner);
        let removed = inner.blocking("remove a network", move || Ok(worker.networks.fabric.remove(&id)?)).await;
        match removed {
            // A container has just joined.
            Err(error) if error.kind() == types::Kind::Forbidden => {
                return Err(error.context("error while removing network"));
            }
            Err(error) if error.kind() != types::Kind::NotFound => return Err(error),
            _ => {}
        }
    }
    inner.networks.forget(&id);
    inner.commit_removal(vec![Op::DeleteNetwork { id: id.to_string() }]).await?;
    let attributes =
        [("name".to_owned(), network.record.name.clone()), ("type".to_owned(), network.driver_name().to_owned())];
    inner.events.publish("network", "destroy", &id.to_string(), attributes.into());
    Ok(())
}

/// Remove every network that no container refers to.
///
/// # Errors
/// Invalid for an unknown filter.
pub(crate) async fn prune(inner: &Arc<Inner>, filters: &Filters) -> Result<NetworkPruneReport> {
    if let Some(key) = filters.unknown_key(&["label", "label!", "until"]) {
        return Err(fail!(Invalid, "invalid filter '{key}'"));
    }
    let until = until(filters)?;
    let _changing = inner.networks.changing.lock().await;
    let used = inner.networks.used(inner);
    let mut deleted = Vec::new();
    for network in inner.networks.all() {
        let record = &network.record;
        let label = |key: &str| record.labels.get(key).map(String::as_str);
        let chosen = !network.built_in
            && !used.contains(&record.name)
            && until.is_none_or(|time| record.created_ns < time)
            && filters.match_labels("label", label)
            && (!filters.contains("label!") || !filters.match_labels("label!", label))
            && in_use(inner, &network).is_none();
        if !chosen {
            continue;
        }
        match destroy(inner, &network).await {
            Ok(()) => deleted.push(record.name.clone()),
            Err(error) => tracing::warn!(network = record.name, %error, "a network could not be pruned"),
        }
    }
    inner.events.publish("network", "prune", "", [("reclaimed".to_owned(), "0".to_owned())].into());
    Ok(NetworkPruneReport { networks_deleted: (!deleted.is_empty()).then_some(deleted) })
}
