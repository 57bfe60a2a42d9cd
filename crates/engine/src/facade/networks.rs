//! Networks: the built-in ones.

use docker_types::network::{
    Network, NetworkConnectBody, NetworkCreateBody, NetworkCreateResponse, NetworkDisconnectBody, NetworkPruneReport,
};
use types::Filters;

use crate::engine::Engine;
use crate::error::{Error, Result, fail};

fn unsupported() -> Error {
    fail!(Unsupported, "user-defined networks are not supported yet: only bridge, host and none exist")
        .with_hint("use --network bridge, host, none or container:NAME")
}

impl Engine {
    /// Networks that match.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub async fn network_list(&self, filters: Filters) -> Result<Vec<Network>> {
        self.inner.networks.list(&filters)
    }

    /// One network with its containers.
    ///
    /// # Errors
    /// Not found.
    pub async fn network_inspect(&self, reference: &str) -> Result<Network> {
        self.inner.networks.inspect(&self.inner, reference)
    }

    /// Not supported yet.
    ///
    /// # Errors
    /// Conflict for a built-in name, else Unsupported.
    pub async fn network_create(&self, body: NetworkCreateBody) -> Result<NetworkCreateResponse> {
        if matches!(body.name.as_str(), "bridge" | "host" | "none" | "default") {
            return Err(fail!(Forbidden, "operation is not permitted on predefined {} network", body.name));
        }
        Err(unsupported())
    }

    /// Built-in networks cannot be removed.
    ///
    /// # Errors
    /// Forbidden, or not found.
    pub async fn network_remove(&self, reference: &str) -> Result<()> {
        let network = self.network_inspect(reference).await?;
        Err(fail!(Forbidden, "{} is a pre-defined network and cannot be removed", network.name))
    }

    /// Not supported yet.
    ///
    /// # Errors
    /// Not found, or Unsupported.
    pub async fn network_connect(&self, reference: &str, body: NetworkConnectBody) -> Result<()> {
        self.network_inspect(reference).await?;
        self.inner.containers.get(&body.container)?;
        Err(unsupported())
    }

    /// Not supported yet.
    ///
    /// # Errors
    /// Not found, or Unsupported.
    pub async fn network_disconnect(&self, reference: &str, body: NetworkDisconnectBody) -> Result<()> {
        self.network_inspect(reference).await?;
        self.inner.containers.get(&body.container)?;
        Err(unsupported())
    }

    /// Nothing can be pruned: built-in networks stay.
    ///
    /// # Errors
    /// None.
    pub async fn network_prune(&self, _filters: Filters) -> Result<NetworkPruneReport> {
        Ok(NetworkPruneReport::default())
    }
}
