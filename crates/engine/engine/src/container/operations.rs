//! What the API asks of containers. Waiting happens here, in the caller's task, never in an actor.

use std::sync::Arc;

use async_trait::async_trait;
use havre_api_traits::{
    ApiError, ApiResult, AttachOptions, AttachSession, ContainerList, Containers, LogOptions,
    LogSession, RemoveContainer, StdinEof, StopOptions, TerminalSize, WaitCondition, WaitFuture,
};
use havre_engine_types::{
    ContainerCreateRequest, ContainerCreateResponse, ContainerInspect, ContainerSummary,
    WaitExitError, WaitResponse,
};
use havre_shim_proto::attach::AttachRequest;
use havre_types::ErrorKind;
use tokio::sync::oneshot;

use super::actor::{AfterEnd, Command};
use super::ending::{self, kill, stop};
use super::record::State;
use super::registry::{Container, View};
use super::{inspect, list, logs};
use crate::engine::{Engine, Shared};
use crate::error::not_running;
use crate::images::blocking;
use crate::signal;
use crate::state::Status;

#[async_trait]
impl Containers for Engine {
    async fn create(
        &self,
        name: Option<String>,
        platform: String,
        request: ContainerCreateRequest,
    ) -> ApiResult<ContainerCreateResponse> {
        super::create::create(&self.shared, name, platform, request).await
    }

    async fn start(&self, id: &str) -> ApiResult<()> {
        start(&*self.shared.registry.find(id)?).await
    }

    async fn stop(&self, id: &str, how: StopOptions) -> ApiResult<()> {
        let container = self.shared.registry.find(id)?;
        if !settled(&container).await.state.status.is_running() {
            return Err(ApiError::not_modified());
        }
        stop(&self.shared, &container, &how, AfterEnd::AsConfigured).await
    }

    async fn restart(&self, id: &str, how: StopOptions) -> ApiResult<()> {
        let container = self.shared.registry.find(id)?;
        if settled(&container).await.state.status.is_running() {
            stop(&self.shared, &container, &how, AfterEnd::Keep).await?;
        }
        match start(&container).await {
            Err(err) if err != ApiError::not_modified() => return Err(err),
            _ => {}
        }
        self.shared.announce(&container.fixed(), "restart", &[]);
        Ok(())
    }

    async fn kill(&self, id: &str, signal: Option<String>) -> ApiResult<()> {
        let number = match signal.as_deref() {
            None | Some("") => signal::KILL,
            Some(text) => signal::parse(text)?,
        };
        let container = self.shared.registry.find(id)?;
        kill(&self.shared, &container, number).await
    }

    async fn wait(&self, id: &str, condition: WaitCondition) -> ApiResult<WaitFuture> {
        let container = self.shared.registry.find(id)?;
        Ok(wait(&container, condition))
    }

    async fn attach(&self, id: &str, options: AttachOptions) -> ApiResult<AttachSession> {
        let container = self.shared.registry.find(id)?;
        attach(&self.shared, &container, id, options).await
    }

    async fn detached(&self, id: &str) {
        if let Ok(container) = self.shared.registry.find(id) {
            self.shared.announce(&container.fixed(), "detach", &[]);
        }
    }

    async fn resize(&self, id: &str, size: TerminalSize) -> ApiResult<()> {
        let container = self.shared.registry.find(id)?;
        let view = container.now();
        let shim = view
            .shim
            .as_ref()
            .ok_or_else(|| not_running(container.id().as_str()))?;
        shim.resize("", size.height, size.width).await?;
        let (height, width) = (size.height.to_string(), size.width.to_string());
        let attributes = [("height", height.as_str()), ("width", width.as_str())];
        self.shared
            .announce(&container.fixed(), "resize", &attributes);
        Ok(())
    }

    async fn logs(&self, id: &str, options: LogOptions) -> ApiResult<LogSession> {
        let container = self.shared.registry.find(id)?;
        logs::open(&self.shared, &container, options).await
    }

    async fn list(&self, query: ContainerList) -> ApiResult<Vec<ContainerSummary>> {
        if !query.size {
            return list::list(&self.shared, &query);
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || list::list(&shared, &query)).await
    }

    async fn inspect(&self, id: &str, size: bool) -> ApiResult<ContainerInspect> {
        let container = self.shared.registry.find(id)?;
        if !size {
            return inspect::inspect(&self.shared, &container, size);
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || inspect::inspect(&shared, &container, size)).await
    }

    async fn remove(&self, id: &str, how: RemoveContainer) -> ApiResult<()> {
        let container = self.shared.registry.find(id)?;
        ending::remove(&self.shared, &container, id, how).await
    }
}

pub(crate) fn send(container: &Container, command: Command) -> ApiResult<()> {
    container
        .commands
        .send(command)
        .map_err(|_closed| gone(container))
}

