//! What the options of a network mean to its driver, with Docker's names, values and words of refusal.
//!
//! Options that no driver knows are kept and shown, as Docker does; what a driver knows but cannot do is refused by
//! name, since a network that silently lacks a protection is worse than none. Called when a network is made and when
//! its record is read.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall::GatewayMode;

use crate::rate::{Rate, parse_rate};
use crate::{Error, Result};

/// Options as a client gives them.
pub type Options = BTreeMap<String, String>;

const BRIDGE: &str = "com.docker.network.bridge.";
/// Largest packet in bytes, of every driver.
const MTU: &str = "com.docker.network.driver.mtu";
/// Start of the names of the container's interfaces.
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const HOST_IPV4: &str = "com.docker.network.host_ipv4";
const HOST_IPV6: &str = "com.docker.network.host_ipv6";
/// Bits per second towards each container of the network.
pub(crate) const RATE_INGRESS: &str = "dhow.rate.ingress";
/// Bits per second from each container of the network.
pub(crate) const RATE_EGRESS: &str = "dhow.rate.egress";
/// Each is a rule that a packet to the network may have to pass.
const MAX_TRUSTED: usize = 64;
/// The smallest and the largest packet of a link.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;

/// Options every driver shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Common {
    /// Largest packet in bytes; the driver's own if none.
    pub(crate) mtu: Option<u32>,
    /// Start of the names of interfaces.
    pub(crate) prefix: String,
    /// Bandwidth of each container.
    pub(crate) rate: Rate,
}

/// Options of the bridge driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeOptions {
    /// Name of the link; chosen from the network's id if none.
    pub(crate) name: Option<String>,
    pub(crate) icc: bool,
    pub(crate) masquerade4: bool,
    pub(crate) masquerade6: bool,
    pub(crate) mode4: GatewayMode,
    pub(crate) mode6: GatewayMode,
    /// Host address that ports are published on unless a container asks for another.
    pub(crate) binding: Option<IpAddr>,
    pub(crate) source4: Option<Ipv4Addr>,
    pub(crate) source6: Option<Ipv6Addr>,
    /// The bridge gets no IPv4 address of its own.
    pub(crate) inhibit4: bool,
    /// Links from which published ports may be reached by a container's own address.
    pub(crate) trusted: Vec<String>,
}

/// Options of the macvlan and ipvlan drivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParentOptions {
    /// Link of the host, or `parent.VLAN` for one that is made.
    pub(crate) parent: Option<String>,
    /// Mode, by the driver's names.
    pub(crate) mode: String,
    /// `ipvlan_flag`.
    pub(crate) flag: String,
}

pub(crate) fn common(options: &Options) -> Result<Common> {
    let mtu = match options.get(MTU).map(String::as_str).filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(mtu(text)?),
    };
    let prefix = options.get(PREFIX).map_or("eth", String::as_str);
    // Three digits have to follow in 15 bytes.
    if !valid_interface_name(prefix) || prefix.len() > 12 {
        return Err(Error::Config(format!(
            "invalid {PREFIX} value {prefix:?}: use 1 to 12 letters, digits, '-', '_' or '.'"
        )));
    }
    let rate = |key: &str| -> Result<Option<u64>> {
        options.get(key).map(|text| parse_rate(text).map_err(|e| invalid(key, text, &e))).transpose()
    };
    let rate = Rate { ingress: rate(RATE_INGRESS)?, egress: rate(RATE_EGRESS)? };
    Ok(Common { mtu, prefix: prefix.to_owned(), rate })
}

fn mtu(text: &str) -> Result<u32> {
    let number: i64 = text.parse().map_err(|_| atoi(MTU, text))?;
    u32::try_from(number)
        .ok()
        .filter(|mtu| MTU_RANGE.contains(mtu))
        .ok_or_else(|| Error::Config(format!("invalid MTU number: {number}")))
}

