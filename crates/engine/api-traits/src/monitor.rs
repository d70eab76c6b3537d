//! What a container does and why it ended: its processes, its use of resources, the diagnosis.

use async_trait::async_trait;
use havre_engine_types::{ContainerStats, TopResponse, WhyResponse};
use tokio::sync::mpsc;

use crate::ApiResult;

/// How statistics are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatsMode {
    /// One sample each second until the caller leaves or the container is removed.
    Stream,
    /// One sample that carries the one of a second before.
    Pair,
    /// One sample, at once.
    Single,
}

/// Observations of containers.
#[async_trait]
pub trait Monitor: Send + Sync {
    /// The processes of a running container, in the columns that `arguments` of `ps` ask for; empty is `-ef`.
    async fn top(&self, id: &str, arguments: &str) -> ApiResult<TopResponse>;

    /// Samples of a container's use of resources; one that does not run has zeros. Dropping the receiver ends them.
    async fn stats(&self, id: &str, mode: StatsMode) -> ApiResult<mpsc::Receiver<ContainerStats>>;

    /// Why a container ended, will not start, or is not well.
    async fn why(&self, id: &str) -> ApiResult<WhyResponse>;
}
