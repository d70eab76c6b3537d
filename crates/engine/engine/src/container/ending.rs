//! How a container is ended: signals, the patience between them, and what is done when its shim does not answer.

use std::sync::Arc;
use std::time::Duration;

use havre_api_traits::{ApiError, ApiResult, RemoveContainer, StopOptions};
use havre_types::ErrorKind;
use tokio::sync::oneshot;

use super::actor::{AfterEnd, Command};
use super::operations::{gone, send, settled};
use super::registry::Container;
use crate::engine::Shared;
use crate::error::not_running;
use crate::shim::init;
use crate::signal;
use crate::state::Status;

/// Docker's default between the first signal and SIGKILL.
const STOP_TIMEOUT: i64 = 10;
/// How long a killed process may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);
/// How long a shim may take to report the end of a process that is gone.
const REPORT_DEADLINE: Duration = Duration::from_secs(2);

/// Tells the actor that this end is wanted. False: there was no process.
async fn will_end(container: &Container, then: AfterEnd) -> ApiResult<bool> {
    let (reply, answer) = oneshot::channel();
    send(container, Command::EndedByUser { then, reply })?;
    Ok(answer.await.unwrap_or(false))
}

/// Waits until the run that was seen as number `exits` has ended.
async fn ended(container: &Container, exits: u64, limit: Duration) -> bool {
    let mut view = container.view.clone();
    let gone = view.wait_for(|view| {
        view.state.exits > exits || view.state.removed || !view.state.status.has_process()
    });
    // A closed channel is a container that is gone.
    tokio::time::timeout(limit, gone).await.is_ok()
}

/// Sends the stop signal, waits, and kills.
pub(super) async fn stop(
    shared: &Shared,
    container: &Arc<Container>,
    how: &StopOptions,
    then: AfterEnd,
) -> ApiResult<()> {
    let (number, grace) = manner(container, how)?;
    let exits = container.now().state.exits;
    if will_end(container, then).await? {
        end(shared, container, number, exits, grace).await?;
    }
    shared.announce(&container.fixed(), "stop", &[]);
    Ok(())
}

/// Ends the run that was seen as number `exits` as a stop without options does, and without being asked by a user.
pub(super) async fn end_softly(
    shared: &Shared,
    container: &Arc<Container>,
    exits: u64,
) -> ApiResult<()> {
    let (number, grace) = manner(container, &StopOptions::default())?;
    end(shared, container, number, exits, grace).await
}

/// The first signal, and how long to wait after it.
fn manner(container: &Container, how: &StopOptions) -> ApiResult<(u32, Duration)> {
    let fixed = container.fixed();
    let config = &fixed.config;
    let text = how
        .signal
        .as_deref()
        .filter(|s| !s.is_empty())
        .unwrap_or(&config.stop_signal);
    let number = if text.is_empty() {
        signal::TERM
    } else {
        signal::parse(text)?
    };
    let seconds = how.timeout.or(config.stop_timeout).unwrap_or(STOP_TIMEOUT);
    let grace = u64::try_from(seconds).map_or(
        Duration::from_secs(u64::from(u32::MAX)),
        Duration::from_secs,
    );
    Ok((number, grace))
}

/// The first signal, patience, and SIGKILL.
async fn end(
    shared: &Shared,
    container: &Arc<Container>,
    number: u32,
    exits: u64,
    grace: Duration,
) -> ApiResult<()> {
    let over = match deliver(shared, container, number).await {
        Ok(Delivered::ByShim) => {
            thaw(container).await;
            ended(container, exits, grace).await
        }
        Ok(Delivered::ByEngine(process)) => {
            // Nobody reports the end: see it oneself.
            tokio::time::timeout(grace, process.ended()).await.ok();
            ended(container, exits, REPORT_DEADLINE).await
        }
        Err(_) => false,
    };
    if over {
        return Ok(());
    }
    let killed = deliver(shared, container, signal::KILL).await;
    if let Err(err) = killed
        && container.now().state.status.has_process()
    {
        return Err(err);
    }
    if ended(container, exits, KILL_DEADLINE).await {
        return Ok(());
    }
    Err(not_gone(container))
}

fn not_gone(container: &Container) -> ApiError {
    ApiError::internal(format!(
        "tried to kill container {}, but did not receive an exit event",
        container.id()
    ))
}

