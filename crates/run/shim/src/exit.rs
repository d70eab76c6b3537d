//! The end of processes: collected, drained, recorded, then told. In this order, so that whoever is told can rely on
//! the record and the log.

use std::time::{Duration, Instant};

use havre_shim_proto::ExitRecord;
use havre_shim_proto::events::{TaskExit, TaskOOM};
use havre_shim_proto::task::WaitResponse;
use havre_types::Timestamp;
use prost::Message as _;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::error::{Failure, note};
use crate::log::Log;
use crate::process::{Exit, Stage};
use crate::server::Server;
use crate::task::{INIT, Task};

/// How long the children of a process that has ended may keep its output open.
const GRACE: Duration = Duration::from_secs(2);

impl Server {
    /// Collects every child that has ended, orphans of the container included.
    pub(crate) fn reap(&mut self) {
        // The signals only wake us: several children can be behind one.
        while self.signals.read().is_ok_and(|signal| signal.is_some()) {}
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.collected(pid, exit_status(status)),
                Ok(None) | Err(Errno::CHILD) => return,
                Err(Errno::INTR) => {}
                Err(error) => return note(&format!("failed to wait for a child: {error}")),
            }
        }
    }

    /// Process `pid` has ended; unknown ones are orphans of the container.
    pub(crate) fn collected(&mut self, pid: Pid, status: Option<u32>) {
        let Some(task) = &mut self.task else { return };
        if let Some(log) = &mut task.log
            && log.child_ended(pid, status)
        {
            // Nothing waits for a helper that is gone.
            return self.resume_output(INIT);
        }
        let mut processes = task.processes.iter_mut();
        let found = processes.find(|(_, process)| process.is_alive() && process.pid() == Some(pid));
        let (Some((at, process)), Some(status)) = (found, status) else {
            return;
        };
        process.exit = Some(Exit {
            status,
            at: Timestamp::now(),
        });
        drop(processes);
        if at == INIT {
            self.init_ended();
        }
        self.drain(at, Instant::now() + GRACE);
    }

    fn init_ended(&mut self) {
        let Some(task) = &mut self.task else { return };
        let Ok(cgroup) = task.cgroup() else { return };
        let kills = cgroup.oom_kills();
        if task.shares_pid_namespace()
            && let Err(error) = cgroup.kill_all()
        {
            note(&Failure::of(&error).message);
        }
        let killed = kills.is_ok_and(|kills| kills > 0);
        let peak = killed.then(|| cgroup.stats().map_or(0, |stats| stats.memory.max_usage));
        task.memory_peak = peak.unwrap_or(0);
        task.oom_killed = killed;
        if task.oom_killed {
            let container_id = task.id.clone();
            self.publish(&TaskOOM { container_id });
        }
    }

    /// Everything of the process is taken over, or its time is up: records the exit and tells who waits.
    pub(crate) fn finish_process(&mut self, at: usize) {
        let process = self.task.as_ref().and_then(|task| task.processes.get(at));
        if process.is_none_or(|process| process.stage == Stage::Stopped) {
            // Told already: its output may have ended before its time was up.
            return;
        }
        self.close_outputs(at);
        let Some(task) = &mut self.task else { return };
        if at == INIT {
            record(task);
        }
        let id = task.id.clone();
        let Some(process) = task.processes.get_mut(at) else {
            return;
        };
        process.stage = Stage::Stopped;
        process.drain_until = None;
        let waiters = std::mem::take(&mut process.waiters);
        let pid = process.pid_number();
        let exec_id = process.asked.exec_id.clone();
        let Some(exit) = process.exit else { return };
        let exited_at = Some(exit.at.into());
        for waiter in waiters {
            let answer = WaitResponse {
                exit_status: exit.status,
                exited_at,
            };
            self.respond(waiter, Ok(answer.encode_to_vec()));
        }
        self.release_clients(at);
        self.publish(&TaskExit {
            id: if exec_id.is_empty() {
                id.clone()
            } else {
                exec_id
            },
            container_id: id,
            pid,
            exit_status: exit.status,
            exited_at,
        });
    }
}

/// Writes `exit.json`, whole or not at all.
fn record(task: &Task) {
    let Some(init) = task.processes.get(INIT) else {
        return;
    };
    let Some(exit) = init.exit else { return };
    let record = ExitRecord {
        pid: init.pid_number(),
        exit_status: exit.status,
        exited_at: exit.at,
        oom_killed: task.oom_killed,
        memory_peak: task.memory_peak,
        log_dropped: task.log.as_ref().map_or(0, Log::dropped),
    };
    let path = task.bundle.join(ExitRecord::FILE);
    let temporary = task.bundle.join("exit.json.tmp");
    let written = fs_err::write(&temporary, record.to_json())
        .and_then(|()| fs_err::rename(&temporary, &path));
    if let Err(error) = written {
        note(&error.to_string());
    }
}

/// 0 to 255, or 128 + signal; none for a process that only stopped.
fn exit_status(status: WaitStatus) -> Option<u32> {
    let number = match status.exit_status() {
        Some(code) => code,
        None => 128 + status.terminating_signal()?,
    };
    u32::try_from(number).ok()
}
