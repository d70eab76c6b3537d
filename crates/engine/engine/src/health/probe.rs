//! One probe: a process in the container, with the identity and the confinement of the container's own.

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::ExecCreateRequest;
use havre_shim_proto::attach::AttachRequest;
use havre_shim_proto::client::{AttachReader, AttachWriter};
use havre_shim_proto::task::TaskStatus;
use havre_types::{ExecId, duration};
use tokio::time::timeout;

use super::check::Check;
use super::kill::kill_tree;
use crate::container::Container;
use crate::engine::Shared;
use crate::error::internal;
use crate::shim::Shim;

/// Longer output is cut.
const MAX_OUTPUT: usize = 4096;
/// How long a probe that was killed may take to end.
const DYING: std::time::Duration = std::time::Duration::from_secs(10);
/// Names the probe that runs, so that the next engine can end one that it does not wait for.
const NAME_FILE: &str = "probe";

/// Where a probe runs.
pub(super) struct Place<'a> {
    pub shared: &'a Arc<Shared>,
    pub container: &'a Arc<Container>,
    pub shim: &'a Arc<Shim>,
}

/// The process of the probe as JSON.
pub(super) async fn plan(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    check: &Check,
) -> ApiResult<Vec<u8>> {
    if check.command.is_empty() {
        return Err(ApiError::invalid(format!(
            "healthcheck for container {} has no command",
            container.id()
        )));
    }
    let request = ExecCreateRequest {
        attach_stdout: true,
        attach_stderr: true,
        cmd: Some(check.command.clone()),
        ..ExecCreateRequest::default()
    };
    // The semaphore is never closed.
    let _turn = shared.health.planning.acquire().await.ok();
    let (shared, container) = (Arc::clone(shared), Arc::clone(container));
    tokio::task::spawn_blocking(move || crate::exec::process(&shared, &container, &request))
        .await
        .map_err(|err| internal("failed to plan the health check", &err))?
}

/// Runs the probe: its exit code and output. An error means that it could not be run at all.
pub(super) async fn run(
    place: &Place<'_>,
    check: &Check,
    process: &[u8],
) -> ApiResult<(i64, String)> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|err| internal("failed to make an id", &err))?;
    let id = ExecId::from_bytes(bytes);
    let (program, arguments) = check
        .command
        .split_first()
        .map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let command = format!("{program} {}", arguments.join(" "));
    place.announce(&format!("exec_create: {command}"), &id, None);
    let bundle = place.shared.places.bundle(place.container.id());
    fs_err::write(bundle.join(NAME_FILE), id.as_str())
        .map_err(|err| internal("failed to note the health check", &err))?;
    match place.start(&id, &command, process).await {
        Ok(running) => {
            let (outcome, code) = place.follow(&id, check, running).await;
            place.announce("exec_die", &id, Some(code));
            // With its container everything of it is gone.
            place.shim.delete(id.as_str()).await.ok();
            Ok(outcome)
        }
        Err(err) => {
            // The shim may never have known it.
            place.shim.delete(id.as_str()).await.ok();
            Err(ApiError::new(
                err.kind,
                crate::error::exec_failed(&err.message),
            ))
        }
    }
}

/// A probe that was let go.
struct Running {
    reader: AttachReader,
    /// A half-closed connection would look to the shim as if nobody read any more.
    _writer: AttachWriter,
    pid: u32,
}

