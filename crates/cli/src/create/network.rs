//! `--network` in both forms, addresses, aliases and links; published and exposed ports.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use types::{ExposedPort, PortRange, parse_port_spec};

use super::{csv, pair};
use crate::{Error, Result, flags::Parsed};

/// `HostConfig.NetworkMode` and `NetworkingConfig.EndpointsConfig`.
pub(crate) fn networks(parsed: &Parsed) -> Result<(String, Map<String, Value>)> {
    let mut specs = Vec::new();
    for text in parsed.list("network").chain(parsed.list("net")) {
        specs.push(attachment(text)?);
    }
    if specs.is_empty() {
        specs.push(Attachment { target: "default".into(), ..Attachment::default() });
    }
    let aliases: Vec<&str> = parsed.list("network-alias").chain(parsed.list("net-alias")).collect();
    let first = &mut specs[0];
    if !aliases.is_empty() {
        refuse_twice(!first.aliases.is_empty(), "--network-alias and per-network alias")?;
        first.aliases = aliases.into_iter().map(str::to_owned).collect();
    }
    for (flag, slot) in [("ip", &mut first.ipv4), ("ip6", &mut first.ipv6), ("mac-address", &mut first.mac)] {
        if let Some(value) = parsed.opt(flag) {
            refuse_twice(!slot.is_empty(), &format!("--{flag} and per-network {flag}"))?;
            mac_or_ip(flag, value)?;
            *slot = value.to_owned();
        }
    }
    let local: Vec<String> = parsed.list("link-local-ip").map(str::to_owned).collect();
    if !local.is_empty() {
        refuse_twice(!first.link_local.is_empty(), "--link-local-ip and per-network link-local-ip")?;
        first.link_local = local;
    }
    if let Some(text) = parsed.opt("net-rate") {
        let rate = net_rate(text)?;
        for (key, value) in [("dhow.rate.ingress", rate.ingress), ("dhow.rate.egress", rate.egress)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                first.driver_opts.insert(key.into(), json!(value));
            }
        }
    }
    let links: Vec<String> = parsed.list("link").map(str::to_owned).collect();
    let mode = specs[0].target.clone();
    // On user-defined networks links belong to the endpoint too.
    if user_defined(&mode) {
        specs[0].links = links;
    }
    if !specs[0].aliases.is_empty() && !user_defined(&mode) {
        return Err(Error::invalid("network-scoped aliases are only supported for user-defined networks"));
    }
    if specs.len() > 1 && specs.iter().any(|spec| !user_defined(&spec.target)) {
        return Err(Error::invalid(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ));
    }
    let mut endpoints = Map::new();
    for spec in specs {
        let name = spec.target.clone();
        if endpoints.insert(name.clone(), spec.settings()).is_some() {
            return Err(Error::invalid(format!("network {name:?} is specified multiple times")));
        }
    }
    Ok((mode, endpoints))
}

/// What `--net-rate` says. A direction that is not named stays as it is; an empty rate is no limit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NetRate {
    pub(crate) network: Option<String>,
    pub(crate) ingress: Option<String>,
    pub(crate) egress: Option<String>,
}

/// `ingress=10mbit,egress=5mbit`, and with `network=NAME` only there. The daemon reads the rates.
pub(crate) fn net_rate(text: &str) -> Result<NetRate> {
    let mut rate = NetRate::default();
    let wrong = || {
        Error::invalid(format!(
            "invalid argument {text:?} for \"--net-rate\" flag: write ingress=10mbit,egress=5mbit, or unlimited for none"
        ))
    };
    for field in csv(text)? {
        let (key, value) = field.split_once('=').ok_or_else(wrong)?;
        let value = if value == "unlimited" { String::new() } else { value.to_owned() };
        match key {
            "ingress" => rate.ingress = Some(value),
            "egress" => rate.egress = Some(value),
            "network" => rate.network = Some(value),
            _ => return Err(wrong()),
        }
    }
    if rate.ingress.is_none() && rate.egress.is_none() { Err(wrong()) } else { Ok(rate) }
}

fn refuse_twice(both: bool, what: &str) -> Result<()> {
    if both { Err(Error::invalid(format!("conflicting options: cannot specify both {what}"))) } else { Ok(()) }
}

/// Whether a network mode names a network of the user's.
pub(crate) fn user_defined(mode: &str) -> bool {
    !matches!(mode, "default" | "bridge" | "host" | "none" | "nat")
        && !mode.starts_with("container:")
        && !mode.is_empty()
}

/// Checks an address flag.
pub(crate) fn mac_or_ip(flag: &str, value: &str) -> Result<()> {
    let ok = match flag {
        "mac-address" => {
            let parts: Vec<&str> = value.split([':', '-']).collect();
            parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
        }
        "ip" => matches!(value.parse(), Ok(IpAddr::V4(_))),
        "ip6" => matches!(value.parse(), Ok(IpAddr::V6(_))),
        _ => value.parse::<IpAddr>().is_ok(),
    };
    if ok {
        return Ok(());
    }
    Err(match flag {
        "mac-address" => Error::invalid(format!("{value} is not a valid mac address")),
        _ => Error::invalid(format!("invalid argument {value:?} for \"--{flag}\" flag: {value} is not an ip address")),
    })
}