pub(crate) fn bridge(options: &Options) -> Result<BridgeOptions> {
    let get = |name: &str| options.get(&format!("{BRIDGE}{name}")).map(String::as_str);
    let flag = |name: &str, default: bool| match get(name) {
        None => Ok(default),
        Some(text) => parse_bool(text).ok_or_else(|| {
            let reason = format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
            invalid(&format!("{BRIDGE}{name}"), text, &reason)
        }),
    };
    let mode = |name: &str| match get(name) {
        None | Some("") => Ok(GatewayMode::Nat),
        Some(text) => gateway_mode(text)
            .ok_or_else(|| invalid(&format!("{BRIDGE}{name}"), text, &format!("unknown gateway mode {text}"))),
    };
    let name = get("name").filter(|name| !name.is_empty());
    if let Some(name) = name
        && !valid_interface_name(name)
    {
        return Err(Error::Config(format!(
            "invalid bridge name {name:?}: use 1 to 15 letters, digits, '-', '_' or '.'"
        )));
    }
    let trusted = trusted(get("trusted_host_interfaces").unwrap_or_default())?;
    let masquerade = flag("enable_ip_masquerade", true)?;
    let binding = match get("host_binding_ipv4").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            let address: Option<Ipv4Addr> = text.parse().ok();
            let key = format!("{BRIDGE}host_binding_ipv4");
            Some(IpAddr::V4(address.ok_or_else(|| invalid(&key, text, "nil ip"))?))
        }
    };
    Ok(BridgeOptions {
        name: name.map(str::to_owned),
        icc: flag("enable_icc", true)?,
        masquerade4: masquerade,
        masquerade6: masquerade,
        mode4: mode("gateway_mode_ipv4")?,
        mode6: mode("gateway_mode_ipv6")?,
        binding,
        source4: address(options, HOST_IPV4)?,
        source6: address(options, HOST_IPV6)?,
        inhibit4: flag("inhibit_ipv4", false)?,
        trusted,
    })
}

/// Names of links with colons between them.
fn trusted(text: &str) -> Result<Vec<String>> {
    let mut links: Vec<String> = text.split(':').filter(|link| !link.is_empty()).map(str::to_owned).collect();
    if let Some(odd) = links.iter().find(|link| !valid_interface_name(link)) {
        let reason = format!("{odd:?} is no name of an interface: use 1 to 15 letters, digits, '-', '_' or '.'");
        return Err(invalid(&format!("{BRIDGE}trusted_host_interfaces"), text, &reason));
    }
    links.sort();
    links.dedup();
    if links.len() > MAX_TRUSTED {
        return Err(Error::Config(format!(
            "{} names in {BRIDGE}trusted_host_interfaces: the most is {MAX_TRUSTED}",
            links.len()
        )));
    }
    Ok(links)
}

pub(crate) fn parent(options: &Options, ipvlan: bool) -> Result<ParentOptions> {
    let get = |name: &str| options.get(name).map_or("", String::as_str);
    let (mode, flag) = if ipvlan {
        let mode = match get("ipvlan_mode") {
            "" => "l2",
            mode @ ("l2" | "l3" | "l3s") => mode,
            odd => {
                let text =
                    format!("requested ipvlan mode '{odd}' is not valid, 'l2' mode is the ipvlan driver default");
                return Err(Error::Config(text));
            }
        };
        let flag = match get("ipvlan_flag") {
            "" => "bridge",
            flag @ ("bridge" | "private" | "vepa") => flag,
            odd => {
                let text = format!("requested ipvlan flag '{odd}' is not valid, 'bridge' is the ipvlan driver default");
                return Err(Error::Config(text));
            }
        };
        (mode, flag)
    } else {
        let mode = match get("macvlan_mode") {
            "" => "bridge",
            mode @ ("bridge" | "private" | "vepa" | "passthru") => mode,
            odd => {
                let text =
                    format!("requested macvlan mode '{odd}' is not valid, 'bridge' mode is the macvlan driver default");
                return Err(Error::Config(text));
            }
        };
        (mode, "")
    };
    let parent = Some(get("parent")).filter(|name| !name.is_empty());
    if let Some(name) = parent {
        let (link, vlan) = name.rsplit_once('.').unwrap_or((name, ""));
        if !valid_interface_name(link) || name.len() > 15 || !vlan.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::Config(format!("invalid parent {name:?}: use the name of a link, or LINK.VLAN")));
        }
        if name == "lo" {
            return Err(Error::Config("loopback interface is not a valid parent link".into()));
        }
    }
    Ok(ParentOptions { parent: parent.map(str::to_owned), mode: mode.to_owned(), flag: flag.to_owned() })
}

fn gateway_mode(text: &str) -> Option<GatewayMode> {
    Some(match text {
        "nat" => GatewayMode::Nat,
        "nat-unprotected" => GatewayMode::NatUnprotected,
        "routed" => GatewayMode::Routed,
        "isolated" => GatewayMode::Isolated,
        _ => return None,
    })
}

