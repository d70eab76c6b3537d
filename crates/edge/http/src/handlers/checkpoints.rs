//! Checkpoints of containers.

use std::sync::Arc;

use havre_api_traits::{ApiError, CheckpointAt};
use havre_engine_types::CheckpointCreateRequest;
use hyper::StatusCode;

use crate::call::Call;
use crate::reply::{self, Reply};

pub(super) async fn create(mut call: Call) -> Reply {
    let Some(request) = call.json::<CheckpointCreateRequest>().await? else {
        return Err(ApiError::invalid(
            "invalid JSON: got EOF while reading request body",
        ));
    };
    let (checkpoints, id) = (Arc::clone(&call.api().checkpoints), call.name.clone());
    call.finish(async move { checkpoints.create(&id, request).await })
        .await?;
    reply::status(StatusCode::CREATED)
}

pub(super) async fn list(call: &Call) -> Reply {
    let directory = call.query.get("dir");
    let list = call.api().checkpoints.list(&call.name, directory).await?;
    reply::json(StatusCode::OK, &list)
}

pub(super) async fn remove(call: &Call) -> Reply {
    let (checkpoints, id) = (Arc::clone(&call.api().checkpoints), call.name.clone());
    let at = CheckpointAt {
        name: call.part.clone(),
        directory: call.query.get("dir").to_owned(),
    };
    call.finish(async move { checkpoints.remove(&id, at).await })
        .await?;
    reply::status(StatusCode::NO_CONTENT)
}

/// The checkpoint that a start names, if it names one.
pub(super) fn asked(call: &Call) -> Result<Option<CheckpointAt>, ApiError> {
    let (name, directory) = (
        call.query.get("checkpoint"),
        call.query.get("checkpoint-dir"),
    );
    if name.is_empty() {
        // A start from the beginning would not be what was asked for.
        if !directory.is_empty() {
            let text = "a checkpoint directory was given without a checkpoint";
            return Err(ApiError::invalid(text));
        }
        return Ok(None);
    }
    Ok(Some(CheckpointAt {
        name: name.to_owned(),
        directory: directory.to_owned(),
    }))
}