#[derive(Debug, Default)]
struct Attachment {
    target: String,
    aliases: Vec<String>,
    driver_opts: Map<String, Value>,
    links: Vec<String>,
    ipv4: String,
    ipv6: String,
    link_local: Vec<String>,
    mac: String,
    priority: i64,
}

impl Attachment {
    fn settings(self) -> Value {
        let mut out = Map::new();
        let mut ipam = Map::new();
        for (key, value) in [("IPv4Address", self.ipv4), ("IPv6Address", self.ipv6)] {
            if !value.is_empty() {
                ipam.insert(key.into(), json!(value));
            }
        }
        if !self.link_local.is_empty() {
            ipam.insert("LinkLocalIPs".into(), json!(self.link_local));
        }
        if !ipam.is_empty() {
            out.insert("IPAMConfig".into(), Value::Object(ipam));
        }
        for (key, list) in [("Aliases", self.aliases), ("Links", self.links)] {
            if !list.is_empty() {
                out.insert(key.into(), json!(list));
            }
        }
        if !self.driver_opts.is_empty() {
            out.insert("DriverOpts".into(), Value::Object(self.driver_opts));
        }
        if !self.mac.is_empty() {
            out.insert("MacAddress".into(), json!(self.mac));
        }
        if self.priority != 0 {
            out.insert("GwPriority".into(), json!(self.priority));
        }
        Value::Object(out)
    }
}

/// `name`, or `name=…,alias=…,ip=…`.
fn attachment(text: &str) -> Result<Attachment> {
    let mut out = Attachment::default();
    if !text.contains('=') {
        out.target = text.to_owned();
        return Ok(out);
    }
    let wrong = |why: String| Error::invalid(format!("invalid argument {text:?} for \"--network\" flag: {why}"));
    for field in csv(text)? {
        let (key, value) = pair(&field);
        if !field.contains('=') {
            return Err(wrong(format!("invalid field {field}")));
        }
        match key.trim().to_lowercase().as_str() {
            "name" => out.target = value,
            "alias" => out.aliases.push(value),
            "driver-opt" => {
                let (key, value) = pair(&value);
                if key.is_empty() || value.is_empty() {
                    return Err(wrong("invalid key value pair format in driver options".into()));
                }
                out.driver_opts.insert(key.to_lowercase(), json!(value));
            }
            "ip" => out.ipv4 = value,
            "ip6" => out.ipv6 = value,
            "link-local-ip" => out.link_local.push(value),
            "mac-address" => {
                mac_or_ip("mac-address", &value)?;
                out.mac = value;
            }
            "gw-priority" => {
                out.priority =
                    value.parse().map_err(|_| wrong(format!("invalid gw-priority ({value}): invalid syntax")))?;
            }
            other => return Err(wrong(format!("invalid field key {other}"))),
        }
    }
    if out.target.is_empty() {
        return Err(wrong("network name/id is not specified".into()));
    }
    Ok(out)
}

/// `Config.ExposedPorts` and `HostConfig.PortBindings`.
pub(crate) fn ports(parsed: &Parsed) -> Result<(Map<String, Value>, Map<String, Value>)> {
    let (mut exposed, mut bindings) = (Map::new(), Map::new());
    for text in parsed.list("publish") {
        let spec = short_form(text)?;
        for mapping in parse_port_spec(&spec).map_err(Error::invalid)? {
            let key = mapping.container.to_string();
            let host = match mapping.host {
                None => String::new(),
                Some(PortRange { start, end }) if start == end => start.to_string(),
                Some(PortRange { start, end }) => format!("{start}-{end}"),
            };
            let address = mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
            exposed.insert(key.clone(), json!({}));
            let list = bindings.entry(key).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(json!({"HostIp": address, "HostPort": host}));
            }
        }
    }
    for text in parsed.list("expose") {
        if text.contains(':') {
            return Err(Error::invalid(format!("invalid port format for --expose: {text}")));
        }
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let range = PortRange::parse(range).ok_or_else(|| {
            Error::invalid(format!(
                "invalid range format for --expose: {text}, error: strconv.ParseUint: parsing {range:?}: invalid syntax"
            ))
        })?;
        for port in range.start..=range.end {
            let port: ExposedPort = format!("{port}/{protocol}").parse().map_err(Error::invalid)?;
            exposed.entry(port.to_string()).or_insert_with(|| json!({}));
        }
    }
    Ok((exposed, bindings))
}

/// `target=80,published=8080,protocol=tcp` in the form with colons.
fn short_form(text: &str) -> Result<String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let (mut target, mut published, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for field in csv(text)? {
        let (key, value) = pair(&field);
        match key.as_str() {
            "target" => target = value,
            "published" => published = value,
            "protocol" => protocol = value,
            "mode" => {}
            other => return Err(Error::invalid(format!("invalid field key {other}"))),
        }
    }
    Ok(if published.is_empty() { format!("{target}/{protocol}") } else { format!("{published}:{target}/{protocol}") })
}
