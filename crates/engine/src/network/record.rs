//! What is stored of a network, and what of it the API shows.

use std::collections::BTreeMap;

use docker_types::network::{ConfigReference, Ipam, IpamConfig, IpamStatus, Network, NetworkStatus, SubnetStatus};
use network::{Driver, NetworkSpec, SubnetUse};
use serde::{Deserialize, Serialize};

use crate::clock;

/// A network's document. Of the built-in ones only name and time are stored: the rest follows from the configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub name: String,
    pub created_ns: i64,
    pub labels: BTreeMap<String, String>,
    pub attachable: bool,
    /// Options for address management, kept and shown.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// A template for other networks that nothing joins.
    pub config_only: bool,
    /// Name of the template the network was made after.
    pub config_from: String,
    /// The network as it is made; none for `host`, `none` and the default bridge.
    pub spec: Option<NetworkSpec>,
}

/// A network the engine knows.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub id: types::NetworkId,
    pub driver: Driver,
    /// One of the three that are always there.
    pub built_in: bool,
    pub record: Record,
}

impl Known {
    /// Docker's word for the driver.
    pub(crate) fn driver_name(&self) -> &'static str {
        self.driver.as_str()
    }

    /// As lists show it, without its containers. `spec` is the network as it is in force.
    pub(crate) fn shown(&self, spec: Option<&NetworkSpec>, usage: &[SubnetUse]) -> Network {
        let record = &self.record;
        let spec = spec.or(record.spec.as_ref());
        let config: Option<Vec<IpamConfig>> = spec.map(|spec| {
            let subnet = |own: &network::SubnetSpec| IpamConfig {
                subnet: own.subnet.to_string(),
                ip_range: own.range.map(|range| range.to_string()).unwrap_or_default(),
                gateway: own
                    .gateway
                    .filter(|_| !own.quiet_gateway)
                    .map(|gateway| gateway.to_string())
                    .unwrap_or_default(),
                auxiliary_addresses: own.reserved.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect(),
            };
            spec.subnets.iter().map(subnet).collect()
        });
        let subnets: BTreeMap<String, SubnetStatus> = usage
            .iter()
            .map(|usage| {
                let status = SubnetStatus { ips_in_use: usage.in_use, dynamic_ips_available: usage.available };
                (usage.subnet.to_string(), status)
            })
            .collect();
        let status = (!subnets.is_empty()).then_some(NetworkStatus { ipam: IpamStatus { subnets } });
        Network {
            name: record.name.clone(),
            id: self.id.to_string(),
            created: clock::rfc3339(record.created_ns),
            scope: "local".into(),
            driver: if record.config_only { "null".into() } else { self.driver_name().into() },
            enable_ipv4: spec.is_none_or(|spec| spec.ipv4),
            enable_ipv6: spec.is_some_and(|spec| spec.ipv6),
            ipam: Ipam {
                driver: "default".into(),
                options: record.ipam_options.clone(),
                config: config.filter(|list| !list.is_empty() || !(self.built_in || record.config_only)),
            },
            internal: spec.is_some_and(|spec| spec.internal),
            attachable: record.attachable,
            config_from: ConfigReference { network: record.config_from.clone() },
            config_only: record.config_only,
            options: Some(spec.map(|spec| spec.options.clone()).unwrap_or_default()),
            labels: Some(record.labels.clone()),
            status,
            ..Network::default()
        }
    }
}