/// Who took the signal to the container.
enum Delivered {
    ByShim,
    /// The shim does not answer.
    ByEngine(init::Process),
}

/// One signal, with its event.
async fn deliver(shared: &Shared, container: &Container, number: u32) -> ApiResult<Delivered> {
    let view = container.now();
    let shim = view
        .shim
        .as_ref()
        .ok_or_else(|| not_running(container.id().as_str()))?;
    let delivered = match shim.kill("", number).await {
        Ok(()) => Delivered::ByShim,
        // It has just ended, and its shim is about to report that.
        Err(err) if err.kind == ErrorKind::NotFound => Delivered::ByShim,
        Err(err) if err.kind == ErrorKind::DeadlineExceeded => {
            let process = init::Process::find(container.id(), view.state.pid).ok_or(err)?;
            process.signal(number)?;
            Delivered::ByEngine(process)
        }
        Err(err) => return Err(err),
    };
    let text = number.to_string();
    shared.announce(&container.fixed(), "kill", &[("signal", text.as_str())]);
    Ok(delivered)
}

/// A frozen process takes no signal before it thaws: Docker lets a paused container go on after one that is to end it.
async fn thaw(container: &Container) {
    if container.now().state.status != Status::Paused {
        return;
    }
    let (reply, answer) = oneshot::channel();
    if send(container, Command::Unpause { reply }).is_ok()
        && let Ok(Err(err)) = answer.await
    {
        tracing::debug!(container = %container.id(), error = %err.message, "not unpaused for its end");
    }
}

/// Sends one signal; SIGKILL is waited for.
pub(super) async fn kill(
    shared: &Shared,
    container: &Arc<Container>,
    number: u32,
) -> ApiResult<()> {
    let view = settled(container).await;
    if !view.state.status.is_running() {
        return Err(not_running(container.id().as_str()));
    }
    // Docker: a signal other than the stop signal and SIGKILL may be handled, so it ends nothing by itself.
    let stop_signal = &container.fixed().config.stop_signal.clone();
    let stops = number == signal::KILL
        || stop_signal.is_empty()
        || signal::parse(stop_signal).is_ok_and(|stop| stop == number);
    if stops && !will_end(container, AfterEnd::AsConfigured).await? {
        return Ok(());
    }
    deliver(shared, container, number).await?;
    if stops {
        thaw(container).await;
    }
    if number == signal::KILL && !ended(container, view.state.exits, KILL_DEADLINE).await {
        return Err(not_gone(container));
    }
    Ok(())
}

/// Removes it; with force it is killed first.
pub(super) async fn remove(
    shared: &Shared,
    container: &Arc<Container>,
    name: &str,
    how: RemoveContainer,
) -> ApiResult<()> {
    if container.now().state.status == Status::Removing {
        return Err(ApiError::conflict(format!(
            "removal of container {name} is already in progress"
        )));
    }
    if how.link {
        // The only name that a container has without links is its own. (dockerd answers 500, for want of a kind.)
        return Err(ApiError::conflict(
            "Conflict, cannot remove the default link name of the container",
        ));
    }
    let failed = |err: ApiError, what: &str| {
        let text = format!("cannot remove container {name:?}: {what}{}", err.message);
        Err(ApiError::new(err.kind, text))
    };
    loop {
        if how.force && settled(container).await.state.status.has_process() {
            match kill(shared, container, signal::KILL).await {
                // It ended by itself meanwhile, and may be gone by its own `--rm`.
                Err(err) if container.now().state.status.has_process() => {
                    return failed(err, "could not kill container: ");
                }
                _ => {}
            }
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Remove {
            force: how.force,
            reply,
        };
        let removed = match send(container, command) {
            Ok(()) => answer.await.unwrap_or_else(|_gone| Err(gone(container))),
            Err(err) => Err(err),
        };
        match removed {
            Err(_) if container.now().state.removed => return Ok(()),
            // Somebody started it between the two.
            Err(_) if how.force && container.now().state.status.has_process() => {}
            Err(err) if err.kind == ErrorKind::Unavailable => return Err(err),
            Err(err) => return failed(err, ""),
            Ok(()) => return Ok(()),
        }
    }
}
