//! The fake engine's answers to changes of containers.

use async_trait::async_trait;
use havre_api_traits::{ApiError, ApiResult, Lifecycle};
use havre_engine_types::{ContainerPruneResponse, Filters, HostConfig};

use super::Fake;

#[async_trait]
impl Lifecycle for Fake {
    async fn pause(&self, id: &str) -> ApiResult<()> {
        self.find(id).map(|_| ())
    }

    async fn unpause(&self, id: &str) -> ApiResult<()> {
        Err(ApiError::conflict(format!("Container {id} is not paused")))
    }

    async fn rename(&self, id: &str, name: &str) -> ApiResult<()> {
        self.find(id)?;
        if name.is_empty() {
            return Err(ApiError::invalid("Neither old nor new names may be empty"));
        }
        Ok(())
    }

    /// Shows in its warnings what reached it.
    async fn update(&self, id: &str, wanted: HostConfig) -> ApiResult<Vec<String>> {
        self.find(id)?;
        Ok(vec![format!(
            "memory {} pids {:?} read {}",
            wanted.memory,
            wanted.pids_limit,
            wanted.blkio_device_read_bps.is_some()
        )])
    }

    async fn prune(&self, filters: Filters) -> ApiResult<ContainerPruneResponse> {
        Ok(ContainerPruneResponse {
            containers_deleted: Some(filters.values("label").map(str::to_owned).collect()),
            space_reclaimed: 7,
        })
    }
}
