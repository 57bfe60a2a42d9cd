//! The networks every engine has: the default bridge, `host` and `none`. Their ids are made once and
//! kept. Networks of users come later; asking for one is refused by name. Called by start, exit and
//! the façade.

use std::collections::BTreeMap;

use docker_types::network::{EndpointResource, Ipam, IpamConfig, Network};
use network::{Bridge, BridgeConfig, Driver, Endpoint, NetworkInfo};
use serde::{Deserialize, Serialize};
use state::{Contents, Op};
use types::{Filters, NetworkId};

use crate::clock;
use crate::config::EngineConfig;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// What is stored of a built-in network.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    created_ns: i64,
}

#[derive(Debug)]
pub(crate) struct Networks {
    bridge: Option<Bridge>,
    /// Name, id, creation time.
    known: Vec<(String, NetworkId, i64)>,
}

impl Networks {
    /// Set the default bridge up and find or make the ids. Gives what is to be written.
    ///
    /// # Errors
    /// When the bridge cannot be set up.
    pub(crate) fn open(config: &EngineConfig, contents: &Contents, running: &[Endpoint]) -> Result<(Self, Vec<Op>)> {
        let mut ops = Vec::new();
        let mut known = Vec::new();
        for name in ["bridge", "host", "none"] {
            let stored = contents.networks.iter().find_map(|(id, doc)| {
                let record: Record = serde_json::from_str(doc).ok()?;
                (record.name == name).then_some((id.parse().ok()?, record.created_ns))
            });
            let (id, created_ns): (NetworkId, i64) = match stored {
                Some(found) => found,
                None => {
                    let mut bytes = [0; 32];
                    getrandom::fill(&mut bytes).map_err(|e| Error::io("cannot make a network id", e))?;
                    let id = NetworkId::from_random(bytes);
                    let record = Record { name: name.to_owned(), created_ns: clock::now_ns() };
                    let doc =
                        serde_json::to_string(&record).map_err(|e| Error::io("cannot encode a network's record", e))?;
                    ops.push(Op::PutNetwork { id: id.to_string(), doc });
                    (id, record.created_ns)
                }
            };
            known.push((name.to_owned(), id, created_ns));
        }
        let bridge = match config.bridge.as_str() {
            "none" => None,
            name => Some(setup(config, name, running)?),
        };
        Ok((Self { bridge, known }, ops))
    }

    /// The default bridge, unless the engine runs without.
    pub(crate) fn bridge(&self) -> Option<&Bridge> {
        self.bridge.as_ref()
    }

    /// Id of a built-in network, or nothing.
    pub(crate) fn id_of(&self, name: &str) -> String {
        self.known.iter().find(|(n, _, _)| n == name).map(|(_, id, _)| id.to_string()).unwrap_or_default()
    }

