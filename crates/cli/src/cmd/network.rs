//! `network create`, `ls`, `rm`, `connect` and `disconnect`.

use client::escape_segment;
use serde_json::{Map, Value as Json, json};

use super::{FILTER, FORMAT, NO_TRUNC, parallel::each, short_id};
use crate::{
    Error, Result,
    create::{check_address, pair},
    flags::{Arity, Command, Flag, Kind, Parsed},
    format::{Column, Listing, Value},
    session::Session,
    term::output::{print, print_line, warn},
};

const SWARM: &str = "there is no swarm here";

pub(super) static CREATE: Command = Command {
    paths: &["network create"],
    synopsis: "[OPTIONS] NETWORK",
    about: "Create a network",
    flags: &[&[
        Flag::switch("attachable", "Accepted for swarm networks; every network here can be attached to"),
        Flag::list("aux-address", "Address the network must not give out (name=ip)").value("map"),
        Flag::text("config-from", "Network to take the configuration from"),
        Flag::switch("config-only", "Only keep the configuration"),
        Flag::text("driver", "Driver of the network").short('d').default("bridge"),
        Flag::text("gateway", "Address of the gateway of a subnet").kind(Kind::Commas, "strings"),
        Flag::switch("ingress", "").refused(SWARM),
        Flag::switch("internal", "Allow no traffic to the outside"),
        Flag::text("ip-range", "Part of a subnet to give addresses out of").kind(Kind::Commas, "strings"),
        Flag::text("ipam-driver", "Driver of address management").default("default"),
        Flag::list("ipam-opt", "Option of address management (key=value)").value("map"),
        Flag::switch("ipv4", "Give out IPv4 addresses").default("true"),
        Flag::switch("ipv6", "Give out IPv6 addresses"),
        Flag::list("label", "Label (key=value)"),
        Flag::list("opt", "Option of the driver (key=value)").short('o').value("map"),
        Flag::text("scope", "Scope of the network"),
        Flag::text("subnet", "Subnet (CIDR)").kind(Kind::Commas, "strings"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: create,
};

pub(super) static LS: Command = Command {
    paths: &["network ls", "network list"],
    synopsis: "[OPTIONS]",
    about: "List networks",
    flags: &[&[FILTER, FORMAT, NO_TRUNC, Flag::switch("quiet", "Show IDs only").short('q')]],
    arity: Arity::None,
    interspersed: true,
    run: ls,
};

pub(super) static RM: Command = Command {
    paths: &["network rm", "network remove"],
    synopsis: "NETWORK [NETWORK...]",
    about: "Remove networks",
    flags: &[&[Flag::switch("force", "Take a network that is not there for removed").short('f')]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| {
        let client = session.client()?;
        let force = parsed.on("force");
        each(&parsed.args, |name| match client.delete(format!("/networks/{}", escape_segment(name))).send_discard() {
            Err(error) if force && error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Some(name.to_owned())),
        })
    },
};

pub(super) static CONNECT: Command = Command {
    paths: &["network connect"],
    synopsis: "[OPTIONS] NETWORK CONTAINER",
    about: "Connect a container to a network",
    flags: &[&[
        Flag::text("alias", "Further name on the network").kind(Kind::Commas, "strings"),
        Flag::text("driver-opt", "Option of the driver (key=value)").kind(Kind::Commas, "strings"),
        Flag::int("gw-priority", "The highest one provides the default route"),
        Flag::text("ip", "IPv4 address"),
        Flag::text("ip6", "IPv6 address"),
        Flag::list("link", "Container to link to (name[:alias])"),
        Flag::text("link-local-ip", "Link-local address").kind(Kind::Commas, "strings"),
    ]],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: connect,
};

pub(super) static DISCONNECT: Command = Command {
    paths: &["network disconnect"],
    synopsis: "[OPTIONS] NETWORK CONTAINER",
    about: "Disconnect a container from a network",
    flags: &[&[Flag::switch("force", "Disconnect even when the container cannot be told").short('f')]],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: |parsed, session| {
        let body = json!({"Container": parsed.args[1], "Force": parsed.on("force")});
        session
            .client()?
            .post(format!("/networks/{}/disconnect", escape_segment(&parsed.args[0])))
            .json(&body)?
            .send_discard()?;
        Ok(0)
    },
};

fn map<'a>(pairs: impl Iterator<Item = &'a str>) -> Map<String, Json> {
    pairs.map(pair).map(|(key, value)| (key, json!(value))).collect()
}

fn create(parsed: &Parsed, session: &Session) -> Result<u8> {
    let mut body = json!({
        "Name": parsed.first(), "Driver": parsed.text("driver"), "Scope": parsed.text("scope"), "Internal": parsed.on("internal"),
        "Attachable": parsed.on("attachable"), "ConfigOnly": parsed.on("config-only"),
        "IPAM": {"Driver": parsed.text("ipam-driver"), "Options": map(parsed.list("ipam-opt")), "Config": ipam(parsed)?},
        "Options": map(parsed.list("opt")), "Labels": map(parsed.list("label")),
    });
    for (flag, key) in [("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")] {
        if parsed.given(flag) {
            body[key] = json!(parsed.on(flag));
        }
    }
    if let Some(from) = parsed.opt("config-from") {
        body["ConfigFrom"] = json!({"Network": from});
    }
    let created: Value = session.client()?.post("/networks/create").json(&body)?.send()?.json()?;
    let warning = created.str("Warning");
    if !warning.is_empty() {
        warn(&format!("WARNING: {warning}"));
    }
    print_line(created.str("Id"))?;
    Ok(0)
}

/// Subnets with the range, gateway and reserved addresses that lie in each.
fn ipam(parsed: &Parsed) -> Result<Vec<Json>> {
    let subnets =
        parsed.list("subnet").map(|text| Ok((text, Subnet::parse(text)?))).collect::<Result<Vec<(&str, Subnet)>>>()?;
    for (at, (text, subnet)) in subnets.iter().enumerate() {
        if let Some((other, _)) = subnets[..at].iter().find(|(_, other)| other.overlaps(subnet)) {
            return Err(Error::new(format!(
                "multiple overlapping subnet configuration is not supported: {other} and {text}"
            )));
        }
    }
    let mut configs: Vec<Json> = subnets.iter().map(|(text, _)| json!({"Subnet": text})).collect();
    let place = |address: std::net::IpAddr| subnets.iter().position(|(_, subnet)| subnet.contains(address));
    let parse =
        |text: &str| text.parse::<std::net::IpAddr>().map_err(|_| Error::new(format!("invalid address {text:?}")));
    if subnets.is_empty() && (parsed.given("ip-range") || parsed.given("gateway")) {
        return Err(Error::new("every ip-range or gateway must have a corresponding subnet"));
    }
    for text in parsed.list("ip-range") {
        let range = Subnet::parse(text)?;
        match place(range.first()) {
            Some(at) => configs[at]["IPRange"] = json!(text),
            None => return Err(Error::new(format!("no matching subnet for range {text}"))),
        }
    }
    for text in parsed.list("gateway") {
        let at = place(parse(text)?).ok_or_else(|| Error::new(format!("no matching subnet for gateway {text}")))?;
        configs[at]["Gateway"] = json!(text);
    }
    for text in parsed.list("aux-address") {
        let (name, address) = pair(text);
        let at = place(parse(&address)?)
            .ok_or_else(|| Error::new(format!("no matching subnet for aux-address {address}")))?;
        configs[at]["AuxiliaryAddresses"][name] = json!(address);
    }
    Ok(configs)
}

/// A subnet as bits, for the question of what lies in it.
struct Subnet {
    bits: u128,
    length: u32,
    six: bool,
}

impl Subnet {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::new(format!("invalid CIDR address: {text}"));
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: std::net::IpAddr = address.parse().map_err(|_| wrong())?;
        let length: u32 = length.parse().map_err(|_| wrong())?;
        if length > if address.is_ipv6() { 128 } else { 32 } {
            return Err(wrong());
        }
        Ok(Self { bits: bits(address), length, six: address.is_ipv6() })
    }
    fn first(&self) -> std::net::IpAddr {
        if self.six {
            std::net::Ipv6Addr::from(self.bits).into()
        } else {
            std::net::Ipv4Addr::from((self.bits >> 96) as u32).into()
        }
    }
    fn contains(&self, address: std::net::IpAddr) -> bool {
        address.is_ipv6() == self.six && same_prefix(self.bits, bits(address), self.length)
    }
    fn overlaps(&self, other: &Self) -> bool {
        self.six == other.six && same_prefix(self.bits, other.bits, self.length.min(other.length))
    }
}

/// The address with its first bit first in 128.
fn bits(address: std::net::IpAddr) -> u128 {
    match address {
        std::net::IpAddr::V4(four) => u128::from(u32::from(four)) << 96,
        std::net::IpAddr::V6(six) => u128::from(six),
    }
}

fn same_prefix(a: u128, b: u128, length: u32) -> bool {
    length == 0 || (a ^ b) >> (128 - length) == 0
}

fn connect(parsed: &Parsed, session: &Session) -> Result<u8> {
    for flag in ["ip", "ip6"] {
        if let Some(value) = parsed.opt(flag) {
            check_address(flag, value)?;
        }
    }
    let mut ipam = Map::new();
    for (flag, key) in [("ip", "IPv4Address"), ("ip6", "IPv6Address")] {
        if let Some(value) = parsed.opt(flag) {
            ipam.insert(key.into(), json!(value));
        }
    }
    let strings = |flag: &str| -> Vec<String> { parsed.list(flag).map(str::to_owned).collect() };
    let local = strings("link-local-ip");
    if !local.is_empty() {
        ipam.insert("LinkLocalIPs".into(), json!(local));
    }
    let body = json!({"Container": parsed.args[1], "EndpointConfig": {
        "IPAMConfig": ipam, "Aliases": strings("alias"), "Links": strings("link"), "DriverOpts": map(parsed.list("driver-opt")),
        "GwPriority": parsed.int("gw-priority"),
    }});
    session
        .client()?
        .post(format!("/networks/{}/connect", escape_segment(&parsed.args[0])))
        .json(&body)?
        .send_discard()?;
    Ok(0)
}

const HEADINGS: &[Column] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("CreatedAt", "CREATED AT"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
];

fn ls(parsed: &Parsed, session: &Session) -> Result<u8> {
    let filters = super::filters(parsed.list("filter"))?;
    let list: Value = session.client()?.get("/networks").query_opt("filters", filters.as_deref()).send()?.json()?;
    let mut networks: Vec<&Value> = list.items().iter().collect();
    networks.sort_by(|a, b| a.str("Name").cmp(b.str("Name")));
    let shorten = !parsed.on("no-trunc");
    let rows: Vec<Value> = networks
        .into_iter()
        .map(|network| {
            let mut labels: Vec<String> = network
                .get("Labels")
                .entries()
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str()))
                .collect();
            labels.sort();
            let text = Value::Text;
            let id = network.str("Id");
            Value::Map(vec![
                ("CreatedAt".into(), text(network.str("Created").replace('T', " ").replace('Z', " +0000 UTC"))),
                ("Driver".into(), text(network.str("Driver").into())),
                ("ID".into(), text(if shorten { short_id(id) } else { id }.into())),
                // Daemons before API 1.48 do not say; they all gave out IPv4.
                ("IPv4".into(), text((network.get("EnableIPv4").is_null() || network.bool("EnableIPv4")).to_string())),
                ("IPv6".into(), text(network.bool("EnableIPv6").to_string())),
                ("Internal".into(), text(network.bool("Internal").to_string())),
                ("Labels".into(), text(labels.join(","))),
                ("Name".into(), text(network.str("Name").into())),
                ("Scope".into(), text(network.str("Scope").into())),
            ])
        })
        .collect();
    let quiet = parsed.on("quiet").then_some("ID");
    let columns = ["ID", "Name", "Driver", "Scope"];
    print(&Listing { headings: HEADINGS, columns: &columns, format: parsed.text("format"), quiet }.render(&rows)?)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::Subnet;

    #[test]
    fn subnets_know_what_lies_in_them() {
        let subnet = Subnet::parse("10.1.0.0/16").unwrap();
        assert!(subnet.contains("10.1.2.3".parse().unwrap()) && !subnet.contains("10.2.0.1".parse().unwrap()));
        assert!(!subnet.contains("::1".parse().unwrap()));
        assert!(
            subnet.overlaps(&Subnet::parse("10.0.0.0/8").unwrap())
                && !subnet.overlaps(&Subnet::parse("10.2.0.0/16").unwrap())
        );
        assert!(Subnet::parse("fd00::/64").unwrap().contains("fd00::1".parse().unwrap()));
        assert_eq!(Subnet::parse("10.1.0.0/16").unwrap().first().to_string(), "10.1.0.0");
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8"] {
            assert!(Subnet::parse(bad).is_err());
        }
    }
}
