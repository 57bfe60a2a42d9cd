//! Networks, endpoints and published ports.

use crate::StringMap;
use crate::go::go_struct;
use crate::version::{ApiVersion, Versioned, backfill, drop_key};
use serde_json::Value;
use std::collections::BTreeMap;

/// Port → bindings; the key is `80/tcp`.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

go_struct! {
    /// Where a port is published on the host; both empty let the engine choose.
    pub struct PortBinding {
        "HostIp" host_ip: String,
        "HostPort" host_port: String,
    }
}

go_struct! {
    /// One published or exposed port in container lists.
    pub struct PortSummary {
        "IP" / "crate::go::omit" ip: String,
        "PrivatePort" private_port: u16,
        "PublicPort" / "crate::go::omit" public_port: u16,
        "Type" kind: String,
    }
}

go_struct! {
    /// A container's place on a network: request and state.
    pub struct EndpointSettings {
        "IPAMConfig" ipam_config: Option<EndpointIpamConfig>,
        "Links" links: Option<Vec<String>>,
        "Aliases" aliases: Option<Vec<String>>,
        "MacAddress" mac_address: String,
        "DriverOpts" driver_opts: Option<StringMap>,
        "GwPriority" gw_priority: i64,
        "NetworkID" network_id: String,
        "EndpointID" endpoint_id: String,
        "Gateway" gateway: String,
        "IPAddress" ip_address: String,
        "IPPrefixLen" ip_prefix_len: i64,
        "IPv6Gateway" ipv6_gateway: String,
        "GlobalIPv6Address" global_ipv6_address: String,
        "GlobalIPv6PrefixLen" global_ipv6_prefix_len: i64,
        "DNSNames" dns_names: Option<Vec<String>>,
    }
}

go_struct! {
    /// Addresses asked for.
    pub struct EndpointIpamConfig {
        "IPv4Address" / "crate::go::omit" ipv4_address: String,
        "IPv6Address" / "crate::go::omit" ipv6_address: String,
        "LinkLocalIPs" / "crate::go::omit" link_local_ips: Vec<String>,
    }
}

go_struct! {
    /// Networks a new container joins.
    pub struct NetworkingConfig {
        "EndpointsConfig" endpoints_config: Option<BTreeMap<String, Option<EndpointSettings>>>,
    }
}

go_struct! {
    /// Address management of a network.
    pub struct Ipam {
        "Driver" driver: String,
        "Options" options: Option<StringMap>,
        "Config" config: Option<Vec<IpamConfig>>,
    }
}

go_struct! {
    /// One subnet.
    pub struct IpamConfig {
        "Subnet" / "crate::go::omit" subnet: String,
        "IPRange" / "crate::go::omit" ip_range: String,
        "Gateway" / "crate::go::omit" gateway: String,
        "AuxiliaryAddresses" / "crate::go::omit" auxiliary_addresses: StringMap,
    }
}

go_struct! {
    /// The network another one takes its configuration from.
    pub struct ConfigReference {
        "Network" network: String,
    }
}

go_struct! {
    /// A network, in lists and by itself; `containers` is left out of lists.
    pub struct Network {
        "Name" name: String,
        "Id" id: String,
        "Created" created: String,
        "Scope" scope: String,
        "Driver" driver: String,
        "EnableIPv4" enable_ipv4: bool,
        "EnableIPv6" enable_ipv6: bool,
        "IPAM" ipam: Ipam,
        "Internal" internal: bool,
        "Attachable" attachable: bool,
        "Ingress" ingress: bool,
        "ConfigFrom" config_from: ConfigReference,
        "ConfigOnly" config_only: bool,
        "Containers" / "Option::is_none" containers: Option<BTreeMap<String, EndpointResource>>,
        "Options" options: Option<StringMap>,
        "Labels" labels: Option<StringMap>,
        "Status" / "crate::go::omit" status: Option<NetworkStatus>,
    }
}

go_struct! {
    /// A container on a network.
    pub struct EndpointResource {
        "Name" name: String,
        "EndpointID" endpoint_id: String,
        "MacAddress" mac_address: String,
        "IPv4Address" ipv4_address: String,
        "IPv6Address" ipv6_address: String,
    }
}

go_struct! {
    /// Use of a network's addresses.
    pub struct NetworkStatus {
        "IPAM" ipam: IpamStatus,
    }
}

go_struct! {
    /// Use by subnet.
    pub struct IpamStatus {
        "Subnets" / "crate::go::omit" subnets: BTreeMap<String, SubnetStatus>,
    }
}

go_struct! {
    /// Use of one subnet.
    pub struct SubnetStatus {
        "IPsInUse" ips_in_use: u64,
        "DynamicIPsAvailable" dynamic_ips_available: u64,
    }
}

go_struct! {
    /// Body of `POST /networks/create`.
    pub struct NetworkCreateBody {
        "Name" name: String,
        "Driver" driver: String,
        "Scope" scope: String,
        "EnableIPv4" / "Option::is_none" enable_ipv4: Option<bool>,
        "EnableIPv6" / "Option::is_none" enable_ipv6: Option<bool>,
        "IPAM" ipam: Option<Ipam>,
        "Internal" internal: bool,
        "Attachable" attachable: bool,
        "Ingress" ingress: bool,
        "ConfigOnly" config_only: bool,
        "ConfigFrom" config_from: Option<ConfigReference>,
        "Options" options: Option<StringMap>,
        "Labels" labels: Option<StringMap>,
    }
}

go_struct! {
    /// Answer of `POST /networks/create`.
    pub struct NetworkCreateResponse {
        "Id" id: String,
        "Warning" warning: String,
    }
}

go_struct! {
    /// Body of `POST /networks/{id}/connect`.
    pub struct NetworkConnectBody {
        "Container" container: String,
        "EndpointConfig" / "crate::go::omit" endpoint_config: Option<EndpointSettings>,
    }
}

go_struct! {
    /// Body of `POST /networks/{id}/disconnect`.
    pub struct NetworkDisconnectBody {
        "Container" container: String,
        "Force" force: bool,
    }
}

go_struct! {
    /// Answer of `POST /networks/prune`.
    pub struct NetworkPruneReport {
        "NetworksDeleted" networks_deleted: Option<Vec<String>>,
    }
}

impl Versioned for Network {
    const SINCE_MINOR: u16 = 52;

    /// Lists showed an empty `Containers` before 1.52; `Status` came with 1.52.
    fn adapt(value: &mut Value, version: ApiVersion) {
        drop_key(value, "Status");
        backfill(value, "Containers", serde_json::json!({}));
        if !version.at_least(48) {
            drop_key(value, "EnableIPv4");
        }
    }
}
