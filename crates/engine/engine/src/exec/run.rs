//! One exec process from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use havre_api_traits::{ApiError, ApiResult, AttachSession, ExecStart, StdinEof, TerminalSize};
use havre_engine_types::ExecCreateRequest;
use havre_shim_proto::attach::AttachRequest;
use havre_types::{ErrorKind, ExecId};

use super::{Exec, command_line, record, usable};
use crate::container::Container;
use crate::engine::{Engine, Shared};
use crate::error::not_running;
use crate::shim::Shim;

/// How long a shim may take to start one.
const START_DEADLINE: Duration = Duration::from_secs(8);

impl Engine {
    pub(super) fn shim_of(&self, exec: &Exec) -> ApiResult<(Arc<Container>, Arc<Shim>)> {
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

    pub(super) async fn run_exec(
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

    pub(super) fn watch_exec(
        &self,
        exec: &Arc<Exec>,
        container: &Arc<Container>,
        shim: &Arc<Shim>,
    ) {
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

    pub(super) fn announce(
        &self,
        container: &Container,
        action: &str,
        id: &ExecId,
        code: Option<i64>,
    ) {
        let code = code.map(|code| code.to_string());
        let mut attributes = vec![("execID", id.as_str())];
        if let Some(code) = &code {
            attributes.push(("exitCode", code.as_str()));
        }
        self.shared
            .announce(&container.fixed(), action, &attributes);
    }
}

fn first_size(request: &ExecCreateRequest) -> Option<TerminalSize> {
    let [height, width] = request.console_size?;
    Some(TerminalSize {
        height: height.try_into().ok()?,
        width: width.try_into().ok()?,
    })
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
