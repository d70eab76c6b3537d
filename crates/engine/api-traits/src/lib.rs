//! What the outside may ask of the engine: traits used through `dyn`, and the few types that are
//! neither wire types nor the engine's own. It must never know HTTP, and never do any work itself.
//!
//! Rules that hold for every method:
//! - A container or image is named as the user wrote it (name, id, id prefix, reference); the engine
//!   resolves it and answers with Docker's text when it cannot.
//! - Dropping a future or a receiver means that the caller left. What only observes (events, logs,
//!   attach, wait) and what only fetches (pull) then ends; what changes a container runs to its end,
//!   because the edge never drops those futures.

mod archive;
mod attach;
mod checkpoints;
mod containers;
mod error;
mod execs;
mod images;
mod lifecycle;
mod monitor;
mod networks;
mod stream;
mod system;

use std::sync::Arc;

pub use archive::{Archive, CommitRequest, ExtractOptions};
pub use attach::{AttachSession, Input, Output, OutputStream, StdinEof};
pub use checkpoints::{CheckpointAt, Checkpoints};
pub use containers::{
    AttachOptions, ContainerList, Containers, LogEntry, LogOptions, LogSession, RemoveContainer,
    StopOptions, WaitCondition, WaitFuture,
};
pub use error::ApiError;
pub use execs::{ExecStart, Execs, TerminalSize};
pub use images::{Images, ImportRequest, LoadRequest, PullRequest, RegistryAuth, RemoveImage};
pub use lifecycle::Lifecycle;
pub use monitor::{Monitor, StatsMode};
pub use networks::{InspectNetwork, Networks};
pub use stream::{Download, Progress, Upload};
pub use system::{EventsQuery, System, UsageQuery};

/// The result of every call.
pub type ApiResult<T> = Result<T, ApiError>;

/// All of an engine: one `Arc` for each trait, usually the same object each time.
#[derive(Clone)]
pub struct Api {
    /// Information, version and events.
    pub system: Arc<dyn System>,
    /// Images.
    pub images: Arc<dyn Images>,
    /// Containers.
    pub containers: Arc<dyn Containers>,
    /// Processes started beside a container's own.
    pub execs: Arc<dyn Execs>,
    /// Changes to containers.
    pub lifecycle: Arc<dyn Lifecycle>,
    /// Observations of containers.
    pub monitor: Arc<dyn Monitor>,
    /// Files of containers.
    pub archive: Arc<dyn Archive>,
    /// Networks.
    pub networks: Arc<dyn Networks>,
    /// Checkpoints of containers.
    pub checkpoints: Arc<dyn Checkpoints>,
}

impl Api {
    /// Makes the set from one object that implements every trait.
    pub fn new<E>(engine: Arc<E>) -> Self
    where
        E: System
            + Images
            + Containers
            + Execs
            + Lifecycle
            + Monitor
            + Archive
            + Networks
            + Checkpoints
            + 'static,
    {
        Self {
            system: Arc::<E>::clone(&engine),
            images: Arc::<E>::clone(&engine),
            containers: Arc::<E>::clone(&engine),
            execs: Arc::<E>::clone(&engine),
            lifecycle: Arc::<E>::clone(&engine),
            monitor: Arc::<E>::clone(&engine),
            archive: Arc::<E>::clone(&engine),
            networks: Arc::<E>::clone(&engine),
            checkpoints: engine,
        }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}
