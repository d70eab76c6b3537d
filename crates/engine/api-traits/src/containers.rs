//! Containers: their life, their output, what is known of them.

use std::pin::Pin;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use havre_engine_types::{
    ContainerCreateRequest, ContainerCreateResponse, ContainerInspect, ContainerSummary, Filters,
    WaitResponse,
};
use havre_types::Timestamp;
use tokio::sync::mpsc;

use crate::{ApiError, ApiResult, AttachSession, OutputStream, TerminalSize};

/// How to stop or restart. `None` means what the container was created with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Name or number of the first signal.
    pub signal: Option<String>,
    /// Seconds before SIGKILL; negative waits for ever.
    pub timeout: Option<i64>,
}

/// How to remove a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveContainer {
    /// Kill it first when it runs.
    pub force: bool,
    /// Remove its anonymous volumes.
    pub volumes: bool,
    /// Remove only a link of this name.
    pub link: bool,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run; at once when it does not run now.
    #[default]
    NotRunning,
    /// Its next exit.
    NextExit,
    /// It is removed.
    Removed,
}

impl FromStr for WaitCondition {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(ApiError::invalid(format!("invalid condition: {other:?}"))),
        }
    }
}

/// The answer to a wait that is already registered. Dropping it gives up.
pub type WaitFuture = Pin<Box<dyn Future<Output = ApiResult<WaitResponse>> + Send>>;

/// What a client attaches to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Send input.
    pub stdin: bool,
    /// Receive standard output.
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
    /// Replay the log first.
    pub logs: bool,
    /// Follow what comes; without it only the replay is sent.
    pub stream: bool,
}

/// Which part of a log to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on until the container ends.
    pub follow: bool,
    /// Nothing before this moment.
    pub since: Option<Timestamp>,
    /// Nothing after this moment.
    pub until: Option<Timestamp>,
    /// Only the last so many lines. None: all.
    pub tail: Option<u64>,
}

/// One line, or one piece of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it came from.
    pub stream: OutputStream,
    /// When it was read.
    pub timestamp: Timestamp,
    /// The bytes, with the newline when the line is complete.
    pub line: Bytes,
    /// Labels and environment that the logging options add (`--details`).
    pub attrs: Vec<(String, String)>,
}

/// A log being read.
#[derive(Debug)]
pub struct LogSession {
    /// Whether the container has a terminal: decides between raw and framed output.
    pub tty: bool,
    /// Entries in order. An `Err` is the last item. Dropping the receiver ends the reading.
    pub entries: mpsc::Receiver<ApiResult<LogEntry>>,
}

/// Containers.
#[async_trait]
pub trait Containers: Send + Sync {
    /// Makes a container. Without a name it gets one. `platform` is empty for the image's own.
    async fn create(
        &self,
        name: Option<String>,
        platform: String,
        request: ContainerCreateRequest,
    ) -> ApiResult<ContainerCreateResponse>;

    /// Starts it; `NotModified` when it runs.
    async fn start(&self, id: &str) -> ApiResult<()>;

    /// Stops it; `NotModified` when it does not run.
    async fn stop(&self, id: &str, how: StopOptions) -> ApiResult<()>;

    /// Stops and starts it.
    async fn restart(&self, id: &str, how: StopOptions) -> ApiResult<()>;

    /// Sends a signal, by name or number; None is SIGKILL.
    async fn kill(&self, id: &str, signal: Option<String>) -> ApiResult<()>;

    /// Registers a wait. It is in force when this returns, so that what the caller does next cannot
    /// be missed.
    async fn wait(&self, id: &str, condition: WaitCondition) -> ApiResult<WaitFuture>;

    /// Attaches; possible before the start.
    async fn attach(&self, id: &str, options: AttachOptions) -> ApiResult<AttachSession>;

    /// Tells the engine that a client left by the detach keys (event `detach`).
    async fn detached(&self, id: &str);

    /// Sets the size of the terminal.
    async fn resize(&self, id: &str, size: TerminalSize) -> ApiResult<()>;

    /// Reads the log.
    async fn logs(&self, id: &str, options: LogOptions) -> ApiResult<LogSession>;

    /// All containers that pass the filters, newest first; only running ones without `all`.
    /// `limit` (above zero) implies `all`. `size` asks for the sizes too.
    async fn list(&self, query: ContainerList) -> ApiResult<Vec<ContainerSummary>>;

    /// Everything about one container.
    async fn inspect(&self, id: &str, size: bool) -> ApiResult<ContainerInspect>;

    /// Removes it.
    async fn remove(&self, id: &str, how: RemoveContainer) -> ApiResult<()>;
}

/// Which containers to list.
#[derive(Debug, Clone, Default)]
pub struct ContainerList {
    /// Stopped ones too.
    pub all: bool,
    /// At most so many; zero or less for all.
    pub limit: i64,
    /// With sizes.
    pub size: bool,
    /// Docker's filters (`ancestor`, `name`, `status`, `label`, …).
    pub filters: Filters,
}
