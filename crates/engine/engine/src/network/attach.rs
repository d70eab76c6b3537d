//! Containers and networks: joined and parted.

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{NetworkConnectRequest, NetworkDisconnectRequest, PortsExplained};

use crate::engine::Shared;

/// Joins a container to a network.
pub(super) fn connect(
    shared: &Arc<Shared>,
    network: &str,
    request: &NetworkConnectRequest,
) -> ApiResult<()> {
    shared.registry.find(&request.container)?;
    let record = shared.networks.find(network)?;
    Err(not_available(&record.name))
}

/// Takes a container off a network.
pub(super) fn disconnect(
    shared: &Arc<Shared>,
    network: &str,
    request: &NetworkDisconnectRequest,
) -> ApiResult<()> {
    if let Err(error) = shared.registry.find(&request.container) {
        if !request.force {
            return Err(error);
        }
        shared.networks.find(network)?;
        return Err(ApiError::not_found(format!(
            "endpoint {} not found",
            request.container
        )));
    }
    let record = shared.networks.find(network)?;
    Err(not_available(&record.name))
}

/// Who can reach which port of a container.
pub(super) fn explain_ports(shared: &Arc<Shared>, container: &str) -> ApiResult<PortsExplained> {
    shared.registry.find(container)?;
    // No port is published anywhere yet.
    Ok(PortsExplained::default())
}

fn not_available(network: &str) -> ApiError {
    ApiError::not_implemented(format!(
        "joining containers to network {network} is not available yet"
    ))
}
