//! Changing the bandwidth of a container's places while it runs, and for its next starts.

use std::sync::Arc;

use network::{Rate, parse_rate};
use state::Durability;

use super::request::{RATE_EGRESS, RATE_INGRESS};
use crate::container::Container;
use crate::engine::Inner;
use crate::error::{Result, fail};

/// Limit a container on all its networks, or on the one named. `None` leaves a direction as it is, an empty text frees it.
///
/// # Errors
/// Invalid for a rate that cannot be read; Not found for a network it is not on; what the kernel refuses.
pub(crate) async fn set_rate(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    network: Option<&str>,
    ingress: Option<&str>,
    egress: Option<&str>,
) -> Result<()> {
    let _lifecycle = container.lifecycle.lock().await;
    let read = |text: &str| match text {
        "" => Ok(None),
        text => parse_rate(text).map(Some).map_err(|e| fail!(Invalid, "invalid rate {text:?}: {e}")),
    };
    let wanted = (ingress.map(read).transpose()?, egress.map(read).transpose()?);
    let record = container.record();
    let chosen = |name: &str| network.is_none_or(|network| network == name);
    if !record.endpoints.keys().any(|name| chosen(name)) {
        return Err(fail!(
            NotFound,
            "container {} is not connected to network {}",
            record.id,
            network.unwrap_or_default()
        ));
    }
    if record.state.phase.is_live() {
        let (worker, record) = (Arc::clone(inner), Arc::clone(&record));
        let network = network.map(str::to_owned);
        let endpoints = inner
            .blocking("change a container's bandwidth", move || {
                let id = record.id.parse().map_err(|e| fail!(Internal, "{e}"))?;
                let mut endpoints = record.state.endpoints.clone();
                let mut attachment = worker.networks.fabric().enter(id, record.state.process(), endpoints.clone())?;
                let chosen = |name: &str| network.as_deref().is_none_or(|network| network == name);
                for endpoint in endpoints.iter_mut().filter(|endpoint| chosen(&endpoint.network_name)) {
                    let rate = Rate {
                        ingress: wanted.0.unwrap_or(endpoint.rate.ingress),
                        egress: wanted.1.unwrap_or(endpoint.rate.egress),
                    };
                    attachment.set_rate(&endpoint.id, rate)?;
                    endpoint.rate = rate;
                }
                Ok(endpoints)
            })
            .await?;
        container.change(|r| r.state.endpoints = endpoints);
    }
    container.change(|r| {
        for (_, settings) in r.endpoints.iter_mut().filter(|(name, _)| chosen(name)) {
            let options = settings.driver_opts.get_or_insert_default();
            for (key, text) in [(RATE_INGRESS, ingress), (RATE_EGRESS, egress)] {
                match text {
                    Some("") => drop(options.remove(key)),
                    Some(text) => drop(options.insert(key.to_owned(), text.to_owned())),
                    None => {}
                }
            }
        }
    });
    inner.persist(container, Durability::Process).await
}