    /// Docker's word for the driver of a built-in network.
    pub(crate) fn driver_of(&self, name: &str) -> &'static str {
        match name {
            "host" => "host",
            "none" => "null",
            _ => "bridge",
        }
    }

    fn infos(&self) -> Vec<(NetworkInfo, i64)> {
        self.known
            .iter()
            .filter_map(|(name, id, created)| {
                let info = match name.as_str() {
                    "bridge" => self.bridge.as_ref()?.info(*id, name),
                    "host" => NetworkInfo::host(*id),
                    _ => NetworkInfo::none(*id),
                };
                Some((info, *created))
            })
            .collect()
    }

    /// Networks that match, without their containers.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub(crate) fn list(&self, filters: &Filters) -> Result<Vec<Network>> {
        if let Some(key) = filters.unknown_key(&["dangling", "driver", "id", "label", "name", "scope", "type"]) {
            return Err(fail!(Invalid, "invalid filter '{key}'"));
        }
        let dangling =
            filters.boolean("dangling", false).map_err(|v| fail!(Invalid, "invalid filter 'dangling={v:?}'"))?;
        for kind in filters.get("type") {
            if !matches!(kind, "builtin" | "custom") {
                return Err(fail!(Invalid, "invalid filter: 'type'='{kind}'"));
            }
        }
        let chosen = self.infos().into_iter().filter(|(info, _)| {
            // Built-in networks are never dangling and carry no labels.
            !(dangling && filters.contains("dangling"))
                && filters.exact_match("driver", info.driver.as_str())
                && filters.any_match("id", |want| info.id.to_string().starts_with(want))
                && filters.any_match("name", |want| info.name.contains(want))
                && filters.exact_match("scope", "local")
                && filters.exact_match("type", "builtin")
                && !filters.contains("label")
        });
        Ok(chosen.map(|(info, created)| shown(&info, created)).collect())
    }

    /// One network by name, id or id prefix, with its containers.
    ///
    /// # Errors
    /// Not found.
    pub(crate) fn inspect(&self, inner: &Inner, reference: &str) -> Result<Network> {
        let infos = self.infos();
        let found = infos
            .iter()
            .find(|(i, _)| i.name == reference || i.id.to_string() == reference)
            .or_else(|| infos.iter().find(|(i, _)| !reference.is_empty() && i.id.to_string().starts_with(reference)));
        let Some((info, created)) = found else {
            return Err(fail!(NotFound, "network {reference} not found"));
        };
        let mut containers = BTreeMap::new();
        for container in inner.containers.all() {
            let record = container.record();
            if !record.state.phase.is_live() || record.host_config.network_mode != info.name {
                continue;
            }
            let resource = match (&record.state.endpoint, info.driver) {
                (Some(endpoint), Driver::Bridge) => EndpointResource {
                    name: record.name.clone(),
                    endpoint_id: endpoint.id.to_string(),
                    mac_address: endpoint.mac.to_string(),
                    ipv4_address: format!("{}/{}", endpoint.ip, endpoint.prefix),
                    ipv6_address: String::new(),
                },
                (None, Driver::Bridge) => continue,
                _ => EndpointResource { name: record.name.clone(), ..EndpointResource::default() },
            };
            containers.insert(container.id().to_owned(), resource);
        }
        Ok(Network { containers: Some(containers), ..shown(info, *created) })
    }
}

fn shown(info: &NetworkInfo, created_ns: i64) -> Network {
    let config = info.subnet.map(|subnet| {
        vec![IpamConfig {
            subnet: subnet.to_string(),
            gateway: info.gateway.map(|g| g.to_string()).unwrap_or_default(),
            ..IpamConfig::default()
        }]
    });
    Network {
        name: info.name.clone(),
        id: info.id.to_string(),
        created: clock::rfc3339(created_ns),
        scope: "local".into(),
        driver: info.driver.as_str().into(),
        enable_ipv4: true,
        ipam: Ipam { driver: "default".into(), options: None, config },
        options: Some(info.options.clone()),
        labels: Some(BTreeMap::new()),
        ..Network::default()
    }
}

fn setup(config: &EngineConfig, name: &str, running: &[Endpoint]) -> Result<Bridge> {
    let defaults = BridgeConfig::default();
    let (subnet, gateway) = match &config.bridge_subnet {
        None => (None, None),
        Some(text) => {
            let (address, prefix) = text
                .split_once('/')
                .and_then(|(a, p)| Some((a.parse::<std::net::Ipv4Addr>().ok()?, p.parse::<u8>().ok()?)))
                .filter(|(_, prefix)| *prefix <= 30)
                .ok_or_else(|| fail!(Invalid, "invalid bridge subnet {text:?}: it must look like 172.30.0.1/16"))?;
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let base = std::net::Ipv4Addr::from(u32::from(address) & mask);
            let subnet = format!("{base}/{prefix}")
                .parse()
                .map_err(|e| fail!(Invalid, "invalid bridge subnet {text:?}: {e}"))?;
            (Some(subnet), (base != address).then_some(address))
        }
    };
    // One table per bridge, so that engines with different bridges do not meet.
    let table = if name == defaults.name { defaults.table.clone() } else { format!("dhow-{name}") };
    let mtu = config.mtu.unwrap_or(defaults.mtu);
    let wanted = BridgeConfig { name: name.to_owned(), table, subnet, gateway, mtu, ..defaults };
    Ok(Bridge::setup(wanted, running)?)
}
