//! Networks as lists and `inspect` show them.

use std::collections::BTreeMap;
use std::sync::Arc;

use docker_types::network::{EndpointResource, Network};
use network::Driver;
use types::Filters;

use super::{Known, Networks};
use crate::engine::Inner;
use crate::error::{Result, fail};

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

impl Networks {
    /// Networks that match, without their containers.
    ///
    /// # Errors
    /// Invalid for an unknown filter or value.
    pub(crate) fn list(&self, inner: &Inner, filters: &Filters) -> Result<Vec<Network>> {
        if let Some(key) = filters.unknown_key(FILTERS) {
            return Err(fail!(Invalid, "invalid filter '{key}'"));
        }
        let dangling = match filters.contains("dangling") {
            false => None,
            true => Some(filters.boolean("dangling", false).map_err(|_| {
                fail!(
                    Invalid,
                    "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"
                )
            })?),
        };
        for kind in filters.get("type") {
            if !matches!(kind, "builtin" | "custom") {
                return Err(fail!(Internal, "invalid filter: 'type'='{kind}'"));
            }
        }
        let used = self.used(inner);
        let chosen = self.all().into_iter().filter(|network| {
            let record = &network.record;
            let id = network.id.to_string();
            let driver = if record.config_only { "null" } else { network.driver_name() };
            dangling.is_none_or(|wanted| {
                // Built-in networks are never dangling.
                wanted != (network.built_in || used.contains(&record.name))
            }) && filters.exact_match("driver", driver)
                && filters.any_match("id", |want| id.starts_with(want))
                && filters.any_match("name", |want| record.name.contains(want))
                && filters.exact_match("scope", "local")
                && filters.exact_match("type", if network.built_in { "builtin" } else { "custom" })
                && filters.match_labels("label", |key| record.labels.get(key).map(String::as_str))
        });
        Ok(chosen.map(|network| self.shown(&network)).collect())
    }

    /// One network by name, id or id prefix, with its containers.
    ///
    /// # Errors
    /// Not found.
    pub(crate) fn inspect(&self, inner: &Inner, reference: &str) -> Result<Network> {
        let network = self.find(reference)?;
        let containers = match network.record.config_only {
            true => BTreeMap::new(),
            false => self.containers(inner, &network),
        };
        Ok(Network { containers: Some(containers), ..self.shown(&network) })
    }

    fn shown(&self, network: &Known) -> Network {
        let spec = self.fabric.network(&network.id);
        let usage = self.fabric.usage(&network.id);
        network.shown(spec.as_deref(), &usage)
    }

    /// The running containers on a network.
    fn containers(&self, inner: &Inner, network: &Known) -> BTreeMap<String, EndpointResource> {
        let mut containers = BTreeMap::new();
        for container in inner.containers.all() {
            let record = container.record();
            if !record.state.phase.is_live() {
                continue;
            }
            let resource = match network.driver {
                Driver::Host | Driver::Null => {
                    if record.host_config.network_mode != network.record.name {
                        continue;
                    }
                    EndpointResource { name: record.name.clone(), ..EndpointResource::default() }
                }
                _ => {
                    let Some(endpoint) = record.state.endpoints.iter().find(|e| e.network == network.id) else {
                        continue;
                    };
                    let text = |net: Option<String>| net.unwrap_or_default();
                    EndpointResource {
                        name: record.name.clone(),
                        endpoint_id: endpoint.id.to_string(),
                        mac_address: endpoint.mac.to_string(),
                        ipv4_address: text(endpoint.ipv4.map(|net| net.to_string())),
                        ipv6_address: text(endpoint.ipv6.map(|net| net.to_string())),
                    }
                }
            };
            containers.insert(container.id().to_owned(), resource);
        }
        containers
    }

    /// Names of the networks that a container, running or not, refers to.
    pub(super) fn used(&self, inner: &Inner) -> std::collections::BTreeSet<String> {
        let names = |container: Arc<crate::container::Container>| {
            let record = container.record();
            let mode = record.host_config.network_mode.clone();
            let named: Vec<String> = record.endpoints.keys().cloned().chain([mode]).collect();
            named
        };
        inner.containers.all().into_iter().flat_map(names).collect()
    }
}
