//! How networks are made, by Docker's names.

use serde::{Deserialize, Serialize};

/// How a network is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Veth pairs on a bridge of the host.
    #[default]
    Bridge,
    /// Links with hardware addresses of their own on a link of the host.
    Macvlan,
    /// Links that share the hardware address of a link of the host.
    Ipvlan,
    /// The host's own network namespace.
    Host,
    /// A namespace with only loopback.
    Null,
}

impl Driver {
    /// The driver of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Bridge, Self::Macvlan, Self::Ipvlan, Self::Host, Self::Null].into_iter().find(|d| d.as_str() == name)
    }

    /// Docker's name of the driver.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}
