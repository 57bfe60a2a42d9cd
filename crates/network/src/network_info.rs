//! What `network ls` and `network inspect` show of the networks every engine has.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use types::NetworkId;

use crate::Subnet;

/// How a network is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Slots on a bridge of the host.
    Bridge,
    /// The host's own network namespace.
    Host,
    /// A namespace with only loopback.
    Null,
}

impl Driver {
    /// Docker's name of the driver.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// Facts about a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Its id, kept by the caller.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// How it is made.
    pub driver: Driver,
    /// Its subnet, for drivers that have one.
    pub subnet: Option<Subnet>,
    /// Where default routes lead.
    pub gateway: Option<Ipv4Addr>,
    /// Driver options, as Docker names and writes them.
    pub options: BTreeMap<String, String>,
}

impl NetworkInfo {
    /// The network named `host`.
    #[must_use]
    pub fn host(id: NetworkId) -> Self {
        Self::without_subnet(id, "host", Driver::Host)
    }

    /// The network named `none`.
    #[must_use]
    pub fn none(id: NetworkId) -> Self {
        Self::without_subnet(id, "none", Driver::Null)
    }

    fn without_subnet(id: NetworkId, name: &str, driver: Driver) -> Self {
        Self { id, name: name.into(), driver, subnet: None, gateway: None, options: BTreeMap::new() }
    }
}
