//! The fake engine's networks: `web` is there, and answers show what reached it.

use async_trait::async_trait;
use havre_api_traits::{ApiError, ApiResult, InspectNetwork, Networks};
use havre_engine_types::{
    EndpointResource, Filters, NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse,
    NetworkDisconnectRequest, NetworkInspect, NetworkPruneResponse, NetworkStatus, NetworkSummary,
    PortExplanation, PortsExplained,
};

use super::Fake;

fn web() -> NetworkInspect {
    NetworkInspect {
        network: NetworkSummary {
            name: "web".to_owned(),
            id: "ab".repeat(32),
            ..NetworkSummary::default()
        },
        containers: [("c".to_owned(), EndpointResource::default())].into(),
        services: None,
        status: Some(NetworkStatus::default()),
    }
}

#[async_trait]
impl Networks for Fake {
    async fn create(&self, request: NetworkCreateRequest) -> ApiResult<NetworkCreateResponse> {
        if request.name == "web" {
            return Err(ApiError::conflict("network with name web already exists"));
        }
        Ok(NetworkCreateResponse {
            id: format!("{} {:?}", request.name, request.enable_ipv4),
            warning: String::new(),
        })
    }

    async fn list(&self, filters: Filters) -> ApiResult<Vec<NetworkInspect>> {
        filters
            .validate(&["name"])
            .map_err(|error| ApiError::from_classified(&error))?;
        let mut network = web();
        network.status = None;
        Ok(vec![network])
    }

    async fn inspect(&self, name: &str, how: InspectNetwork) -> ApiResult<NetworkInspect> {
        if name != "web" {
            return Err(ApiError::not_found(format!("network {name} not found")));
        }
        let mut network = web();
        network.network.name = format!("{name} {} {}", how.verbose, how.scope);
        Ok(network)
    }

    async fn remove(&self, name: &str) -> ApiResult<()> {
        match name {
            "a/b" => Ok(()),
            _ => Err(ApiError::not_found(format!("network {name} not found"))),
        }
    }

    async fn prune(&self, filters: Filters) -> ApiResult<NetworkPruneResponse> {
        let deleted: Vec<String> = filters.values("label").map(str::to_owned).collect();
        Ok(NetworkPruneResponse {
            networks_deleted: (!deleted.is_empty()).then_some(deleted),
        })
    }

    /// Shows in its error what reached it.
    async fn connect(&self, network: &str, request: NetworkConnectRequest) -> ApiResult<()> {
        let endpoint = request.endpoint_config.unwrap_or_default();
        if endpoint.mac_address.is_empty() {
            return Ok(());
        }
        Err(ApiError::conflict(format!(
            "{network} {} {}",
            request.container, endpoint.mac_address
        )))
    }

    async fn disconnect(&self, network: &str, request: NetworkDisconnectRequest) -> ApiResult<()> {
        if request.force {
            return Ok(());
        }
        Err(ApiError::conflict(format!(
            "{network} {}",
            request.container
        )))
    }

    async fn explain_ports(&self, container: &str) -> ApiResult<PortsExplained> {
        Ok(PortsExplained {
            ports: vec![PortExplanation {
                port: "80/tcp".to_owned(),
                network: container.to_owned(),
                ..PortExplanation::default()
            }],
        })
    }
}
