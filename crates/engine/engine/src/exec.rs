//! Processes beside a container's own: registered, started once, remembered until the container is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use havre_api_traits::{
    ApiError, ApiResult, AttachSession, ExecStart, Execs, StdinEof, TerminalSize,
};
use havre_engine_types::{ExecCreateRequest, ExecInspect, ExecProcessConfig};
use havre_shim_proto::attach::AttachRequest;
use havre_types::{ContainerId, ErrorKind, ExecId};
use tokio::sync::watch;
use tokio::time::Instant;

mod record;

pub(crate) use record::recover;

use crate::container::{Container, View};
use crate::engine::{Engine, Shared};
use crate::error::{internal, not_running};
use crate::plan::{self, Inputs, Modes};
use crate::shim::Shim;
use crate::state::Status;

/// How long a shim may take to start one.
const START_DEADLINE: Duration = Duration::from_secs(8);
/// How long the exit code of one can be asked for; Docker keeps it five to ten minutes.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// All exec processes of this run of the engine.
#[derive(Debug, Default)]
pub(crate) struct Store {
    by_id: Mutex<HashMap<ExecId, Arc<Exec>>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Exec {
    id: ExecId,
    container: ContainerId,
    request: ExecCreateRequest,
    /// The process of the specification as JSON, planned when the exec was made: who asks for a user
    /// that is not there learns it then, as with Docker.
    process: Vec<u8>,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    taken: bool,
    running: bool,
    pid: u32,
    exit_code: Option<i64>,
    ended: Option<Instant>,
}

impl State {
    fn end(&mut self, code: i64) {
        self.running = false;
        self.exit_code = Some(code);
        self.ended = Some(Instant::now());
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, HashMap<ExecId, Arc<Exec>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, text: &str) -> ApiResult<Arc<Exec>> {
        let missing = || ApiError::not_found(format!("No such exec instance: {text}"));
        let id = ExecId::parse(text).map_err(|_not_an_id| missing())?;
        self.lock().get(&id).cloned().ok_or_else(missing)
    }

    /// The running ones of a container, for its inspect.
    pub(crate) fn ids_of(&self, container: &ContainerId) -> Option<Vec<String>> {
        let ids: Vec<String> = self
            .lock()
            .values()
            .filter(|exec| exec.container == *container && exec.state.borrow().exit_code.is_none())
            .map(|exec| exec.id.to_string())
            .collect();
        (!ids.is_empty()).then_some(ids)
    }

    /// Forgets the processes of containers that are gone, and those that ended long ago. Answers whom it forgot.
    fn prune(&self, exists: impl Fn(&ContainerId) -> bool) -> Vec<Arc<Exec>> {
        let mut map = self.lock();
        let forgotten = map.extract_if(|_, exec| {
            let ended = exec.state.borrow().ended;
            !(ended.is_none_or(|at| at.elapsed() < REMEMBERED) && exists(&exec.container))
        });
        forgotten.map(|(_, exec)| exec).collect()
    }
}

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

impl Engine {
    fn shim_of(&self, exec: &Exec) -> ApiResult<(Arc<Container>, Arc<Shim>)> {
        let container = self
            .shared
            .registry
            .get(&exec.container)
            .ok_or_else(|| crate::error::no_such_container(exec.container.as_str()))?;
        let view = usable(&container, container.id().as_str())?;
        let shim = view
            .shim
            .clone()
            .ok_or_else(|| not_running(exec.container.as_str()))?;
        Ok((container, shim))
    }

    async fn run_exec(
        &self,
        id: &str,
        start: ExecStart,
        attach: bool,
    ) -> ApiResult<Option<AttachSession>> {
        let exec = self.shared.execs.find(id)?;
        let (container, shim) = self.shim_of(&exec)?;
        let first = exec
            .state
            .send_if_modified(|state| !std::mem::replace(&mut state.taken, true));
        if !first {
            let ended = exec.state.borrow().exit_code.is_some();
            let how = if ended {
                "has already run"
            } else {
                "is already running"
            };
            return Err(ApiError::conflict(format!(
                "Error: Exec command {id} {how}"
            )));
        }
        let launch = self.launch_exec(&exec, &container, &shim, start, attach);
        let run = tokio::time::timeout(START_DEADLINE, launch).await;
        match run.unwrap_or_else(|_elapsed| Err(unanswered(&container))) {
            Ok(session) => Ok(session),
            Err(err) => {
                let code = match crate::container::exit_code_of(&err.message) {
                    128 => 126,
                    known => known,
                };
                exec.state.send_modify(|state| state.end(code));
                let now = container.now().shim.clone();
                let same_run = now.is_some_and(|now| Arc::ptr_eq(&now, &shim));
                self.clear_away(exec, shim);
                if !same_run || !container.is_alive() {
                    return Err(not_running(container.id().as_str()));
                }
                Err(ApiError::new(
                    err.kind,
                    crate::error::exec_failed(&err.message),
                ))
            }
        }
    }

    /// What is left of a start that failed; the shim may never have known it.
    fn clear_away(&self, exec: Arc<Exec>, shim: Arc<Shim>) {
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move {
            // A shim that answers late may have started it.
            shim.kill(exec.id.as_str(), crate::signal::KILL).await.ok();
            shim.delete(exec.id.as_str()).await.ok();
            write_down(&shared, &exec).await;
        });
    }

