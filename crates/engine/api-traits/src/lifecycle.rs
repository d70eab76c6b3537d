//! What changes a container that exists: pause, name, resources, and the removal of all that are stopped.

use async_trait::async_trait;
use havre_engine_types::{ContainerPruneResponse, Filters, HostConfig};

use crate::ApiResult;

/// Changes to containers.
#[async_trait]
pub trait Lifecycle: Send + Sync {
    /// Freezes every process of a running container.
    async fn pause(&self, id: &str) -> ApiResult<()>;

    /// Lets a paused container go on.
    async fn unpause(&self, id: &str) -> ApiResult<()>;

    /// Gives it another name. The old one is free when this returns.
    async fn rename(&self, id: &str, name: &str) -> ApiResult<()>;

    /// Changes resources and restart policy to what `wanted` sets of them; the rest of it is ignored. A running
    /// container has its new limits when this returns. Answers with what the user should know.
    async fn update(&self, id: &str, wanted: HostConfig) -> ApiResult<Vec<String>>;

    /// Removes the containers that do not run and pass the filters (`until`, `label`, `label!`).
    async fn prune(&self, filters: Filters) -> ApiResult<ContainerPruneResponse>;
}
