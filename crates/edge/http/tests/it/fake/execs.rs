//! Exec processes of the fake engine.

use std::sync::Arc;

use async_trait::async_trait;
use havre_api_traits::{ApiError, ApiResult, AttachSession, ExecStart, Execs, TerminalSize};
use havre_engine_types::{ContainerConfig, ExecCreateRequest, ExecInspect};
use havre_types::{ErrorKind, ExecId};
use tokio::sync::mpsc;

use super::{Fake, Process};

#[async_trait]
impl Execs for Fake {
    async fn create(&self, container: &str, request: ExecCreateRequest) -> ApiResult<ExecId> {
        let parent = self.find(container)?;
        if !parent.running() {
            return Err(ApiError::conflict(format!(
                "container {} is not running",
                parent.id
            )));
        }
        let id = self.next_id();
        let config = ContainerConfig {
            cmd: request.cmd,
            tty: request.tty,
            open_stdin: request.attach_stdin,
            stdin_once: true,
            ..ContainerConfig::default()
        };
        let process = Process::new(id.clone(), String::new(), config);
        self.execs.lock().unwrap().insert(
            id.clone(),
            (process, request.detach_keys, parent.id.clone()),
        );
        Ok(ExecId::parse(&id).unwrap())
    }

    async fn start_detached(&self, id: &str, _start: ExecStart) -> ApiResult<()> {
        let (process, ..) = self.exec(id)?;
        tokio::spawn(process.run());
        Ok(())
    }

    async fn start_attached(&self, id: &str, start: ExecStart) -> ApiResult<AttachSession> {
        let (process, keys, _) = self.exec(id)?;
        if process.config.cmd.as_deref() == Some(&["nope".to_owned()]) {
            process.exit.send_replace(Some(127));
            return Err(ApiError::invalid(
                "OCI runtime exec failed: exec: \"nope\": executable file not found in $PATH",
            ));
        }
        if let Some(size) = start.size {
            process.size.send_replace(Some(size));
        }
        let (sender, output) = mpsc::channel(4);
        let mut session = process.session(true, sender);
        session.output = output;
        session.detach_keys = Some(keys);
        tokio::spawn(process.run());
        Ok(session)
    }

    async fn inspect(&self, id: &str) -> ApiResult<ExecInspect> {
        let (process, _, container_id) = self.exec(id)?;
        let exit_code = *process.exit.borrow();
        Ok(ExecInspect {
            id: id.to_owned(),
            running: process.running(),
            exit_code,
            container_id,
            ..ExecInspect::default()
        })
    }

    async fn resize(&self, id: &str, size: TerminalSize) -> ApiResult<()> {
        self.exec(id)?.0.size.send_replace(Some(size));
        Ok(())
    }

    async fn detached(&self, _id: &str) {
        self.detached.send_modify(|count| *count += 1);
    }
}

impl Fake {
    fn exec(&self, id: &str) -> ApiResult<(Arc<Process>, String, String)> {
        let execs = self.execs.lock().unwrap();
        execs.get(id).cloned().ok_or_else(|| {
            ApiError::new(ErrorKind::NotFound, format!("No such exec instance: {id}"))
        })
    }
}