impl Place<'_> {
    async fn start(&self, id: &ExecId, command: &str, process: &[u8]) -> ApiResult<Running> {
        self.shim.exec(id.as_str(), false, process.to_vec()).await?;
        let wanted = AttachRequest {
            exec_id: id.to_string(),
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let (reader, writer) = self.shim.attach(&wanted).await?;
        let pid = self.shim.start(id.as_str()).await?;
        self.announce(&format!("exec_start: {command}"), id, None);
        Ok(Running {
            reader,
            _writer: writer,
            pid,
        })
    }

    /// Reads the output to its end and asks for the exit code; after the time the whole tree of processes is killed.
    /// Answers with what is logged, and with the code of the process itself.
    async fn follow(
        &self,
        id: &ExecId,
        check: &Check,
        mut running: Running,
    ) -> ((i64, String), i64) {
        let mut output = Output::default();
        let ended = async {
            output.read_all(&mut running.reader).await;
            self.shim.exec_exit(id.as_str()).await
        };
        if let Ok(code) = timeout(check.timeout, ended).await {
            return ((code, output.text()), code);
        }
        let pid = running.pid;
        // Nobody reads any more: what it still writes must not hold its end up.
        drop(running);
        self.kill(id, pid).await;
        let code = timeout(DYING, self.shim.exec_exit(id.as_str())).await;
        let limit =
            duration::format_go(i64::try_from(check.timeout.as_nanos()).unwrap_or(i64::MAX));
        let mut text = format!("Health check exceeded timeout ({limit})");
        let said = output.text();
        if !said.is_empty() {
            text.push_str(": ");
            text.push_str(&said);
        }
        ((-1, text), code.unwrap_or(137))
    }

    async fn kill(&self, id: &ExecId, pid: u32) {
        let path = crate::plan::cgroup_path(
            &self.container.fixed().host_config,
            &self.shared.facts,
            self.container.id(),
        );
        let killed = tokio::task::spawn_blocking(move || kill_tree(&path, pid)).await;
        if let Ok(Err(err)) = killed {
            tracing::warn!(container = %self.container.id(), error = %err, "processes of a health check may be left");
        }
        // In case the tree could not be seen; most often it is dead by now.
        self.shim.kill(id.as_str(), crate::signal::KILL).await.ok();
    }

    fn announce(&self, action: &str, id: &ExecId, code: Option<i64>) {
        let code = code.map(|code| code.to_string());
        let mut attributes = vec![("execID", id.as_str())];
        if let Some(code) = &code {
            attributes.push(("exitCode", code.as_str()));
        }
        self.shared
            .announce(&self.container.fixed(), action, &attributes);
    }
}

/// Ends the probe that a former engine, or a pause, left behind, with all that it started.
pub(super) async fn end_left(place: &Place<'_>) {
    let bundle = place.shared.places.bundle(place.container.id());
    let Ok(text) = fs_err::read_to_string(bundle.join(NAME_FILE)) else {
        return;
    };
    let Ok(id) = ExecId::parse(&text) else {
        return;
    };
    let state = place.shim.state(id.as_str()).await;
    // Most often it ended and was deleted long ago.
    if let Ok(state) = state
        && matches!(
            state.status(),
            TaskStatus::Running | TaskStatus::Paused | TaskStatus::Pausing
        )
    {
        place.kill(&id, state.pid).await;
        timeout(DYING, place.shim.exec_exit(id.as_str())).await.ok();
    }
    place.shim.delete(id.as_str()).await.ok();
}

/// The first bytes of what a probe writes.
#[derive(Debug, Default)]
struct Output {
    kept: Vec<u8>,
    cut: bool,
}

impl Output {
    async fn read_all(&mut self, reader: &mut AttachReader) {
        loop {
            match reader.next().await {
                Ok(Some((_, data))) => self.add(&data),
                Ok(None) => return,
                Err(err) => {
                    tracing::debug!(error = %err, "output of a health check ended early");
                    return;
                }
            }
        }
    }

    fn add(&mut self, data: &[u8]) {
        let room = MAX_OUTPUT - self.kept.len();
        self.kept
            .extend_from_slice(data.get(..room).unwrap_or(data));
        self.cut |= data.len() > room;
    }

    /// What was kept; dots tell that there was more.
    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.cut {
            text.push_str("...");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bounded() {
        let mut output = Output::default();
        output.add(b"ab\xff");
        assert_eq!(output.text(), "ab\u{fffd}");
        output.add(&vec![b'x'; MAX_OUTPUT - 3]);
        assert!(!output.cut && output.text().ends_with('x'));
        output.add(b"");
        assert!(!output.cut);
        output.add(b"y");
        output.add(&[b'z'; 100]);
        assert_eq!(output.kept.len(), MAX_OUTPUT);
        assert!(output.text().ends_with("x..."));
    }
}