    async fn launch_exec(
        &self,
        exec: &Arc<Exec>,
        container: &Arc<Container>,
        shim: &Arc<Shim>,
        start: ExecStart,
        attach: bool,
    ) -> ApiResult<Option<AttachSession>> {
        let request = &exec.request;
        shim.exec(exec.id.as_str(), request.tty, exec.process.clone())
            .await?;
        let session = if attach {
            Some(self.attach_exec(exec, shim).await?)
        } else {
            None
        };
        let pid = shim.start(exec.id.as_str()).await?;
        exec.state.send_modify(|state| {
            state.running = true;
            state.pid = pid;
        });
        self.announce(
            container,
            &format!("exec_start: {}", command_line(request)),
            &exec.id,
            None,
        );
        let size = start.size.or_else(|| first_size(request));
        if let Some(size) = size.filter(|_| request.tty) {
            // The process may be gone already; its size matters to nobody then.
            shim.resize(exec.id.as_str(), size.height, size.width)
                .await
                .ok();
        }
        self.watch_exec(exec, container, shim);
        Ok(session)
    }

    async fn attach_exec(&self, exec: &Arc<Exec>, shim: &Shim) -> ApiResult<AttachSession> {
        let request = &exec.request;
        let wanted = AttachRequest {
            exec_id: exec.id.to_string(),
            stdin: request.attach_stdin,
            stdout: request.attach_stdout,
            stderr: request.attach_stderr,
        };
        let eof = if request.tty {
            StdinEof::Detach
        } else {
            StdinEof::CloseStdin
        };
        let keys = Some(request.detach_keys.clone()).filter(|keys| !keys.is_empty());
        let kind = crate::attach::Kind {
            tty: request.tty,
            stdin_eof: eof,
            detach_keys: keys,
        };
        let (session, pending) = crate::attach::session(&self.shared, wanted, kind);
        let mut state = exec.state.subscribe();
        let ended = async move {
            // The exit code is asked for as soon as the output ends. A dropped exec has no code to wait for.
            state.wait_for(|state| state.exit_code.is_some()).await.ok();
        };
        pending.connect_until(shim, ended).await?;
        Ok(session)
    }

    fn watch_exec(&self, exec: &Arc<Exec>, container: &Arc<Container>, shim: &Arc<Shim>) {
        let engine = Self {
            shared: Arc::clone(&self.shared),
        };
        let (exec, container, shim) = (Arc::clone(exec), Arc::clone(container), Arc::clone(shim));
        let stopping = self.shared.stopping.clone();
        self.shared.tasks.spawn(async move {
            let code = tokio::select! {
                code = shim.exec_exit(exec.id.as_str()) => code,
                () = stopping.cancelled() => return,
            };
            exec.state.send_modify(|state| state.end(code));
            write_down(&engine.shared, &exec).await;
            engine.announce(&container, "exec_die", &exec.id, Some(code));
            // With its container everything of it is gone.
            shim.delete(exec.id.as_str()).await.ok();
        });
    }

    fn announce(&self, container: &Container, action: &str, id: &ExecId, code: Option<i64>) {
        let code = code.map(|code| code.to_string());
        let mut attributes = vec![("execID", id.as_str())];
        if let Some(code) = &code {
            attributes.push(("exitCode", code.as_str()));
        }
        self.shared
            .announce(&container.fixed(), action, &attributes);
    }
}

/// Program and arguments as Docker's events show them: with a blank even before no arguments.
fn command_line(request: &ExecCreateRequest) -> String {
    let mut words = request.cmd.clone().unwrap_or_default().into_iter();
    let program = words.next().unwrap_or_default();
    format!("{program} {}", words.collect::<Vec<_>>().join(" "))
}

fn first_size(request: &ExecCreateRequest) -> Option<TerminalSize> {
    let [height, width] = request.console_size?;
    Some(TerminalSize {
        height: height.try_into().ok()?,
        width: width.try_into().ok()?,
    })
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

fn unanswered(container: &Container) -> ApiError {
    ApiError::new(
        ErrorKind::DeadlineExceeded,
        format!("the shim of container {} does not answer", container.id()),
    )
}

/// Records how one ended. Before the shim forgets it.
async fn write_down(shared: &Arc<Shared>, exec: &Arc<Exec>) {
    let (bundle, exec) = (shared.places.bundle(&exec.container), Arc::clone(exec));
    let written = tokio::task::spawn_blocking(move || record::write(&bundle, &exec));
    if let Ok(Err(err)) = written.await {
        // With its container, its record is gone too.
        tracing::debug!(error = %err, "the end of an exec is not written down");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_ended_is_forgotten_in_time() {
        let store = Store::default();
        let container = ContainerId::from_bytes([1; 32]);
        let ids = [ExecId::from_bytes([2; 32]), ExecId::from_bytes([3; 32])];
        for id in &ids {
            let exec = Exec {
                id: id.clone(),
                container: container.clone(),
                request: ExecCreateRequest::default(),
                process: Vec::new(),
                state: watch::Sender::new(State::default()),
            };
            store.lock().insert(id.clone(), Arc::new(exec));
        }
        store
            .find(ids[0].as_str())
            .unwrap()
            .state
            .send_modify(|state| state.end(0));
        store.prune(|_| true);
        assert_eq!(
            store.lock().len(),
            2,
            "the exit code can still be asked for"
        );
        tokio::time::advance(REMEMBERED).await;
        store.prune(|_| true);
        assert!(store.find(ids[0].as_str()).is_err() && store.find(ids[1].as_str()).is_ok());
        store.prune(|_| false);
        assert!(store.lock().is_empty());
    }
}
