//! Networks: made, listed and removed, and containers joined to them.

use async_trait::async_trait;
use havre_engine_types::{
    Filters, NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse,
    NetworkDisconnectRequest, NetworkInspect, NetworkPruneResponse, PortsExplained,
};

use crate::ApiResult;

/// How to look at one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InspectNetwork {
    /// With the services of a cluster.
    pub verbose: bool,
    /// Only a network of this scope; empty for any.
    pub scope: String,
}

/// Networks.
#[async_trait]
pub trait Networks: Send + Sync {
    /// Makes a network.
    async fn create(&self, request: NetworkCreateRequest) -> ApiResult<NetworkCreateResponse>;

    /// All networks that pass the filters (`dangling`, `driver`, `id`, `label`, `name`, `scope`, `type`), each with its
    /// containers.
    async fn list(&self, filters: Filters) -> ApiResult<Vec<NetworkInspect>>;

    /// Everything about one network.
    async fn inspect(&self, name: &str, how: InspectNetwork) -> ApiResult<NetworkInspect>;

    /// Removes a network that nothing is attached to.
    async fn remove(&self, name: &str) -> ApiResult<()>;

    /// Removes the networks that nothing is attached to and that pass the filters (`until`, `label`, `label!`).
    async fn prune(&self, filters: Filters) -> ApiResult<NetworkPruneResponse>;

    /// Joins a container, running or not, to a network.
    async fn connect(&self, network: &str, request: NetworkConnectRequest) -> ApiResult<()>;

    /// Takes a container off a network.
    async fn disconnect(&self, network: &str, request: NetworkDisconnectRequest) -> ApiResult<()>;

    /// Who can reach which port of a container, and which rule decides it.
    async fn explain_ports(&self, container: &str) -> ApiResult<PortsExplained>;
}
