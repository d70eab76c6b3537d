//! Processes beside a container's own: registered, started once, remembered until the container is gone.

mod record;
mod run;
mod store;

use std::sync::Arc;

use async_trait::async_trait;
use havre_api_traits::{ApiError, ApiResult, AttachSession, ExecStart, Execs, TerminalSize};
use havre_engine_types::{ExecCreateRequest, ExecInspect, ExecProcessConfig};
use havre_types::{ContainerId, ExecId};
use tokio::sync::watch;

pub(crate) use record::recover;
use store::State;
pub(crate) use store::{Exec, Store};

use crate::container::{Container, View};
use crate::engine::{Engine, Shared};
use crate::error::{internal, not_running};
use crate::plan::{self, Inputs, Modes};
use crate::state::Status;

#[async_trait]
impl Execs for Engine {
    async fn create(&self, name: &str, request: ExecCreateRequest) -> ApiResult<ExecId> {
        let container = self.shared.registry.find(name)?;
        usable(&container, name)?;
        if request.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(ApiError::invalid("No exec command specified"));
        }
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|err| internal("failed to make an id", &err))?;
        let id = ExecId::from_bytes(bytes);
        let exists = |container: &ContainerId| self.shared.registry.get(container).is_some();
        let forgotten = self.shared.execs.prune(exists);
        let (shared, owner) = (Arc::clone(&self.shared), Arc::clone(&container));
        let key = id.clone();
        let planned = tokio::task::spawn_blocking(move || {
            for exec in forgotten {
                record::remove(&shared.places.bundle(&exec.container), &exec.id);
            }
            plan_exec(&shared, &owner, key, request)
        });
        let exec = planned
            .await
            .map_err(|err| internal("failed to plan the process", &err))??;
        let exec = Arc::new(exec);
        let command = command_line(&exec.request);
        self.shared.execs.lock().insert(id.clone(), exec);
        self.announce(&container, &format!("exec_create: {command}"), &id, None);
        Ok(id)
    }

    async fn start_detached(&self, id: &str, start: ExecStart) -> ApiResult<()> {
        self.run_exec(id, start, false).await.map(|_| ())
    }

    async fn start_attached(&self, id: &str, start: ExecStart) -> ApiResult<AttachSession> {
        let session = self.run_exec(id, start, true).await?;
        session.ok_or_else(|| ApiError::internal("an attached start made no session"))
    }

    async fn inspect(&self, id: &str) -> ApiResult<ExecInspect> {
        let exec = self.shared.execs.find(id)?;
        let state = *exec.state.borrow();
        let request = &exec.request;
        let mut words = request.cmd.clone().unwrap_or_default().into_iter();
        Ok(ExecInspect {
            id: exec.id.to_string(),
            running: state.running,
            exit_code: state.exit_code,
            process_config: ExecProcessConfig {
                tty: request.tty,
                entrypoint: words.next().unwrap_or_default(),
                arguments: words.collect(),
                privileged: Some(request.privileged),
                user: request.user.clone(),
            },
            open_stdin: request.attach_stdin,
            open_stderr: request.attach_stderr,
            open_stdout: request.attach_stdout,
            can_remove: false,
            container_id: exec.container.to_string(),
            detach_keys: request.detach_keys.clone(),
            pid: state.pid.into(),
        })
    }

    async fn resize(&self, id: &str, size: TerminalSize) -> ApiResult<()> {
        let exec = self.shared.execs.find(id)?;
        let (_, shim) = self.shim_of(&exec)?;
        if !exec.state.borrow().running {
            return Err(ApiError::conflict(format!(
                "exec process {id} is not running"
            )));
        }
        shim.resize(exec.id.as_str(), size.height, size.width).await
    }

    async fn detached(&self, id: &str) {
        if let Ok(exec) = self.shared.execs.find(id)
            && let Some(container) = self.shared.registry.get(&exec.container)
        {
            self.announce(&container, "exec_detach", &exec.id, None);
        }
    }
}

/// Program and arguments as Docker's events show them: with a blank even before no arguments.
fn command_line(request: &ExecCreateRequest) -> String {
    let mut words = request.cmd.clone().unwrap_or_default().into_iter();
    let program = words.next().unwrap_or_default();
    format!("{program} {}", words.collect::<Vec<_>>().join(" "))
}

/// A container that takes exec processes; `name` is what the answer calls it.
fn usable(container: &Container, name: &str) -> ApiResult<Arc<View>> {
    let view = container.now();
    match view.state.status {
        Status::Running => Ok(view),
        Status::Restarting => Err(crate::error::is_restarting(container.id().as_str())),
        Status::Paused => Err(ApiError::conflict(format!(
            "Container {name} is paused, unpause the container before exec"
        ))),
        Status::Created | Status::Starting | Status::Exited | Status::Removing | Status::Dead => {
            Err(not_running(container.id().as_str()))
        }
    }
}

/// Takes up the exec processes of a container that runs on from an earlier engine.
pub(crate) fn enter(shared: &Arc<Shared>, container: &Arc<Container>, found: Vec<Arc<Exec>>) {
    let engine = Engine {
        shared: Arc::clone(shared),
    };
    let shim = container.now().shim.clone();
    for exec in found {
        shared
            .execs
            .lock()
            .insert(exec.id.clone(), Arc::clone(&exec));
        let running = exec.state.borrow().running;
        if let Some(shim) = shim.as_ref().filter(|_| running) {
            engine.watch_exec(&exec, container, shim);
        }
    }
}

fn plan_exec(
    shared: &Shared,
    container: &Container,
    id: ExecId,
    request: ExecCreateRequest,
) -> ApiResult<Exec> {
    let exec = Exec {
        id,
        container: container.id().clone(),
        process: process(shared, container, &request)?,
        request,
        state: watch::Sender::new(State::default()),
    };
    record::write(&shared.places.bundle(container.id()), &exec)
        .map_err(|err| internal("failed to write the exec down", &err))?;
    Ok(exec)
}

/// The process as JSON, planned with the accounts that the container has now.
pub(crate) fn process(
    shared: &Shared,
    container: &Container,
    request: &ExecCreateRequest,
) -> ApiResult<Vec<u8>> {
    let fixed = &*container.fixed();
    let rootfs = crate::container::root_mounts(shared, fixed)?;
    let accounts = crate::container::accounts(&rootfs)?;
    let user = if request.user.is_empty() {
        &fixed.config.user
    } else {
        &request.user
    };
    let extra = fixed.host_config.group_add.as_deref().unwrap_or_default();
    let identity = plan::resolve_user(user, extra, &accounts)?;
    let inputs = Inputs {
        id: &fixed.id,
        config: &fixed.config,
        host: &fixed.host_config,
        facts: &shared.facts,
        filters: &shared.filters,
        identity: &identity,
        devices: &plan::Devices::default(),
        modes: &Modes::parse(&fixed.host_config)?,
        data: &shared.places.data(&fixed.id),
    };
    let process = plan::exec(inputs, request)?;
    serde_json::to_vec(&process).map_err(|err| internal("failed to write the process", &err))
}
