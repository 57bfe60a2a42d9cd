//! Making a network: defaults, checks in Docker's order and words, the data plane, then the record. What fails leaves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use docker_types::network::{Ipam, IpamConfig, NetworkCreateBody, NetworkCreateResponse};
use network::{Driver, IpNet, NetworkSpec, SubnetSpec};
use state::Durability;
use types::NetworkId;

use super::record::Record;
use super::{Known, Networks, new_id, put};
use crate::clock;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// Longest name of a network in bytes.
const NAME_MAX: usize = 255;

/// Make a network.
///
/// # Errors
/// Invalid, Forbidden, Conflict and Not found in Docker's words.
pub(crate) async fn create(inner: &Arc<Inner>, body: NetworkCreateBody) -> Result<NetworkCreateResponse> {
    let networks = &inner.networks;
    check_name(&body.name)?;
    let _changing = networks.changing.lock().await;
    if networks.named(&body.name).is_some() {
        return Err(fail!(Conflict, "network with name {} already exists", body.name));
    }
    if body.scope == "swarm" {
        return Err(fail!(Forbidden, "cannot create a swarm scoped network when swarm is not active"));
    }
    if !matches!(body.scope.as_str(), "" | "local") {
        return Err(fail!(Invalid, "invalid scope {:?}: networks of this engine are local", body.scope));
    }
    if body.ingress {
        return Err(fail!(Forbidden, "Ingress network can only be global scope network"));
    }
    let id = new_id()?;
    let (record, driver) = record(inner, id, body)?;
    let record = if record.config_only {
        record
    } else {
        let spec = record.spec.clone().ok_or_else(|| fail!(Internal, "a network without a description"))?;
        let worker = Arc::clone(inner);
        let spec = inner
            .blocking("make a network", move || Ok(worker.networks.fabric.create(spec)?))
            .await
            .map_err(|error| too_many(error, networks))?;
        Record { spec: Some(spec), ..record }
    };
    let name = record.name.clone();
    if let Err(error) = inner.commit(vec![put(id, &record)?], Durability::Synced).await {
        let worker = Arc::clone(inner);
        let undone = inner.blocking("undo a network", move || Ok(worker.networks.fabric.remove(&id)?)).await;
        if let Err(undo) = undone {
            tracing::warn!(network = name, error = %undo, "something of a network that could not be recorded stays");
        }
        return Err(error);
    }
    let known = Known { id, driver, built_in: false, record };
    let attributes = [("name".to_owned(), name), ("type".to_owned(), known.driver_name().to_owned())];
    networks.insert(known);
    inner.events.publish("network", "create", &id.to_string(), attributes.into());
    Ok(NetworkCreateResponse { id: id.to_string(), warning: String::new() })
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(fail!(Invalid, "invalid name: name is empty"));
    }
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(fail!(Forbidden, "operation is not permitted on predefined {name} network "));
    }
    if name.len() > NAME_MAX || name.chars().any(char::is_control) || name.starts_with("container:") {
        return Err(fail!(Invalid, "invalid name: use 1 to {NAME_MAX} bytes without control characters"));
    }
    Ok(())
}

