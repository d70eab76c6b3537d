//! What is written down about exec processes, so that the next engine can be asked about them.
//!
//! The records lie in the bundle: they belong to one run of the container and go with it. They are not synced to the
//! disk, because after a power failure the processes are gone as well.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use havre_engine_types::ExecCreateRequest;
use havre_shim_proto::task::TaskStatus;
use havre_types::{ContainerId, ErrorKind, ExecId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Exec, State};
use crate::shim::Shim;

/// The folder in the bundle.
const FOLDER: &str = "execs";
/// The longest that a shim may take to say what became of one.
const ANSWER: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Written {
    request: ExecCreateRequest,
    /// The process of the specification.
    process: String,
    #[serde(default)]
    exit_code: Option<i64>,
}

/// Writes down an exec that was made, or how it ended. Whole or not at all: the engine may be killed meanwhile.
pub(super) fn write(bundle: &Path, exec: &Exec) -> io::Result<()> {
    let written = Written {
        request: exec.request.clone(),
        process: String::from_utf8_lossy(&exec.process).into_owned(),
        exit_code: exec.state.borrow().exit_code,
    };
    let body = serde_json::to_vec(&written)?;
    let folder = bundle.join(FOLDER);
    match fs_err::create_dir(&folder) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
        _ => {}
    }
    let path = folder.join(exec.id.as_str());
    let new = path.with_extension("new");
    fs_err::write(&new, body)?;
    fs_err::rename(new, path)
}

/// Forgets one.
pub(super) fn remove(bundle: &Path, id: &ExecId) {
    if let Err(err) = fs_err::remove_file(bundle.join(FOLDER).join(id.as_str()))
        && err.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(error = %err, "the record of an exec stays until its container ends");
    }
}

/// Finds the exec processes of a container that runs on from an earlier engine, and what became of them.
pub(crate) async fn recover(container: &ContainerId, bundle: &Path, shim: &Shim) -> Vec<Arc<Exec>> {
    let mut found = Vec::new();
    for path in files(bundle) {
        let Some(exec) = read(container, &path) else {
            tracing::warn!(container = %container, path = %path.display(), "the record of an exec cannot be read");
            continue;
        };
        let unknown = exec.state.borrow().exit_code.is_none();
        if unknown {
            let state = ask(shim, &exec.id).await;
            exec.state.send_replace(state);
        }
        found.push(Arc::new(exec));
    }
    found
}

fn files(bundle: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(bundle.join(FOLDER)) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_none()).collect()
}

fn read(container: &ContainerId, path: &Path) -> Option<Exec> {
    let id = ExecId::parse(path.file_name()?.to_str()?).ok()?;
    let written: Written = serde_json::from_slice(&fs_err::read(path).ok()?).ok()?;
    let mut state = State::default();
    if let Some(code) = written.exit_code {
        state.taken = true;
        state.end(code);
    }
    Some(Exec {
        id,
        container: container.clone(),
        request: written.request,
        process: written.process.into_bytes(),
        state: watch::Sender::new(state),
    })
}

/// What the shim says of one whose end nobody has written down. A process that has ended is found as running: who
/// watches it then hears of its end at once.
async fn ask(shim: &Shim, id: &ExecId) -> State {
    let running = |pid| State {
        taken: true,
        running: true,
        pid,
        ..State::default()
    };
    match tokio::time::timeout(ANSWER, shim.state(id.as_str())).await {
        Ok(Ok(answer)) => match TaskStatus::try_from(answer.status) {
            // Made, and not let go: its client is gone, and it may be started again.
            Ok(TaskStatus::Created) => {
                shim.delete(id.as_str()).await.ok();
                State::default()
            }
            Ok(TaskStatus::Stopped) => {
                let mut state = running(answer.pid);
                state.end(shim.exec_exit(id.as_str()).await);
                state
            }
            _ => running(answer.pid),
        },
        // It was never started.
        Ok(Err(err)) if err.kind == ErrorKind::NotFound => State::default(),
        Ok(Err(_)) | Err(_) => running(0),
    }
}
