//! The fake's checkpoints: it remembers what it was asked.

use async_trait::async_trait;
use havre_api_traits::{ApiError, ApiResult, CheckpointAt, Checkpoints};
use havre_engine_types::{CheckpointCreateRequest, CheckpointSummary};

use super::Fake;

#[async_trait]
impl Checkpoints for Fake {
    async fn create(&self, id: &str, request: CheckpointCreateRequest) -> ApiResult<()> {
        let CheckpointCreateRequest {
            checkpoint_id,
            checkpoint_dir,
            exit,
        } = request;
        let text = format!("create {id} {checkpoint_id} {checkpoint_dir} {exit}");
        Err(ApiError::conflict(text))
    }

    async fn list(&self, id: &str, directory: &str) -> ApiResult<Vec<CheckpointSummary>> {
        let name = format!("{id} {directory}");
        Ok(vec![CheckpointSummary { name }])
    }

    async fn remove(&self, id: &str, at: CheckpointAt) -> ApiResult<()> {
        let text = format!("remove {id} {} {}", at.name, at.directory);
        Err(ApiError::conflict(text))
    }

    async fn start(&self, id: &str, at: CheckpointAt) -> ApiResult<()> {
        let text = format!("start {id} {} {}", at.name, at.directory);
        Err(ApiError::conflict(text))
    }
}
