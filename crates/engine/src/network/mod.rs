//! Networks: the default bridge, `host` and `none`, and those users make. What is acknowledged is in the database before it
//! is answered; the data plane behind it is `network::Fabric`. Called by start, exit and the façade.

mod connect;
mod create;
mod hosts;
mod join;
pub(crate) mod legacy_links;
mod list;
mod rate;
mod record;
mod remove;
mod request;
mod unlink;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use network::{
    Driver, Fabric, FabricConfig, IpNet, NetworkSpec, Options, Pool, ProcessConfig, Running, SubnetSpec, default_pools,
};
use state::{Contents, Op};
use types::NetworkId;

use crate::clock;
use crate::config::EngineConfig;
use crate::container::record::Record as ContainerRecord;
use crate::error::{Error, Result, fail};

pub(crate) use connect::{connect, disconnect, renamed};
pub(crate) use create::create;
pub(crate) use join::{join, resolver_of};
pub(crate) use rate::set_rate;
pub(crate) use record::Known;
use record::Record;
pub(crate) use remove::{prune, remove};
pub(crate) use request::check_endpoint;
pub(crate) use unlink::unlink;

/// Name of the default bridge's network.
pub(crate) const BRIDGE: &str = "bridge";
const HOST: &str = "host";
const NONE: &str = "none";

/// Every network of the engine.
#[derive(Debug)]
pub(crate) struct Networks {
    fabric: Fabric,
    known: RwLock<BTreeMap<NetworkId, Arc<Known>>>,
    /// One creation or removal at a time.
    changing: tokio::sync::Mutex<()>,
    /// There is a default bridge.
    bridged: bool,
}

impl Networks {
    /// Bring up what the database names, and find or make the built-in networks. Gives what is to be written. `containers`
    /// are all records; `boot_id` tells which of them can be running.
    ///
    /// # Errors
    /// When the default bridge cannot be set up or `dhow-net` cannot be started.
    pub(crate) fn open(
        config: &EngineConfig,
        contents: &Contents,
        containers: &[ContainerRecord],
        boot_id: &str,
    ) -> Result<(Self, Vec<Op>)> {
        let mut stored: Vec<(NetworkId, Record)> = Vec::new();
        for (id, doc) in &contents.networks {
            match (id.parse(), serde_json::from_str::<Record>(doc)) {
                (Ok(id), Ok(record)) => stored.push((id, record)),
                // One unreadable row must not take the others down; it stays in the database.
                _ => tracing::error!(network = id, "the record cannot be read"),
            }
        }
        let mut ops = Vec::new();
        let mut known = BTreeMap::new();
        for (name, driver) in [(BRIDGE, Driver::Bridge), (HOST, Driver::Host), (NONE, Driver::Null)] {
            let found = stored.iter().find(|(_, record)| record.name == name && record.spec.is_none());
            let (id, record) = match found {
                Some((id, record)) => (*id, record.clone()),
                None => {
                    let id = new_id()?;
                    let record = Record { name: name.to_owned(), created_ns: clock::now_ns(), ..Record::default() };
                    ops.push(put(id, &record)?);
                    (id, record)
                }
            };
            known.insert(id, Arc::new(Known { id, driver, built_in: true, record }));
        }
        for (id, record) in stored.into_iter().filter(|(id, _)| !known.contains_key(id)).collect::<Vec<_>>() {
            let driver = record.spec.as_ref().map_or(Driver::Null, |spec| spec.driver);
            known.insert(id, Arc::new(Known { id, driver, built_in: false, record }));
        }

        let bridged = config.bridge != "none";
        if !bridged {
            known.retain(|_, network| !(network.built_in && network.driver == Driver::Bridge));
        }
        let mut specs: Vec<NetworkSpec> = known
            .values()
            .filter(|network| !network.record.config_only)
            .filter_map(|network| network.record.spec.clone())
            .collect();
        // The default bridge comes first, so that its subnet is chosen before anybody else's is in the way.
        let default = known.values().find(|network| network.built_in && network.driver == Driver::Bridge);
        let default = default.map(|network| default_spec(config, network.id)).transpose()?;
        let running = running(config, &known, containers, boot_id);
        let fabric = open_fabric(config, default.as_ref(), &mut specs, &running)?;
        let networks = Self { fabric, known: RwLock::new(known), changing: tokio::sync::Mutex::default(), bridged };
        Ok((networks, ops))
    }

