//! Taking a legacy link away: `docker rm --link CONTAINER/ALIAS`. Both containers stay. Called by the façade.

use std::sync::Arc;

use network::Endpoint;
use state::Durability;

use super::{hosts, join, legacy_links};
use crate::container::Container;
use crate::container::record::Record;
use crate::container::start::{port_specs, published};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// Takes the link of that name away from a container, running or not.
///
/// # Errors
/// Not found, in Docker's words, when it has none of that name.
pub(crate) async fn unlink(inner: &Arc<Inner>, container: &Arc<Container>, alias: &str) -> Result<()> {
    let _lifecycle = container.lifecycle.lock().await;
    let before = container.record();
    if !legacy_links::of(&before).any(|(_, own)| own == alias) {
        return Err(Error::no_such_container(&format!("{}/{alias}", before.name)));
    }
    let record = container.change(|r| {
        if let Some(links) = &mut r.host_config.links {
            links.retain(|link| legacy_links::parse(link).1 != alias);
        }
    });
    inner.persist(container, Durability::Process).await?;
    if !record.state.phase.is_live() {
        return Ok(());
    }
    let (worker, alias) = (Arc::clone(inner), alias.to_owned());
    match inner.blocking("take a link away", move || forget(&worker, &before, &record, &alias)).await {
        Ok(endpoints) => {
            container.change(|r| {
                r.state.ports = published(&endpoints);
                r.state.endpoints = endpoints;
            });
            inner.persist(container, Durability::Process).await?;
        }
        Err(error) => {
            tracing::warn!(container = container.id(), %error, "a link is known until its container ends");
        }
    }
    Ok(())
}

/// The running half: the name, and the lines of the hosts file.
fn forget(inner: &Inner, before: &Record, record: &Record, alias: &str) -> Result<Vec<Endpoint>> {
    let gone = legacy_links::marks(inner, before).filter(|(own, _)| own == alias);
    let gone = gone.map(|(_, mark)| hosts::Link { mark, lines: Vec::new() }).collect();
    if let Err(error) = hosts::relink(&inner.container_dir(&record.id).join("hosts"), || gone) {
        tracing::warn!(container = record.id, %error, "lines of a link stay in a container's hosts file");
    }
    let id = record.id.parse().map_err(|e| fail!(Internal, "{e}"))?;
    let attachment = inner.networks.fabric().enter(id, record.state.process(), record.state.endpoints.clone())?;
    let (_, endpoints) = attachment.finish(&join::resolver(inner, record), &port_specs(record)?)?;
    Ok(endpoints)
}
