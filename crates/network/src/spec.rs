//! A network as its record says: what was asked for and what was chosen, without anything of this boot.

use std::collections::BTreeMap;
use std::net::IpAddr;

use firewall::{FamilyRules, GatewayMode, NetRules};
use ipnet::IpNet;
use netlink::route::MacAddress;
use serde::{Deserialize, Serialize};
use types::NetworkId;

use crate::options::{self, BridgeOptions, Common, Options, ParentOptions};
use crate::pools::overlap;
use crate::{Driver, Error, Result};

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    /// The addresses.
    pub subnet: IpNet,
    /// Part of it that containers get addresses from unasked.
    #[serde(default)]
    pub range: Option<IpNet>,
    /// The bridge's address, or the router's on a network of the parent link.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Addresses that belong to somebody else, by name.
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
    /// Whether a user chose the subnet; only then may containers ask for addresses.
    #[serde(default)]
    pub configured: bool,
    /// Whether the gateway was left to us although the subnet was not: dockerd does not show it then.
    #[serde(default)]
    pub quiet_gateway: bool,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its id.
    pub id: NetworkId,
    /// Its name; unique in an engine.
    pub name: String,
    /// How it is made.
    pub driver: Driver,
    /// Whether containers get IPv4 addresses.
    pub ipv4: bool,
    /// Whether containers get IPv6 addresses.
    pub ipv6: bool,
    /// Nothing in or out but the host itself.
    pub internal: bool,
    /// Subnets, at least one per family once the network is made.
    pub subnets: Vec<SubnetSpec>,
    /// Options as given.
    pub options: Options,
    /// The link was there before the network, and stays when it goes.
    #[serde(default)]
    pub foreign_link: bool,
}

impl NetworkSpec {
    /// Checks what can be checked without the host: options, subnets against each other and against their parts.
    ///
    /// # Errors
    /// [`Error::Config`] in Docker's words.
    pub fn check(&self) -> Result<()> {
        options::common(&self.options)?;
        match self.driver {
            Driver::Bridge => {
                options::bridge(&self.options)?;
            }
            Driver::Macvlan | Driver::Ipvlan => {
                options::parent(&self.options, self.driver == Driver::Ipvlan)?;
            }
            Driver::Host | Driver::Null => {}
        }
        let mut problems = Vec::new();
        for spec in &self.subnets {
            spec.check(&mut problems);
        }
        if !problems.is_empty() {
            return Err(Error::Config(format!("invalid network config:\n{}", bullets(&problems))));
        }
        for (index, spec) in self.subnets.iter().enumerate() {
            if self.subnets[index + 1..].iter().any(|other| overlap(spec.subnet, other.subnet)) {
                return Err(Error::PoolOverlap);
            }
        }
        for ipv6 in [false, true] {
            let of_family = self.subnets.iter().filter(|spec| is_ipv6(spec.subnet) == ipv6).count();
            if self.driver == Driver::Bridge && of_family > 1 {
                let family = if ipv6 { "IPv6" } else { "IPv4" };
                return Err(Error::Config(format!("bridge driver doesn't support multiple {family} subnets")));
            }
        }
        Ok(())
    }

    /// Name of the bridge link.
    pub(crate) fn bridge_name(&self) -> Result<String> {
        let id = self.id.to_string();
        Ok(self.bridge_options()?.name.unwrap_or_else(|| format!("br-{}", &id[..12])))
    }

    pub(crate) fn bridge_options(&self) -> Result<BridgeOptions> {
        options::bridge(&self.options)
    }

    pub(crate) fn parent_options(&self) -> Result<ParentOptions> {
        options::parent(&self.options, self.driver == Driver::Ipvlan)
    }

    pub(crate) fn common(&self) -> Result<Common> {
        options::common(&self.options)
    }

    /// Whether the network has addresses of a family.
    pub(crate) fn has(&self, ipv6: bool) -> bool {
        if ipv6 { self.ipv6 } else { self.ipv4 }
    }

    /// The subnets of one family.
    pub(crate) fn of_family(&self, ipv6: bool) -> impl Iterator<Item = &SubnetSpec> {
        let wanted = self.has(ipv6);
        self.subnets.iter().filter(move |spec| wanted && is_ipv6(spec.subnet) == ipv6)
    }

    /// Where default routes of a family lead.
    pub(crate) fn gateway(&self, ipv6: bool) -> Option<IpAddr> {
        self.of_family(ipv6).find_map(|spec| spec.gateway)
    }

