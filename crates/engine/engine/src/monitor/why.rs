//! Why a container ended, will not start, or is not well: gathers what is known, and lets a pure function say it.

mod explain;
mod program;

use std::env::consts::ARCH;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use havre_api_traits::{ApiResult, Containers as _, LogOptions};
use havre_engine_types::WhyResponse;
use tokio::time::{Instant, timeout_at};

use crate::container::{Container, Fixed, View};
use crate::engine::{Engine, Shared};
use crate::error::internal;
use crate::plan;
use crate::state::Status;

use explain::{Known, explain};
use program::{Kind, Program};

/// How many of the last lines are looked at.
const LINES: u64 = 10;
/// A log that does not answer in this time is left out.
const LOG_DEADLINE: Duration = Duration::from_secs(2);
/// So much of a program tells what it is.
const HEAD: u64 = 4096;
/// The bits of a mode that let anybody execute.
const EXECUTABLE: u32 = 0o111;
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) async fn why(engine: &Engine, container: &Arc<Container>) -> ApiResult<WhyResponse> {
    let shared = &engine.shared;
    let view = container.now();
    let fixed = &view.fixed;
    let (owned, kept) = (Arc::clone(shared), Arc::clone(fixed));
    let wanted = !view.state.error.is_empty();
    let program = tokio::task::spawn_blocking(move || {
        if wanted {
            look(&owned, &kept)
        } else {
            Program::Unknown
        }
    });
    let program = program
        .await
        .map_err(|err| internal("failed to look at the program", &err))?;
    let lines = last_lines(engine, &view).await;
    let command = fixed.command();
    let policy = &fixed.host_config.restart_policy;
    Ok(explain(&Known {
        name: &fixed.name,
        state: &view.state,
        command: command.first().map_or("", String::as_str),
        limit: u64::try_from(fixed.host_config.memory).unwrap_or(0),
        policy: &policy.name,
        max_retries: policy.maximum_retry_count,
        image_gone: shared.images.get(&fixed.image).is_none(),
        stop_signal: &fixed.config.stop_signal,
        program,
        host: ARCH,
        lines: &lines,
    }))
}

/// The last lines that an ended container wrote.
async fn last_lines(engine: &Engine, view: &View) -> Vec<String> {
    if !matches!(view.state.status, Status::Exited | Status::Restarting) {
        return Vec::new();
    }
    let options = LogOptions {
        stdout: true,
        stderr: true,
        tail: Some(LINES),
        ..LogOptions::default()
    };
    let deadline = Instant::now() + LOG_DEADLINE;
    let opened = timeout_at(deadline, engine.logs(view.fixed.id.as_str(), options)).await;
    // Some drivers keep nothing that can be read.
    let Ok(Ok(mut session)) = opened else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    while let Ok(Some(Ok(entry))) = timeout_at(deadline, session.entries.recv()).await {
        lines.push(String::from_utf8_lossy(&entry.line).into_owned());
    }
    lines
}

/// Finds the program in the container's layers, as the start looked for it.
fn look(shared: &Shared, fixed: &Fixed) -> Program {
    let (Some(word), Ok(mounts)) = (
        fixed.command().into_iter().next(),
        crate::container::root_mounts(shared, fixed),
    ) else {
        return Program::Unknown;
    };
    let Some(root) = mounts.last() else {
        return Program::Unknown;
    };
    let layers = plan::layers_of(&root.source, &root.options);
    let (searched, paths) = places(fixed, &word);
    for path in paths {
        match plan::read_head(&layers, &path, HEAD) {
            Ok(Some((head, mode))) => {
                let kind = Kind::of(&head);
                let has_interpreter = kind.needs().is_none_or(|needed| exists(&layers, needed));
                return Program::Found {
                    path,
                    executable: mode & EXECUTABLE != 0,
                    kind,
                    has_interpreter,
                };
            }
            Ok(None) => {}
            Err(err) => {
                tracing::debug!(error = %err, "the program cannot be looked at");
                return Program::Unknown;
            }
        }
    }
    Program::Missing { searched }
}

fn exists(layers: &[PathBuf], path: &str) -> bool {
    // What cannot be read is no proof that it is missing.
    !path.starts_with('/') || !matches!(plan::read_head(layers, path, 1), Ok(None))
}

/// Where a program is looked for: the directories that are named to the user, and the files.
fn places(fixed: &Fixed, word: &str) -> (Vec<String>, Vec<String>) {
    if word.contains('/') {
        let path = if word.starts_with('/') {
            word.to_owned()
        } else {
            format!("{}/{word}", fixed.config.working_dir)
        };
        return (vec![path.clone()], vec![path]);
    }
    let env = fixed.config.env.as_deref().unwrap_or_default();
    let path = env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="));
    let directories: Vec<String> = path
        .unwrap_or(USUAL_PATH)
        .split(':')
        .map(str::to_owned)
        .collect();
    let files = directories
        .iter()
        .map(|directory| format!("{directory}/{word}"))
        .collect();
    (directories, files)
}
