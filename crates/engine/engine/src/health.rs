//! Health checks: a task for each running container that has one. It waits, probes, and tells the actor what the
//! container's health now is; what follows from it is the actor's.
//!
//! Rules and figures: <https://github.com/moby/moby/blob/master/daemon/health.go>.

mod check;
mod kill;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use havre_engine_types::{Health, HealthcheckResult};
use havre_types::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::container::{Command, Container, View};
use crate::engine::Shared;
use crate::shim::Shim;
use crate::state::Status;

pub(crate) use check::{Check, initial, refuse, stopped};

/// What all checks of an engine share.
#[derive(Debug)]
pub(crate) struct Limits {
    /// How many probes are planned at once: each takes a thread for a moment.
    planning: Semaphore,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            planning: Semaphore::new(4),
        }
    }
}

/// The checks of one run of a container.
struct Monitor {
    shared: Arc<Shared>,
    container: Arc<Container>,
    shim: Arc<Shim>,
    run: u64,
    check: Check,
    /// By the monotonic clock: steps of the wall clock neither hasten nor delay a check.
    started: Instant,
    started_at: Timestamp,
    health: Health,
    /// The process of the probe as JSON, planned once in a run.
    process: Option<Vec<u8>>,
}

/// Starts the checks of run number `run`, whose state has been published; nothing happens without a check.
pub(crate) fn watch(shared: &Arc<Shared>, container: &Arc<Container>, run: u64) {
    let view = container.now();
    let (Some(check), Some(shim)) = (Check::of(&view.fixed.config), view.shim.clone()) else {
        return;
    };
    let started_at = view.state.started_at;
    let age = Timestamp::now().since(started_at);
    let now = Instant::now();
    let mut monitor = Monitor {
        shared: Arc::clone(shared),
        container: Arc::clone(container),
        shim: Arc::clone(&shim),
        run,
        check,
        started: now.checked_sub(age).unwrap_or(now),
        started_at,
        health: view.state.health.clone().unwrap_or_default(),
        process: None,
    };
    let mut state = container.view.clone();
    let stopping = shared.stopping.clone();
    shared.tasks.spawn(async move {
        let over = state.wait_for(move |view| !is_of(view, &shim));
        tokio::select! {
            () = monitor.work() => {}
            _ended = over => {}
            () = stopping.cancelled() => {}
        }
    });
}

/// The view is of the run that this shim serves.
fn is_of(view: &View, shim: &Arc<Shim>) -> bool {
    view.state.status.is_live() && view.shim.as_ref().is_some_and(|s| Arc::ptr_eq(s, shim))
}

impl Monitor {
    async fn work(&mut self) {
        probe::end_left(&self.place()).await;
        loop {
            if !self.status_is(|status| status == Status::Running).await {
                return;
            }
            let due = Instant::now() + self.pause();
            tokio::select! {
                () = sleep_until(due) => {}
                paused = self.status_is(|status| status != Status::Running) => {
                    stop(&mut self.health);
                    if paused {
                        continue;
                    }
                    return;
                }
            }
            self.probe().await;
        }
    }

    /// Waits for a status; false when there will be none any more.
    async fn status_is(&self, wanted: impl Fn(Status) -> bool) -> bool {
        let mut view = self.container.view.clone();
        view.wait_for(|view| wanted(view.state.status))
            .await
            .is_ok()
    }

    fn place(&self) -> probe::Place<'_> {
        probe::Place {
            shared: &self.shared,
            container: &self.container,
            shim: &self.shim,
        }
    }

    /// The time until the next check.
    fn pause(&self) -> Duration {
        self.check.pause(self.started.elapsed(), &self.health)
    }

    /// Probes once, unless it is paused meanwhile.
    async fn probe(&mut self) {
        let start = Timestamp::now();
        let process = match self.process.take() {
            Some(process) => Ok(process),
            None => probe::plan(&self.shared, &self.container, &self.check).await,
        };
        let outcome = match process {
            Err(err) => Err(err),
            Ok(process) => {
                let place = self.place();
                let run = probe::run(&place, &self.check, &process);
                let outcome = tokio::select! {
                    outcome = run => Some(outcome),
                    _paused = self.status_is(|status| status != Status::Running) => None,
                };
                self.process = Some(process);
                let Some(outcome) = outcome else {
                    stop(&mut self.health);
                    return probe::end_left(&self.place()).await;
                };
                outcome
            }
        };
        let (exit_code, output) = outcome.unwrap_or_else(|err| {
            tracing::warn!(container = %self.container.id(), error = %err.message, "health check failed to run");
            (-1, err.message)
        });
        let result = HealthcheckResult {
            start,
            end: Timestamp::now(),
            exit_code,
            output,
        };
        let since_start = start.since(self.started_at);
        self.check.judge(&mut self.health, result, since_start);
        let told = Command::Health {
            run: self.run,
            health: self.health.clone(),
        };
        // The actor may be gone with its container.
        self.container.commands.send(told).ok();
    }
}

fn stop(health: &mut Health) {
    check::UNHEALTHY.clone_into(&mut health.status);
}
