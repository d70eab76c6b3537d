//! `/containers/…` but for output.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::once;
use havre_api_traits::{
    ApiError, ContainerList, RemoveContainer, StopOptions, TerminalSize, WaitCondition,
};
use havre_engine_types::{ContainerCreateRequest, WaitExitError, WaitResponse};
use hyper::StatusCode;

use super::shape;
use crate::body::Body;
use crate::call::Call;
use crate::reply::{self, Reply};

pub(super) async fn list(call: &Call) -> Reply {
    let query = ContainerList {
        all: call.query.flag("all"),
        limit: call.query.number("limit")?.unwrap_or(0),
        size: call.query.flag("size"),
        filters: call.filters()?,
    };
    let containers = call.api().containers.list(query).await?;
    let mut value = to_value(&containers)?;
    shape::container_list(call.version, &mut value);
    reply::json(StatusCode::OK, &value)
}

pub(super) async fn create(mut call: Call) -> Reply {
    let Some(mut request) = call.json::<ContainerCreateRequest>().await? else {
        return Err(ApiError::invalid(
            "invalid JSON: got EOF while reading request body",
        ));
    };
    let name = Some(call.query.get("name").to_owned()).filter(|name| !name.is_empty());
    // Older clients cannot mean it: the parameter came with 1.41.
    let platform = if call.version.before(41) {
        ""
    } else {
        call.query.get("platform")
    };
    let platform = platform.to_owned();
    let warnings = shape::request::create(call.version, &mut request)?;
    let containers = Arc::clone(&call.api().containers);
    let mut created = call
        .finish(async move { containers.create(name, platform, request).await })
        .await?;
    created.warnings.extend(warnings);
    reply::json(StatusCode::CREATED, &created)
}

pub(super) async fn inspect(call: &Call) -> Reply {
    let size = call.query.flag("size");
    let container = call.api().containers.inspect(&call.name, size).await?;
    let mut value = to_value(&container)?;
    shape::container(call.version, &mut value);
    reply::json(StatusCode::OK, &value)
}

pub(super) async fn start(call: &Call) -> Reply {
    // `{}` and `null` are what very old clients send.
    if call.has_body_over(7) {
        return Err(ApiError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    let (api, id) = (call.api().clone(), call.name.clone());
    let from = super::checkpoints::asked(call)?;
    call.finish(async move {
        match from {
            Some(checkpoint) => api.checkpoints.start(&id, checkpoint).await,
            None => api.containers.start(&id).await,
        }
    })
    .await?;
    reply::status(StatusCode::NO_CONTENT)
}

pub(super) async fn stop(call: &Call) -> Reply {
    let how = stop_options(call)?;
    let (containers, id) = (Arc::clone(&call.api().containers), call.name.clone());
    call.finish(async move { containers.stop(&id, how).await })
        .await?;
    reply::status(StatusCode::NO_CONTENT)
}

pub(super) async fn restart(call: &Call) -> Reply {
    let how = stop_options(call)?;
    let (containers, id) = (Arc::clone(&call.api().containers), call.name.clone());
    call.finish(async move { containers.restart(&id, how).await })
        .await?;
    reply::status(StatusCode::NO_CONTENT)
}

pub(super) async fn kill(call: &Call) -> Reply {
    let signal = text(call, "signal");
    let (containers, id) = (Arc::clone(&call.api().containers), call.name.clone());
    let done = call
        .finish(async move { containers.kill(&id, signal).await })
        .await;
    done.map_err(|failure| {
        let message = format!("cannot kill container: {}: {}", call.name, failure.message);
        ApiError::new(failure.kind, message)
    })?;
    reply::status(StatusCode::NO_CONTENT)
}

pub(super) async fn wait(call: &Call) -> Reply {
    // Before 1.30 there was no condition, and the answer came whole at the end.
    let old = call.version.before(30);
    let condition: WaitCondition = if old { "" } else { call.query.get("condition") }.parse()?;
    let waiting = call.api().containers.wait(&call.name, condition).await?;
    // Before 1.34 nothing at all said that a removal had failed.
    let silent = condition == WaitCondition::Removed && call.version.before(34);
    let answer = async move {
        let waiting = waiting.await;
        if silent && waiting.is_err() {
            return Bytes::new();
        }
        let result = waiting.unwrap_or_else(|failure| WaitResponse {
            status_code: -1,
            error: Some(WaitExitError {
                message: failure.message,
            }),
        });
        reply::json_line(&result, "\n").unwrap_or_default()
    };
    if old {
        return Ok(reply::with_type(
            StatusCode::OK,
            reply::JSON,
            Body::whole(answer.await),
        ));
    }
    Ok(reply::stream(reply::JSON, once(answer)))
}

pub(super) async fn resize(call: &Call) -> Reply {
    let size = size(call)?;
    call.api().containers.resize(&call.name, size).await?;
    reply::status(StatusCode::OK)
}

pub(super) async fn remove(call: &Call) -> Reply {
    let how = RemoveContainer {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
        link: call.query.flag("link"),
    };
    let (containers, id) = (Arc::clone(&call.api().containers), call.name.clone());
    call.finish(async move { containers.remove(&id, how).await })
        .await?;
    reply::status(StatusCode::NO_CONTENT)
}

/// The size of a terminal from the query.
pub(super) fn size(call: &Call) -> Result<TerminalSize, ApiError> {
    Ok(TerminalSize {
        height: call.query.dimension("h", "height")?,
        width: call.query.dimension("w", "width")?,
    })
}

/// A wire type as a tree that can be reshaped.
pub(super) fn to_value<T: serde::Serialize>(value: &T) -> Result<serde_json::Value, ApiError> {
    serde_json::to_value(value)
        .map_err(|error| ApiError::internal(format!("failed to write the answer: {error}")))
}

fn stop_options(call: &Call) -> Result<StopOptions, ApiError> {
    // The signal came with 1.42.
    let signal = if call.version.before(42) {
        None
    } else {
        text(call, "signal")
    };
    Ok(StopOptions {
        signal,
        timeout: call.query.number("t")?,
    })
}

fn text(call: &Call, name: &str) -> Option<String> {
    Some(call.query.get(name).to_owned()).filter(|text| !text.is_empty())
}
