//! The engine as a whole.

use async_trait::async_trait;
use havre_engine_types::{Event, Filters, SystemInfo, SystemVersion};
use havre_types::Timestamp;
use tokio::sync::mpsc;

use crate::ApiResult;

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
}
