//! Pause, rename, update and prune of containers.

use std::sync::Arc;

use havre_api_traits::ApiError;
use havre_engine_types::{ContainerUpdateResponse, HostConfig};
use hyper::StatusCode;

use crate::call::Call;
use crate::reply::{self, Reply};

pub(super) async fn prune(call: &Call) -> Reply {
    let (lifecycle, filters) = (Arc::clone(&call.api().lifecycle), call.filters()?);
    let answer = call
        .finish(async move { lifecycle.prune(filters).await })
        .await?;
    reply::json(StatusCode::OK, &answer)
}

pub(super) async fn update(mut call: Call) -> Reply {
    let Some(mut wanted) = call.json::<HostConfig>().await? else {
        return Err(ApiError::invalid(
            "invalid JSON: got EOF while reading request body",
        ));
    };
    // What an older API does not know cannot be meant.
    if call.version.before(40) {
        wanted.pids_limit = None;
    }
    if call.version.before(55) {
        wanted.blkio_weight_device = None;
        wanted.blkio_device_read_bps = None;
        wanted.blkio_device_write_bps = None;
        wanted.blkio_device_read_iops = None;
        wanted.blkio_device_write_iops = None;
    }
    let (lifecycle, id) = (Arc::clone(&call.api().lifecycle), call.name.clone());
    let warnings = call
        .finish(async move { lifecycle.update(&id, wanted).await })
        .await?;
    let answer = ContainerUpdateResponse {
        warnings: Some(warnings).filter(|warnings| !warnings.is_empty()),
    };
    reply::json(StatusCode::OK, &answer)
}

pub(super) async fn rename(call: &Call) -> Reply {
    let (lifecycle, id) = (Arc::clone(&call.api().lifecycle), call.name.clone());
    let name = call.query.get("name").to_owned();
    call.finish(async move { lifecycle.rename(&id, &name).await })
        .await?;
    reply::status(StatusCode::NO_CONTENT)
}

pub(super) async fn pause(call: &Call) -> Reply {
    let (lifecycle, id) = (Arc::clone(&call.api().lifecycle), call.name.clone());
    call.finish(async move { lifecycle.pause(&id).await })
        .await?;
    reply::status(StatusCode::NO_CONTENT)
}

pub(super) async fn unpause(call: &Call) -> Reply {
    let (lifecycle, id) = (Arc::clone(&call.api().lifecycle), call.name.clone());
    call.finish(async move { lifecycle.unpause(&id).await })
        .await?;
    reply::status(StatusCode::NO_CONTENT)
}