/// Nobody answers for the container: it was removed, or the engine stops.
pub(super) fn gone(container: &Container) -> ApiError {
    if container.now().state.removed {
        crate::error::no_such_container(container.id().as_str())
    } else {
        ApiError::new(ErrorKind::Unavailable, "the engine is stopping")
    }
}

/// The container when no start is under way: who ends it must not miss a process that is just being made.
pub(super) async fn settled(container: &Container) -> Arc<View> {
    let mut view = container.view.clone();
    let seen = view
        .wait_for(|view| view.state.status != Status::Starting)
        .await;
    // A closed channel is a container that is gone, or an engine that stops.
    seen.map_or_else(|_closed| container.now(), |view| Arc::clone(&view))
}

async fn start(container: &Container) -> ApiResult<()> {
    let (reply, answer) = oneshot::channel();
    send(container, Command::Start { from: None, reply })?;
    answer.await.unwrap_or_else(|_gone| Err(gone(container)))
}

/// Registers a wait: the channel remembers what was seen from here on.
fn wait(container: &Arc<Container>, condition: WaitCondition) -> WaitFuture {
    let (container, mut view) = (Arc::clone(container), container.view.clone());
    let seen_exits = view.borrow_and_update().state.exits;
    Box::pin(async move {
        let reached = view.wait_for(|view| reached_by(condition, &view.state, seen_exits));
        let seen = reached.await.map(|view| view.state.clone()).ok();
        // A closed channel means that the actor is gone: removed, or the engine stops.
        let state = seen.unwrap_or_else(|| view.borrow().state.clone());
        if !reached_by(condition, &state, seen_exits) && !state.removed {
            return Err(gone(&container));
        }
        // Who waits for the removal has what it waited for, whatever became of the start.
        let failed = match condition {
            WaitCondition::Removed => !state.removed,
            _ => state.started_at.is_zero() && !state.error.is_empty(),
        };
        let error = failed.then(|| WaitExitError {
            message: state.error.clone(),
        });
        Ok(WaitResponse {
            error,
            status_code: state.exit_code,
        })
    })
}

fn reached_by(condition: WaitCondition, state: &State, seen_exits: u64) -> bool {
    match condition {
        WaitCondition::NotRunning => {
            let runs = state.status == Status::Starting || state.status.is_running();
            !runs || state.exits > seen_exits
        }
        WaitCondition::NextExit => state.exits > seen_exits || state.removed,
        // Nobody tries a removal again that failed.
        WaitCondition::Removed => state.removed || state.status == Status::Dead,
    }
}

async fn attach(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    name: &str,
    options: AttachOptions,
) -> ApiResult<AttachSession> {
    let fixed = container.fixed();
    let config = &fixed.config;
    let refused = match container.now().state.status {
        Status::Paused => Some("paused, unpause the container before attach"),
        Status::Restarting => Some("restarting, wait until the container is running"),
        _ => None,
    };
    if let Some(why) = refused {
        return Err(ApiError::conflict(format!("container {name} is {why}")));
    }
    let request = AttachRequest {
        exec_id: String::new(),
        stdin: options.stdin && options.stream && config.open_stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    };
    let stdin_eof = if config.stdin_once && !config.tty {
        StdinEof::CloseStdin
    } else {
        StdinEof::Detach
    };
    let kind = crate::attach::Kind {
        tty: config.tty,
        stdin_eof,
        detach_keys: None,
    };
    let (session, pending) = crate::attach::session(shared, request, kind);
    shared.announce(&container.fixed(), "attach", &[]);
    let pending = if options.logs {
        let replay = LogOptions {
            stdout: options.stdout,
            stderr: options.stderr,
            ..LogOptions::default()
        };
        let entries = logs::open(shared, container, replay).await?.entries;
        let (tasks, shared, container) = (
            shared.tasks.clone(),
            Arc::clone(shared),
            Arc::clone(container),
        );
        tasks.spawn(async move {
            logs::replay(entries, pending.output()).await;
            if options.stream {
                connect_or_wait(&shared, &container, pending).await;
            }
        });
        None
    } else {
        options.stream.then_some(pending)
    };
    if let Some(pending) = pending {
        connect_or_wait(shared, container, pending).await;
    }
    Ok(session)
}

/// Attaches to the running process, or leaves the client to the next start.
async fn connect_or_wait(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    pending: crate::attach::PendingAttach,
) {
    let view = container.now();
    if let Some(shim) = &view.shim {
        if let Err(err) = pending.connect(shim).await {
            tracing::debug!(container = %container.id(), error = %err.message, "not attached");
        }
        return;
    }
    if view.state.removed || shared.stopping.is_cancelled() {
        return;
    }
    container.wait(pending);
    // A start that came between takes those who wait after its process is shown, so one of both sees the client.
    if let Some(shim) = &container.now().shim {
        container.connect_waiting(shim).await;
    }
}
