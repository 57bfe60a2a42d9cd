//! What a client may ask of a container's place in a network, in Docker's words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use docker_types::network::EndpointSettings;
use network::{JoinRequest, MacAddress, Rate, parse_rate};

use super::{BRIDGE, Known};
use crate::container::record::Record as ContainerRecord;
use crate::error::{Result, fail};

/// Driver options of an endpoint that mean something to us.
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
const INTERFACE: &str = "com.docker.network.endpoint.ifname";
pub(super) const RATE_INGRESS: &str = "dhow.rate.ingress";
pub(super) const RATE_EGRESS: &str = "dhow.rate.egress";

/// Check the settings for a network, which may not exist yet (`network` is none then).
///
/// # Errors
/// Invalid, every problem in a line of its own, as Docker joins them.
pub(crate) fn check_endpoint(network: Option<&Known>, settings: &EndpointSettings) -> Result<()> {
    let mut problems = Vec::new();
    let built_in = network.is_some_and(|network| network.built_in);
    let ipam = settings.ipam_config.as_ref();
    let wanted4 = ipam.map_or("", |ipam| ipam.ipv4_address.as_str());
    let wanted6 = ipam.map_or("", |ipam| ipam.ipv6_address.as_str());
    let aliases = settings.aliases.as_deref().unwrap_or_default();
    if built_in {
        if !wanted4.is_empty() || !wanted6.is_empty() {
            problems.push("user specified IP address is supported on user defined networks only".to_owned());
        }
        if !aliases.is_empty() {
            problems.push("network-scoped alias is supported only for containers in user defined networks".to_owned());
        }
    }
    if !wanted4.is_empty() && wanted4.parse::<Ipv4Addr>().is_err() {
        problems.push(format!("invalid IPv4 address: {wanted4}"));
    }
    if !wanted6.is_empty() && wanted6.parse::<Ipv6Addr>().is_err() {
        problems.push(format!("invalid IPv6 address: {wanted6}"));
    }
    if let Some(ipam) = ipam {
        for address in &ipam.link_local_ips {
            problems.push(format!("link-local address {address}: link-local addresses of endpoints are not supported"));
        }
    }
    let spec = network.and_then(|network| network.record.spec.as_ref());
    for (wanted, ipv6) in [(wanted4, false), (wanted6, true)] {
        if wanted.is_empty() || network.is_none() {
            continue;
        }
        let subnets: Vec<_> = spec
            .iter()
            .flat_map(|spec| &spec.subnets)
            .filter(|own| matches!(own.subnet, network::IpNet::V6(_)) == ipv6)
            .collect();
        if !subnets.iter().any(|own| own.configured) {
            problems.push(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
                    .to_owned(),
            );
        } else if !wanted.parse::<IpAddr>().is_ok_and(|ip| subnets.iter().any(|own| own.subnet.contains(&ip))) {
            problems.push(format!("no configured subnet or ip-range contain the IP address {wanted}"));
        }
    }
    for alias in aliases {
        if alias.is_empty() || alias.len() > 255 || alias.bytes().any(|byte| byte.is_ascii_whitespace() || byte == 0) {
            problems.push(format!("invalid network-scoped alias {alias:?}"));
        }
    }
    if !problems.is_empty() {
        let text = match problems.as_slice() {
            [one] => one.clone(),
            more => more.iter().map(|problem| format!("* {problem}")).collect::<Vec<_>>().join("\n"),
        };
        return Err(fail!(Invalid, "invalid endpoint settings:\n{text}"));
    }
    if !settings.mac_address.is_empty() && settings.mac_address.parse::<MacAddress>().is_err() {
        return Err(fail!(Invalid, "invalid MAC address {}", settings.mac_address));
    }
    options(settings)?;
    Ok(())
}

/// What the driver options of an endpoint ask for.
struct EndpointOptions {
    sysctls: Vec<(String, String)>,
    interface: Option<String>,
    rate: Rate,
}

fn options(settings: &EndpointSettings) -> Result<EndpointOptions> {
    let given = settings.driver_opts.as_ref();
    let get = |key: &str| given.and_then(|options| options.get(key)).map(String::as_str).filter(|v| !v.is_empty());
    let mut sysctls = Vec::new();
    for entry in get(SYSCTLS).unwrap_or_default().split(',').filter(|entry| !entry.is_empty()) {
        let (name, value) = entry
            .split_once('=')
            .ok_or_else(|| fail!(Invalid, "invalid sysctl {entry:?} of an endpoint: write name=value"))?;
        sysctls.push((name.to_owned(), value.to_owned()));
    }
    let rate = |key: &str| {
        get(key).map(|text| parse_rate(text).map_err(|e| fail!(Invalid, "invalid {key} {text:?}: {e}"))).transpose()
    };
    let rate = Rate { ingress: rate(RATE_INGRESS)?, egress: rate(RATE_EGRESS)? };
    Ok(EndpointOptions { sysctls, interface: get(INTERFACE).map(str::to_owned), rate })
}

/// Names that others on a network find the container by, as `DNSNames` shows them: its name, its aliases, the start of
/// its id, and its host name where the user chose one.
pub(crate) fn names_of(record: &ContainerRecord, settings: &EndpointSettings) -> Vec<String> {
    let short = record.id.get(..12).unwrap_or(&record.id);
    let aliases = settings.aliases.iter().flatten().map(String::as_str);
    let hostname = Some(record.config.hostname.as_str()).filter(|name| !name.is_empty());
    let all = [record.name.as_str()].into_iter().chain(aliases).chain([short]).chain(hostname);
    let mut names: Vec<String> = Vec::new();
    for name in all {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The request for a place on a network.
pub(super) fn join_request(
    network: &Known,
    record: &ContainerRecord,
    settings: &EndpointSettings,
) -> Result<JoinRequest> {
    check_endpoint(Some(network), settings)?;
    let EndpointOptions { sysctls, interface, rate } = options(settings)?;
    let ipam = settings.ipam_config.as_ref();
    // Checked above.
    let ipv4 = ipam.and_then(|ipam| ipam.ipv4_address.parse().ok());
    let ipv6 = ipam.and_then(|ipam| ipam.ipv6_address.parse().ok());
    let mac = match settings.mac_address.as_str() {
        // The container's own one is for the network it was created on.
        "" if network.record.name == record.host_config.network_mode
            || (network.record.name == BRIDGE && record.endpoints.len() == 1) =>
        {
            record.config.mac_address.as_str()
        }
        own => own,
    };
    let mac = match mac {
        "" => None,
        text => Some(text.parse::<MacAddress>().map_err(|_| fail!(Invalid, "invalid MAC address {text}"))?),
    };
    Ok(JoinRequest {
        names: names_of(record, settings),
        ipv4,
        ipv6,
        mac,
        interface,
        sysctls,
        priority: settings.gw_priority,
        rate,
        ..JoinRequest::new(network.id)
    })
}