    /// The data plane.
    pub(crate) fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// There is a default bridge.
    pub(crate) fn bridged(&self) -> bool {
        self.bridged
    }

    /// Every network, by id.
    pub(crate) fn all(&self) -> Vec<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The network of exactly that name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Known>> {
        self.all().into_iter().find(|network| network.record.name == name)
    }

    /// A network by name, id or the start of its id.
    ///
    /// # Errors
    /// Not found; Invalid when several ids begin like that.
    pub(crate) fn find(&self, reference: &str) -> Result<Arc<Known>> {
        let all = self.all();
        if let Some(found) = all
            .iter()
            .find(|network| network.id.to_string() == reference)
            .or_else(|| all.iter().find(|network| network.record.name == reference))
        {
            return Ok(Arc::clone(found));
        }
        let starts = |network: &&Arc<Known>| !reference.is_empty() && network.id.to_string().starts_with(reference);
        let matches: Vec<&Arc<Known>> = all.iter().filter(starts).collect();
        match matches.as_slice() {
            [one] => Ok(Arc::clone(one)),
            [] => Err(fail!(NotFound, "network {reference} not found")),
            more => Err(fail!(
                Invalid,
                "network {reference} is ambiguous ({} matches found based on ID prefix)",
                more.len()
            )),
        }
    }

    /// Id of the network of that name, or nothing.
    pub(crate) fn id_of(&self, name: &str) -> String {
        self.named(name).map(|network| network.id.to_string()).unwrap_or_default()
    }

    fn insert(&self, network: Known) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(network.id, Arc::new(network));
    }

    fn forget(&self, id: &NetworkId) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

fn new_id() -> Result<NetworkId> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| Error::io("cannot make a network id", e))?;
    Ok(NetworkId::from_random(bytes))
}

fn put(id: NetworkId, record: &Record) -> Result<Op> {
    let doc = serde_json::to_string(record).map_err(|e| Error::io("cannot encode a network's record", e))?;
    Ok(Op::PutNetwork { id: id.to_string(), doc })
}

/// The containers that may have outlived the last daemon.
fn running(
    config: &EngineConfig,
    known: &BTreeMap<NetworkId, Arc<Known>>,
    containers: &[ContainerRecord],
    boot_id: &str,
) -> Vec<Running> {
    let live = |record: &&ContainerRecord| record.state.phase.is_live() && record.state.boot_id == boot_id;
    let network = |name: &str| {
        let named = |network: &&Arc<Known>| network.record.name == name || network.id.to_string() == name;
        known.values().find(named).map(|network| network.id)
    };
    let find = |reference: &str| {
        let found = containers.iter().find(|record| record.name == reference || record.id == reference)?;
        Some((found.id.clone(), found.name.clone()))
    };
    containers
        .iter()
        .filter(live)
        .filter(|record| !record.state.endpoints.is_empty() || record.state.has_sandbox)
        .filter_map(|record| {
            Some(Running {
                container: record.id.parse().ok()?,
                process: record.state.process(),
                resolver: resolver_of(config, record, network, find),
                endpoints: record.state.endpoints.clone(),
            })
        })
        .collect()
}

fn open_fabric(
    config: &EngineConfig,
    default: Option<&NetworkSpec>,
    specs: &mut Vec<NetworkSpec>,
    running: &[Running],
) -> Result<Fabric> {
    let name = config.bridge.as_str();
    // One table per engine, told apart by what tells engines on one host apart.
    let table = match name {
        "dhow0" => "dhow".to_owned(),
        "none" => format!("dhow-{:08x}", fingerprint(&config.exec_root)),
        name => format!("dhow-{name}"),
    };
    let pools =
        if config.address_pools.is_empty() { default_pools(unique_local()) } else { config.address_pools.clone() };
    let process = ProcessConfig {
        program: config.net.clone(),
        socket: config.exec_root.join("net.sock"),
        log: config.exec_root.join("net.log"),
        table,
    };
    let (idle, idle_max) = if default.is_some() { (2, 8) } else { (0, 8) };
    let fabric = FabricConfig {
        process,
        pools,
        bindings: config.bindings.clone(),
        idle,
        idle_max,
        firewalld: Some(network::system_bus()),
        ip_forward_no_drop: config.ip_forward_no_drop,
    };
    Ok(Fabric::open(fabric, default.cloned(), std::mem::take(specs), running)?)
}

