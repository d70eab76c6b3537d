//! The end of a run: seen once, recorded, announced, cleaned up.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use havre_types::Timestamp;

use super::actor::{Actor, Command, SHIM_DEADLINE};
use super::record::Exit;
use crate::network::{self, Leaving};
use crate::restart;
use crate::restore::end_group;
use crate::shim::Shim;
use crate::shim::init::Process;
use crate::state::{Event, Status, Step, step};

/// How long a shim that is well takes at most to report an end, unless it has much to write.
const REPORT: Duration = Duration::from_secs(2);
/// A shim that has not even collected its child, and does not answer for so long, hangs.
const SILENCE: Duration = Duration::from_secs(10);

/// Who told of the end.
enum End {
    Reported(Exit),
    /// The shim is gone or has been ended.
    Unreported(Exit),
}

/// Waits for the end as the shim reports it. A shim that hangs says nothing, so that the process is watched, too.
async fn end_of_run(shim: &Shim, process: Option<Process>) -> End {
    let unseen = |exit: Option<Exit>, code: Option<i64>| match (exit, code) {
        (Some(exit), _) => End::Reported(exit),
        (None, Some(exit_status)) => End::Unreported(Exit {
            exit_status,
            ..Exit::unseen()
        }),
        (None, None) => End::Unreported(Exit::unseen()),
    };
    let mut report = pin!(shim.exit());
    let Some(process) = process else {
        return unseen(report.await, None);
    };
    tokio::select! {
        exit = &mut report => return unseen(exit, None),
        () = process.ended() => {}
    }
    if !process.is_over() {
        return unseen(report.await, None);
    }
    let (code, at) = (process.exit_code(), Timestamp::now());
    loop {
        if let Ok(exit) = tokio::time::timeout(REPORT, &mut report).await {
            return unseen(exit, code);
        }
        // Collected: the shim lived after the end, and may be waiting for a disk.
        let waits = process.exit_code().is_none();
        let patience = if waits { SHIM_DEADLINE } else { SILENCE };
        if !shim.answers(patience).await {
            break;
        }
    }
    shim.abandon();
    End::Unreported(
        shim.left_exit()
            .unwrap_or_else(|| Exit::unreported(code, at)),
    )
}

impl Actor {
    /// Reports the end of this run to the actor's own queue.
    pub(super) fn watch_exit(&mut self, shim: Arc<Shim>, process: Option<Process>) {
        self.started.get_or_insert_with(Instant::now);
        let (container, run) = (Arc::clone(&self.container), self.run);
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move {
            let exit = tokio::select! {
                exit = end_of_run(&shim, process) => exit,
                () = shared.stopping.cancelled() => return,
            };
            let exit = match exit {
                End::Reported(exit) => exit,
                End::Unreported(exit) => {
                    // Nobody is left to end what the container's first process does not take along.
                    end_group(&shared, &container.fixed()).await;
                    exit
                }
            };
            // The actor may be gone with its container.
            container.commands.send(Command::Ended { run, exit }).ok();
        });
    }

    /// The process has ended: state, event, restart or removal.
    pub(super) fn ended(&mut self, exit: &Exit) {
        let shim = self.shim.take();
        let ran = self
            .started
            .take()
            .map_or(Duration::ZERO, |at| at.elapsed());
        let end = if std::mem::take(&mut self.unhealthy) {
            restart::End::Unhealthy
        } else {
            restart::End::Exited(exit.exit_status)
        };
        let again = !self.no_restart
            && !self.shared.stopping.is_cancelled()
            && self.policy.after_exit(end, self.state.restart_count);
        let event = if again {
            Event::EndedWillRestart
        } else {
            Event::Ended
        };
        let Step::To(next) = step(self.state.status, event) else {
            return;
        };
        self.run += 1;
        self.state.status = next;
        self.state.pid = 0;
        self.state.exit_code = exit.exit_status;
        self.state.oom_killed = exit.oom_killed;
        self.state.memory_peak = exit.memory_peak;
        self.state.finished_at = exit.exited_at;
        self.state.exits += 1;
        self.state.error.clone_from(&exit.error);
        crate::health::stopped(&mut self.state);
        if exit.log_dropped > 0 {
            let (container, records) = (&self.fixed.id, exit.log_dropped);
            tracing::warn!(%container, records, "records of the container's log were dropped");
        }
        if exit.oom_killed {
            self.shared.announce(&self.fixed, "oom", &[]);
        }
        let code = exit.exit_status.to_string();
        let duration = i64::try_from(ran.as_secs()).unwrap_or(0).to_string();
        self.shared.announce(
            &self.fixed,
            "die",
            &[
                ("exitCode", code.as_str()),
                ("execDuration", duration.as_str()),
            ],
        );
        if again {
            self.state.restart_count += 1;
            self.restart_at = Some(Instant::now() + self.back_off.next(ran));
        }
        let leaving = self.leave_networks();
        self.publish();
        let keep = std::mem::take(&mut self.keep);
        let remove = !again && !keep && self.fixed.auto_remove();
        if remove {
            self.auto_remove(shim, leaving);
        } else {
            let saved = self.save();
            self.clean_up(shim, saved, leaving);
        }
    }

    /// What the container has of networks is on its way out from now on.
    pub(super) fn leave_networks(&mut self) -> Option<Leaving> {
        let live = self.state.live.take()?;
        Some(self.shared.networks.departures.begin(live))
    }

    /// `--rm`: nobody waits for the disk, because a record that comes back after a crash is removed again at the
    /// next start.
    fn auto_remove(&mut self, shim: Option<Arc<Shim>>, leaving: Option<Leaving>) {
        self.state.status = Status::Removing;
        let batch = havre_meta::Batch::new().delete(super::record::KIND, self.fixed.id.as_str());
        self.shared.announce(&self.fixed, "destroy", &[]);
        let pending = self.shared.meta.write(self.shared.bus.save(batch));
        // The bundle tells the next start that it ran, even when nothing of this run was written down.
        self.clean_up(shim, Some(pending), leaving);
        self.forget();
    }

    /// Ends the shim, and removes the bundle once the record of the exit is safe.
    pub(super) fn clean_up(
        &mut self,
        shim: Option<Arc<Shim>>,
        saved: Option<havre_meta::Pending>,
        leaving: Option<Leaving>,
    ) {
        let (shared, fixed) = (Arc::clone(&self.shared), Arc::clone(&self.fixed));
        let id = fixed.id.clone();
        let bundle = shared.places.bundle(&id);
        let before = self.cleanup.take();
        self.cleanup = Some(self.shared.tasks.spawn(async move {
            if let Some(before) = before {
                before.await.ok();
            }
            if let Some(shim) = shim
                && !shim.finish().await
            {
                end_group(&shared, &fixed).await;
            }
            if let Some(leaving) = leaving {
                network::quit(&shared, &fixed, &leaving.live).await;
            }
            if let Some(saved) = saved
                && let Err(err) = saved.await
            {
                tracing::warn!(container = %id, error = %err, "exit is not recorded: the bundle stays");
                return false;
            }
            let removed =
                tokio::task::spawn_blocking(move || fs_err::remove_dir_all(bundle)).await;
            if let Ok(Err(err)) = removed
                && err.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(error = %err, "bundle is left for the next start");
            }
            true
        }));
    }
}
