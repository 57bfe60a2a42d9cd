//! Networks.

use docker_types::network::{
    Network, NetworkConnectBody, NetworkCreateBody, NetworkCreateResponse, NetworkDisconnectBody, NetworkPruneReport,
};
use types::Filters;

use crate::engine::Engine;
use crate::error::{Result, fail};

impl Engine {
    /// Networks that match.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub async fn network_list(&self, filters: Filters) -> Result<Vec<Network>> {
        self.inner.networks.list(&self.inner, &filters)
    }

    /// One network with its containers.
    ///
    /// # Errors
    /// Not found.
    pub async fn network_inspect(&self, reference: &str) -> Result<Network> {
        self.inner.networks.inspect(&self.inner, reference)
    }

    /// Make a network.
    ///
    /// # Errors
    /// Invalid, Forbidden, Conflict and Not found in Docker's words.
    pub async fn network_create(&self, body: NetworkCreateBody) -> Result<NetworkCreateResponse> {
        crate::network::create(&self.inner, body).await
    }

    /// Remove a network that no running container is on.
    ///
    /// # Errors
    /// Not found; Forbidden for a built-in one and one in use.
    pub async fn network_remove(&self, reference: &str) -> Result<()> {
        crate::network::remove(&self.inner, reference).await
    }

    /// Give a container a place on a network.
    ///
    /// # Errors
    /// Not found, Forbidden, Invalid in Docker's words.
    pub async fn network_connect(&self, reference: &str, body: NetworkConnectBody) -> Result<()> {
        let network = self.inner.networks.find(reference)?;
        let container = self.inner.containers.get(&body.container)?;
        crate::network::connect(&self.inner, &network, &container, body.endpoint_config.unwrap_or_default()).await
    }

    /// Take a container off a network.
    ///
    /// # Errors
    /// Not found; Internal, as dockerd answers, when it is not on it.
    pub async fn network_disconnect(&self, reference: &str, body: NetworkDisconnectBody) -> Result<()> {
        let network = self.inner.networks.find(reference)?;
        let container = match self.inner.containers.get(&body.container) {
            Err(error) if body.force && error.kind() == types::Kind::NotFound => {
                return Err(fail!(NotFound, "endpoint {} not found", body.container));
            }
            other => other?,
        };
        crate::network::disconnect(&self.inner, &network, &container, body.force).await
    }

    /// Remove every network that no container refers to.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub async fn network_prune(&self, filters: Filters) -> Result<NetworkPruneReport> {
        crate::network::prune(&self.inner, &filters).await
    }
}