/// What is to be stored and made.
fn record(inner: &Inner, id: NetworkId, mut body: NetworkCreateBody) -> Result<(Record, Driver)> {
    let networks = &inner.networks;
    let template = body.config_from.as_ref().map(|from| from.network.clone()).unwrap_or_default();
    let mut labels: BTreeMap<String, String> = body.labels.take().unwrap_or_default();
    let ipam = body.ipam.clone().unwrap_or_default();
    let mut subnets = subnets(&ipam)?;
    let mut options = body.options.take().unwrap_or_default();
    let mut ipam_options = ipam.options.clone();
    let (mut ipv4, mut ipv6) = (body.enable_ipv4.unwrap_or(true), body.enable_ipv6.unwrap_or(false));
    let mut internal = body.internal;
    if !template.is_empty() {
        let from = networks.named(&template);
        let from = from.filter(|network| network.record.config_only);
        let from = from.ok_or_else(|| fail!(NotFound, "configuration network {template:?} does not exist"))?;
        if body.config_only {
            return Err(fail!(Forbidden, "a configuration network cannot depend on another configuration network"));
        }
        if !subnets.is_empty() || !options.is_empty() || internal || ipv6 {
            return Err(fail!(
                Forbidden,
                "user supplied configurations are not supported if the network depends on a configuration network"
            ));
        }
        let spec = from.record.spec.clone().unwrap_or_else(|| empty(id));
        (subnets, options, internal) = (spec.subnets, spec.options, spec.internal);
        (ipv4, ipv6) = (spec.ipv4, spec.ipv6);
        ipam_options.clone_from(&from.record.ipam_options);
        for (key, value) in &from.record.labels {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if !ipv4 && !ipv6 {
        return Err(fail!(Invalid, "IPv4 or IPv6 must be enabled"));
    }
    if !matches!(ipam.driver.as_str(), "" | "default") {
        return Err(fail!(NotFound, "plugin {:?} not found", ipam.driver));
    }
    let driver = match body.driver.as_str() {
        "" => Driver::Bridge,
        "overlay" => {
            return Err(fail!(
                Forbidden,
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
            ));
        }
        name => match Driver::parse(name) {
            Some(Driver::Host | Driver::Null) if !body.config_only => {
                return Err(fail!(Forbidden, "only one instance of {name:?} network is allowed"));
            }
            Some(driver) => driver,
            None => return Err(fail!(NotFound, "plugin {name:?} not found")),
        },
    };
    let driver = if body.config_only { Driver::Null } else { driver };
    for (of, key, value) in &inner.config.network_options {
        if of == driver.as_str() {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let spec = NetworkSpec {
        id,
        name: body.name.clone(),
        driver,
        ipv4,
        ipv6,
        internal,
        subnets,
        options,
        foreign_link: false,
    };
    spec.check()?;
    let record = Record {
        name: body.name,
        created_ns: clock::now_ns(),
        labels,
        attachable: body.attachable,
        ipam_options,
        config_only: body.config_only,
        config_from: template,
        spec: Some(spec),
    };
    Ok((record, driver))
}

fn empty(id: NetworkId) -> NetworkSpec {
    NetworkSpec {
        id,
        name: String::new(),
        driver: Driver::Null,
        ipv4: true,
        ipv6: false,
        internal: false,
        subnets: Vec::new(),
        options: BTreeMap::new(),
        foreign_link: false,
    }
}

fn subnets(ipam: &Ipam) -> Result<Vec<SubnetSpec>> {
    let mut problems = Vec::new();
    let mut subnets = Vec::new();
    for config in ipam.config.iter().flatten() {
        if *config == IpamConfig::default() {
            continue;
        }
        if let Some(subnet) = subnet(config, &mut problems) {
            subnets.push(subnet);
        }
    }
    if problems.is_empty() {
        return Ok(subnets);
    }
    let text = match problems.as_slice() {
        [one] => one.clone(),
        more => more.iter().map(|problem| format!("* {problem}")).collect::<Vec<_>>().join("\n"),
    };
    Err(fail!(Invalid, "invalid network config:\n{text}"))
}

fn subnet(config: &IpamConfig, problems: &mut Vec<String>) -> Option<SubnetSpec> {
    let Ok(subnet) = config.subnet.parse::<IpNet>() else {
        problems.push(format!("invalid subnet {}: invalid CIDR block notation", config.subnet));
        return None;
    };
    let mut own = SubnetSpec { configured: true, ..SubnetSpec::new(subnet) };
    if !config.ip_range.is_empty() {
        match config.ip_range.parse() {
            Ok(range) => own.range = Some(range),
            Err(_) => problems.push(format!("invalid ip-range {}: invalid CIDR block notation", config.ip_range)),
        }
    }
    if !config.gateway.is_empty() {
        match config.gateway.parse() {
            Ok(gateway) => own.gateway = Some(gateway),
            Err(_) => problems.push(format!("invalid gateway {}: invalid address", config.gateway)),
        }
    }
    for (name, text) in &config.auxiliary_addresses {
        match text.parse() {
            Ok(address) => drop(own.reserved.insert(name.clone(), address)),
            Err(_) => problems.push(format!("invalid auxiliary address {name}: invalid address")),
        }
    }
    Some(own)
}

/// Says what to do when subnets have run out.
fn too_many(error: Error, networks: &Networks) -> Error {
    if error.kind() != types::Kind::Exhausted {
        return error;
    }
    let count = networks.all().len();
    error.with_hint(format!(
        "{count} networks exist: remove unused ones with `network prune`, give --subnet, or set --default-address-pool"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(config: IpamConfig) -> String {
        let ipam = Ipam { config: Some(vec![config]), ..Ipam::default() };
        subnets(&ipam).unwrap_err().to_string()
    }

    #[test]
    fn texts_are_dockers() {
        let config = |subnet: &str| IpamConfig { subnet: subnet.into(), ..IpamConfig::default() };
        assert_eq!(
            refusal(config("10.1.0.0/33")),
            "invalid network config:\ninvalid subnet 10.1.0.0/33: invalid CIDR block notation"
        );
        assert_eq!(
            refusal(IpamConfig { gateway: "10.1.0.1".into(), ..config("") }),
            "invalid network config:\ninvalid subnet : invalid CIDR block notation"
        );
        assert_eq!(check_name("").unwrap_err().to_string(), "invalid name: name is empty");
        assert!(check_name("a b/c").is_ok(), "dockerd takes it");
    }
}
