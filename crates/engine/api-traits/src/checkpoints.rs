//! Checkpoints: the processes of a container kept in files, to go on from them later.

use async_trait::async_trait;
use havre_engine_types::{CheckpointCreateRequest, CheckpointSummary};

use crate::ApiResult;

/// A checkpoint as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointAt {
    /// Its name, not checked yet.
    pub name: String,
    /// The directory that holds it; empty for the container's own.
    pub directory: String,
}

/// Checkpoints.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// Makes one of a running container, which ends unless it is asked to go on.
    async fn create(&self, id: &str, request: CheckpointCreateRequest) -> ApiResult<()>;

    /// Those of a container, by name. `directory` is empty for the container's own.
    async fn list(&self, id: &str, directory: &str) -> ApiResult<Vec<CheckpointSummary>>;

    /// Removes one.
    async fn remove(&self, id: &str, at: CheckpointAt) -> ApiResult<()>;

    /// Starts the container from one; `NotModified` when it runs.
    async fn start(&self, id: &str, at: CheckpointAt) -> ApiResult<()>;
}
