//! The engine as a whole.

use async_trait::async_trait;
use havre_engine_types::{AuthResponse, DiskUsage, Event, Filters, SystemInfo, SystemVersion};
use havre_types::Timestamp;
use tokio::sync::mpsc;

use crate::{ApiResult, RegistryAuth};

/// Which events to send.
#[derive(Debug, Clone, Default)]
pub struct EventsQuery {
    /// Past events from this moment on, before the live ones. None: live only.
    pub since: Option<Timestamp>,
    /// The stream ends at this moment; a past one sends no live events at all.
    pub until: Option<Timestamp>,
    /// Docker's filters (`type`, `event`, `container`, `image`, `label`, …).
    pub filters: Filters,
}

/// Of which objects the disk usage is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent choices, as the request has them"
)]
pub struct UsageQuery {
    /// Containers.
    pub containers: bool,
    /// Images.
    pub images: bool,
    /// Volumes.
    pub volumes: bool,
    /// What builds keep.
    pub build_cache: bool,
}

/// Information, version, events.
#[async_trait]
pub trait System: Send + Sync {
    /// What `info` shows.
    async fn info(&self) -> ApiResult<SystemInfo>;

    /// What `version` shows. The edge sets the API versions itself.
    async fn version(&self) -> ApiResult<SystemVersion>;

    /// Subscribes. The subscription is in force when this returns: an event caused later cannot be
    /// missed. The stream ends at `until`, at shutdown, or when the receiver is dropped.
    async fn events(&self, query: EventsQuery) -> ApiResult<mpsc::Receiver<Event>>;

    /// What the engine's objects take on the disk, with each object.
    async fn disk_usage(&self, query: UsageQuery) -> ApiResult<DiskUsage>;

    /// Asks a registry whether it accepts credentials.
    async fn login(&self, auth: RegistryAuth) -> ApiResult<AuthResponse>;
}