    /// What the rules have to know of a bridge network.
    pub(crate) fn rules(&self, mac: MacAddress) -> Result<NetRules> {
        let options = self.bridge_options()?;
        let v4 = self.of_family(false).find_map(|spec| match (spec.subnet, spec.gateway) {
            (IpNet::V4(subnet), gateway) => Some(FamilyRules {
                subnet,
                gateway: match gateway {
                    Some(IpAddr::V4(gateway)) if !options.inhibit4 => Some(gateway),
                    _ => None,
                },
                masquerade: options.masquerade4 && options.mode4 != GatewayMode::Routed,
                mode: options.mode4,
                source: options.source4,
            }),
            _ => None,
        });
        let v6 = self.of_family(true).find_map(|spec| match (spec.subnet, spec.gateway) {
            (IpNet::V6(subnet), gateway) => Some(FamilyRules {
                subnet,
                gateway: match gateway {
                    Some(IpAddr::V6(gateway)) => Some(gateway),
                    _ => None,
                },
                masquerade: options.masquerade6 && options.mode6 != GatewayMode::Routed,
                mode: options.mode6,
                source: options.source6,
            }),
            _ => None,
        });
        Ok(NetRules {
            id: self.id,
            bridge: self.bridge_name()?,
            route_localnet: v4.is_some() && !self.internal,
            v4,
            v6,
            icc: options.icc,
            trusted: options.trusted,
            internal: self.internal,
            mac,
            mtu: self.common()?.mtu.unwrap_or(DEFAULT_MTU),
        })
    }
}

/// Largest packet of links nobody chose otherwise for, in bytes.
pub(crate) const DEFAULT_MTU: u32 = 1500;

impl SubnetSpec {
    /// A subnet of which nothing else is asked.
    #[must_use]
    pub fn new(subnet: IpNet) -> Self {
        Self { subnet, range: None, gateway: None, reserved: BTreeMap::new(), configured: false, quiet_gateway: false }
    }

    fn check(&self, problems: &mut Vec<String>) {
        let subnet = self.subnet;
        if subnet != subnet.trunc() {
            problems.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
        }
        if let Some(range) = self.range {
            if range != range.trunc() {
                problems.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
            }
            if !subnet.contains(&range) {
                problems.push(format!("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"));
            }
        }
        if let Some(gateway) = self.gateway.filter(|gateway| !subnet.contains(gateway)) {
            problems.push(format!("invalid gateway {gateway}: parent subnet {subnet} doesn't contain this address"));
        }
        for (name, address) in &self.reserved {
            if !subnet.contains(address) {
                problems.push(format!(
                    "invalid auxiliary address {name}: parent subnet {subnet} doesn't contain this address"
                ));
            }
        }
    }
}

pub(crate) fn is_ipv6(net: IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

/// Several problems in the form of Go's joined errors: one as it is, more as a list.
pub(crate) fn bullets(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        more => more.iter().map(|problem| format!("* {problem}")).collect::<Vec<_>>().join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(subnets: &[&str]) -> NetworkSpec {
        NetworkSpec {
            id: NetworkId::from_random([0xab; 32]),
            name: "n".into(),
            driver: Driver::Bridge,
            ipv4: true,
            ipv6: false,
            internal: false,
            subnets: subnets.iter().map(|subnet| SubnetSpec::new(subnet.parse().unwrap())).collect(),
            options: Options::new(),
            foreign_link: false,
        }
    }

    fn refusal(change: impl FnOnce(&mut SubnetSpec)) -> String {
        let mut spec = spec(&["10.1.0.0/16"]);
        change(&mut spec.subnets[0]);
        spec.check().unwrap_err().to_string()
    }

    #[test]
    fn refusals_are_dockers() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            refusal(|s| s.subnet = "10.1.0.1/16".parse().unwrap()),
            "invalid network config:\ninvalid subnet 10.1.0.1/16: it should be 10.1.0.0/16"
        );
        assert_eq!(
            refusal(|s| s.gateway = Some(address("10.2.0.1"))),
            "invalid network config:\ninvalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address"
        );
        assert_eq!(
            refusal(|s| s.range = Some("10.2.0.0/24".parse().unwrap())),
            "invalid network config:\ninvalid ip-range 10.2.0.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range"
        );
        assert_eq!(
            refusal(|s| {
                s.reserved.insert("x".into(), address("10.2.0.9"));
            }),
            "invalid network config:\ninvalid auxiliary address x: parent subnet 10.1.0.0/16 doesn't contain this address"
        );
        let error = spec(&["10.1.0.0/16", "10.1.0.0/24"]).check().unwrap_err();
        assert_eq!(error.to_string(), "invalid pool request: Pool overlaps with other one on this address space");
        assert!(spec(&["10.1.0.0/16", "10.2.0.0/24"]).check().is_err(), "one subnet of a family per bridge");
    }

    #[test]
    fn names_of_bridges_come_from_the_id() {
        assert_eq!(spec(&[]).bridge_name().unwrap(), "br-abababababab");
    }
}