fn address<T: std::str::FromStr>(options: &Options, key: &str) -> Result<Option<T>> {
    match options.get(key).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| invalid(key, text, "nil ip")),
    }
}

/// What Go's `strconv.ParseBool` takes.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn invalid(key: &str, value: &str, reason: &str) -> Error {
    Error::Config(format!("failed to parse {key} value: {value} ({reason})"))
}

fn atoi(key: &str, value: &str) -> Error {
    invalid(key, value, &format!("strconv.Atoi: parsing {value:?}: invalid syntax"))
}

/// Whether a text can be an interface's name and a part of a path below `/proc/sys`, where two names have a meaning of
/// their own.
pub(crate) fn valid_interface_name(name: &str) -> bool {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=15).contains(&name.len())
        && name.bytes().all(safe)
        && !name.starts_with(['.', '-'])
        && !matches!(name, "all" | "default" | "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[(&str, &str)]) -> Options {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn defaults_are_dockers() {
        let none = Options::new();
        let found = bridge(&none).unwrap();
        assert!(found.icc && found.masquerade4 && !found.inhibit4 && found.name.is_none() && found.binding.is_none());
        assert_eq!((found.mode4, found.mode6), (GatewayMode::Nat, GatewayMode::Nat));
        assert_eq!(common(&none).unwrap().prefix, "eth");
        assert_eq!(parent(&none, false).unwrap().mode, "bridge");
        assert_eq!(parent(&none, true).unwrap().mode, "l2");
    }

    fn many_links(count: u32) -> String {
        (0..count).map(|n| format!("eth{n}:")).collect()
    }

    #[test]
    fn trusted_links_have_colons_between_them() {
        let of = |text: &str| bridge(&options(&[("com.docker.network.bridge.trusted_host_interfaces", text)])).unwrap();
        assert_eq!(of("vxlan.1:eth1:eth1").trusted, ["eth1", "vxlan.1"]);
        assert!(of("").trusted.is_empty() && of(":").trusted.is_empty());
        assert_eq!(of(&many_links(64)).trusted.len(), 64);
    }

    #[test]
    fn refusals_are_dockers() {
        for (key, value, text) in [
            (
                "com.docker.network.driver.mtu",
                "x",
                "failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing \"x\": invalid syntax)",
            ),
            ("com.docker.network.driver.mtu", "-1", "invalid MTU number: -1"),
        ] {
            assert_eq!(common(&options(&[(key, value)])).unwrap_err().to_string(), text);
        }
        for (key, value, text) in [
            (
                "com.docker.network.bridge.enable_icc",
                "maybe",
                "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)",
            ),
            (
                "com.docker.network.bridge.gateway_mode_ipv4",
                "odd",
                "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: odd (unknown gateway mode odd)",
            ),
            (
                "com.docker.network.bridge.host_binding_ipv4",
                "x",
                "failed to parse com.docker.network.bridge.host_binding_ipv4 value: x (nil ip)",
            ),
        ] {
            assert_eq!(bridge(&options(&[(key, value)])).unwrap_err().to_string(), text);
        }
        for name in ["..", "../ipv4", "all", "default", "a b", "sixteen-bytes-xx", "-x", "ü", "a/b"] {
            assert!(bridge(&options(&[("com.docker.network.bridge.name", name)])).is_err(), "{name:?}");
        }
        for (links, text) in [
            (
                "eth0:a b",
                "failed to parse com.docker.network.bridge.trusted_host_interfaces value: eth0:a b (\"a b\" is no",
            ),
            ("lo", "failed to parse com.docker.network.bridge.trusted_host_interfaces value: lo (\"lo\" is no"),
            (&many_links(65), "65 names in com.docker.network.bridge.trusted_host_interfaces: the most is 64"),
        ] {
            let error = bridge(&options(&[("com.docker.network.bridge.trusted_host_interfaces", links)])).unwrap_err();
            assert!(error.to_string().starts_with(text), "{error}");
        }
        assert!(parent(&options(&[("parent", "lo")]), false).is_err());
        assert!(parent(&options(&[("parent", "eth0.x")]), false).is_err());
        assert!(parent(&options(&[("parent", "eth0.10")]), true).is_ok());
    }
}