/// A number that tells paths apart.
fn fingerprint(path: &std::path::Path) -> u32 {
    // FNV-1a; two engines with equal ones would have to share a host and a bridge named "none".
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Five bytes for the host's unique local IPv6 prefix, the same at every start.
fn unique_local() -> [u8; 5] {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in id.trim().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [a, b, c, d, e]
}

/// The default bridge as the daemon's flags describe it.
fn default_spec(config: &EngineConfig, id: NetworkId) -> Result<NetworkSpec> {
    let mut subnets = Vec::new();
    let (v4, v6) = (&config.bridge_subnet, &config.bridge_subnet6);
    for (text, range, gateway, example, ipv6) in [
        (v4, &config.fixed_cidr, &config.default_gateway, "172.30.0.1/16", false),
        (v6, &None, &config.default_gateway6, "fd00:1::1/64", true),
    ] {
        // A range alone says where the subnet is, as with dockerd.
        let Some(text) = text.as_ref().or(range.as_ref()) else { continue };
        let net = text
            .parse()
            .ok()
            .filter(|net: &IpNet| matches!(net, IpNet::V6(_)) == ipv6 && net.prefix_len() <= net.max_prefix_len() - 2);
        let net = net.ok_or_else(|| fail!(Invalid, "invalid bridge subnet {text:?}: it must look like {example}"))?;
        let given = gateway.as_ref().map(|text| text.parse::<IpAddr>()).transpose();
        let given = given.map_err(|_| fail!(Invalid, "invalid default gateway: it must be an address"))?;
        let gateway = given.or((net.addr() != net.network()).then(|| net.addr()));
        let range = range.as_ref().map(|text| text.parse::<IpNet>()).transpose();
        let range = range.map_err(|_| fail!(Invalid, "invalid fixed-cidr: it must look like 172.30.1.0/24"))?;
        subnets.push(SubnetSpec { gateway, range, ..SubnetSpec::new(net.trunc()) });
    }
    let mut options = Options::new();
    let mut option = |key: &str, value: String| options.insert(format!("com.docker.network.{key}"), value);
    option("bridge.default_bridge", "true".into());
    option("bridge.enable_icc", config.icc.to_string());
    option("bridge.enable_ip_masquerade", config.ip_masq.to_string());
    let binding = config.bindings.first().copied().filter(IpAddr::is_ipv4);
    option("bridge.host_binding_ipv4", binding.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()));
    option("bridge.name", config.bridge.clone());
    option("driver.mtu", config.mtu.unwrap_or(1500).to_string());
    Ok(NetworkSpec {
        id,
        name: BRIDGE.into(),
        driver: Driver::Bridge,
        ipv4: true,
        ipv6: config.ipv6,
        internal: false,
        subnets,
        options,
        foreign_link: false,
    })
}

/// Address pools as `--default-address-pool base=10.0.0.0/8,size=24` gives them.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_address_pool(text: &str) -> std::result::Result<Pool, String> {
    let invalid = |why: String| format!("invalid default address pool {text:?}: {why}");
    let (mut base, mut size) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("base", value)) => {
                base = Some(value.parse::<IpNet>().map_err(|_| invalid(format!("invalid base pool {value:?}")))?);
            }
            Some(("size", value)) => {
                size = Some(value.parse::<u8>().map_err(|_| invalid(format!("invalid pool size {value:?}")))?);
            }
            _ => return Err(invalid(format!("unexpected {part:?}; write base=10.0.0.0/8,size=24"))),
        }
    }
    let (Some(base), Some(size)) = (base, size) else {
        return Err(invalid("write base=10.0.0.0/8,size=24".into()));
    };
    Pool::new(base, size).ok_or_else(|| invalid(format!("subnets of /{size} do not fit into {base}")))
}
