//! What a container does and why it ended.

mod stats;
mod top;
mod why;

use std::path::PathBuf;

use async_trait::async_trait;
use havre_api_traits::{ApiResult, Monitor, StatsMode};
use havre_engine_types::{ContainerStats, TopResponse, WhyResponse};
use tokio::sync::mpsc;

use crate::container::Fixed;
use crate::engine::{Engine, Shared};

#[async_trait]
impl Monitor for Engine {
    async fn top(&self, id: &str, arguments: &str) -> ApiResult<TopResponse> {
        let container = self.shared.registry.find(id)?;
        let answer = top::top(&self.shared, &container, arguments).await?;
        self.shared.announce(&container.fixed(), "top", &[]);
        Ok(answer)
    }

    async fn stats(&self, id: &str, mode: StatsMode) -> ApiResult<mpsc::Receiver<ContainerStats>> {
        let container = self.shared.registry.find(id)?;
        stats::stats(&self.shared, container, mode).await
    }

    async fn why(&self, id: &str) -> ApiResult<WhyResponse> {
        let container = self.shared.registry.find(id)?;
        why::why(self, &container).await
    }
}

/// Where the container's cgroup is, below each hierarchy.
fn cgroup_path(shared: &Shared, fixed: &Fixed) -> PathBuf {
    crate::plan::cgroup_path(&fixed.host_config, &shared.facts, &fixed.id)
}
