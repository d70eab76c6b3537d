//! `/networks…`, and who reaches a container's ports.

use std::sync::Arc;

use havre_api_traits::{ApiError, InspectNetwork};
use havre_engine_types::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use hyper::StatusCode;

use super::containers::to_value;
use super::shape;
use crate::call::Call;
use crate::reply::{self, Reply};

pub(super) async fn list(call: &Call) -> Reply {
    let networks = call.api().networks.list(call.filters()?).await?;
    let mut value = to_value(&networks)?;
    shape::network_list(call.version, &mut value);
    reply::json(StatusCode::OK, &value)
}

pub(super) async fn inspect(call: &Call) -> Reply {
    let how = InspectNetwork {
        verbose: verbose(call.query.get("verbose"))?,
        scope: call.query.get("scope").to_owned(),
    };
    let network = call.api().networks.inspect(&call.name, how).await?;
    let mut value = to_value(&network)?;
    shape::network(call.version, &mut value);
    reply::json(StatusCode::OK, &value)
}

/// Docker reads this one strictly: only Go's words for true and false.
fn verbose(text: &str) -> Result<bool, ApiError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        other => Err(ApiError::invalid(format!(
            "invalid value for verbose: {other}: strconv.ParseBool: parsing {other:?}: invalid syntax"
        ))),
    }
}

pub(super) async fn create(mut call: Call) -> Reply {
    let mut request = call
        .json::<NetworkCreateRequest>()
        .await?
        .unwrap_or_default();
    // The field came with 1.48.
    if call.version.before(48) {
        request.enable_ipv4 = None;
    }
    let networks = Arc::clone(&call.api().networks);
    let answer = call
        .finish(async move { networks.create(request).await })
        .await?;
    reply::json(StatusCode::CREATED, &answer)
}

pub(super) async fn remove(call: &Call) -> Reply {
    let (networks, name) = (Arc::clone(&call.api().networks), call.name.clone());
    call.finish(async move { networks.remove(&name).await })
        .await?;
    reply::status(StatusCode::NO_CONTENT)
}

pub(super) async fn prune(call: &Call) -> Reply {
    let (networks, filters) = (Arc::clone(&call.api().networks), call.filters()?);
    let answer = call
        .finish(async move { networks.prune(filters).await })
        .await?;
    reply::json(StatusCode::OK, &answer)
}

pub(super) async fn connect(mut call: Call) -> Reply {
    let mut request = call
        .json::<NetworkConnectRequest>()
        .await?
        .unwrap_or_default();
    // Before 1.54 the hardware address in it was what a client had read and sent back.
    if call.version.before(54)
        && let Some(endpoint) = &mut request.endpoint_config
    {
        endpoint.mac_address.clear();
    }
    check_container(&request.container)?;
    let (networks, name) = (Arc::clone(&call.api().networks), call.name.clone());
    call.finish(async move { networks.connect(&name, request).await })
        .await?;
    reply::status(StatusCode::OK)
}

pub(super) async fn disconnect(mut call: Call) -> Reply {
    let request = call
        .json::<NetworkDisconnectRequest>()
        .await?
        .unwrap_or_default();
    check_container(&request.container)?;
    let (networks, name) = (Arc::clone(&call.api().networks), call.name.clone());
    call.finish(async move { networks.disconnect(&name, request).await })
        .await?;
    reply::status(StatusCode::OK)
}

fn check_container(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ApiError::invalid("invalid name or ID supplied: \"\""));
    }
    Ok(())
}

pub(super) async fn explain_ports(call: &Call) -> Reply {
    let answer = call.api().networks.explain_ports(&call.name).await?;
    reply::json(StatusCode::OK, &answer)
}
