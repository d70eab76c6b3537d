//! Short ways to the errors the engine answers with. Docker's own sentences live where they are said.

use havre_api_traits::ApiError;
use havre_types::{Classify, ErrorKind, chain};

/// The engine or the host failed: `what` says at which, the cause follows.
pub(crate) fn internal(what: &str, cause: &dyn std::error::Error) -> ApiError {
    ApiError::internal(format!("{what}: {}", chain(cause)))
}

/// A failure of a lower layer that knows its kind.
pub(crate) fn classified<E: Classify>(what: &str, cause: &E) -> ApiError {
    ApiError::new(cause.kind(), format!("{what}: {}", chain(cause)))
}

/// <https://github.com/moby/moby/blob/master/daemon/errors.go> (`containerNotFound`).
pub(crate) fn no_such_container(name: &str) -> ApiError {
    ApiError::not_found(format!("No such container: {name}"))
}

pub(crate) fn is_restarting(id: &str) -> ApiError {
    ApiError::conflict(format!(
        "Container {id} is restarting, wait until the container is running"
    ))
}

pub(crate) fn not_running(id: &str) -> ApiError {
    ApiError::new(
        ErrorKind::Conflict,
        format!("container {id} is not running"),
    )
}

/// What Docker puts before a process that could not be started in a container; command lines look for it.
pub(crate) fn exec_failed(why: &str) -> String {
    format!("OCI runtime exec failed: exec failed: unable to start container process: {why}")
}
