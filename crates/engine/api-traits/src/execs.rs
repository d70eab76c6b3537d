//! Processes started beside a container's own.

use async_trait::async_trait;
use havre_engine_types::{ExecCreateRequest, ExecInspect};
use havre_types::ExecId;

use crate::{ApiResult, AttachSession};

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// How to start an exec process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecStart {
    /// `Tty` of the start request. Docker decides by the value given at creation; a differing one
    /// here is ignored.
    pub tty: bool,
    /// First size of the terminal.
    pub size: Option<TerminalSize>,
}

/// Exec processes. They are named by their full id.
#[async_trait]
pub trait Execs: Send + Sync {
    /// Registers a process in a running container.
    async fn create(&self, container: &str, request: ExecCreateRequest) -> ApiResult<ExecId>;

    /// Starts the process and returns once it runs.
    async fn start_detached(&self, id: &str, start: ExecStart) -> ApiResult<()>;

    /// Attaches to what the exec was created with, then starts the process: no output is lost.
    ///
    /// The edge asks `inspect` of the exec and of its container before, so that an exec that does not
    /// exist or a container that does not run become an HTTP status. Errors of this call are written
    /// into the hijacked stream, as Docker does, and the client learns the exit code (126, 127) from
    /// `inspect`.
    async fn start_attached(&self, id: &str, start: ExecStart) -> ApiResult<AttachSession>;

    /// The state of the process.
    async fn inspect(&self, id: &str) -> ApiResult<ExecInspect>;

    /// Sets the size of the terminal.
    async fn resize(&self, id: &str, size: TerminalSize) -> ApiResult<()>;

    /// Tells the engine that a client left by the detach keys (event `exec_detach`).
    async fn detached(&self, id: &str);
}
