//! The calls on a container that exists. Making processes is in `service/launch.rs`.

mod checkpoint;
pub(crate) mod launch;

use havre_cgroup::Cgroup;
use havre_runtime_core::Delete;
use havre_shim_proto::events::{TaskDelete, TaskPaused, TaskResumed};
use havre_shim_proto::metrics;
use havre_shim_proto::task::{
    CloseIoRequest, ConnectResponse, DeleteRequest, DeleteResponse, KillRequest, PidsResponse,
    ProcessDetails, ProcessInfo, ResizePtyRequest, ShutdownRequest, StateRequest, StateResponse,
    StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use havre_shim_proto::{Any, Empty};
use havre_types::ErrorKind;
use oci_spec::runtime::LinuxResources;
use prost::Message as _;
use rustix::io::Errno;
use rustix::process::{Signal, getpid};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::dispatch::decode;
use crate::error::{Failure, note};
use crate::process::{Stage, Waiter};
use crate::server::Server;
use crate::stats::to_metrics;
use crate::task::{INIT, Task};

impl Server {
    pub(crate) fn task(&self) -> Result<&Task, Failure> {
        self.task
            .as_ref()
            .ok_or_else(|| not_created(&self.options.id))
    }

    pub(crate) fn task_mut(&mut self) -> Result<&mut Task, Failure> {
        let id = &self.options.id;
        self.task.as_mut().ok_or_else(|| not_created(id))
    }

    pub(crate) fn state(&self, call: &StateRequest) -> Result<StateResponse, Failure> {
        let task = self.task()?;
        let process = task.process(&call.exec_id)?;
        let exit = process.exit.filter(|_| process.stage == Stage::Stopped);
        Ok(StateResponse {
            id: task.id.clone(),
            bundle: task.bundle.display().to_string(),
            pid: process.pid_number(),
            status: process.stage.status(task.paused).into(),
            stdin: process.asked.stdin.clone(),
            stdout: process.asked.stdout.clone(),
            stderr: process.asked.stderr.clone(),
            terminal: process.asked.terminal,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| exit.at.into()),
            exec_id: process.asked.exec_id.clone(),
        })
    }

    /// `None` when the answer has to wait.
    pub(crate) fn wait(
        &mut self,
        waiter: Waiter,
        payload: &[u8],
    ) -> Option<Result<Vec<u8>, Failure>> {
        let found = decode::<WaitRequest>(payload)
            .and_then(|call| self.task_mut()?.process_mut(&call.exec_id));
        let process = match found {
            Ok(process) => process,
            Err(failure) => return Some(Err(failure)),
        };
        match process.exit.filter(|_| process.stage == Stage::Stopped) {
            None => {
                process.waiters.push(waiter);
                None
            }
            Some(exit) => {
                let answer = WaitResponse {
                    exit_status: exit.status,
                    exited_at: Some(exit.at.into()),
                };
                Some(Ok(answer.encode_to_vec()))
            }
        }
    }

    pub(crate) fn kill(&self, call: &KillRequest) -> Result<Empty, Failure> {
        let task = self.task()?;
        let process = task.process(&call.exec_id)?;
        let number = i32::try_from(call.signal).unwrap_or(0);
        let signal = havre_sys::signal::from_raw(number).ok_or_else(|| {
            Failure::new(
                ErrorKind::InvalidParameter,
                format!("invalid signal: {}", call.signal),
            )
        })?;
        if call.all && signal == Signal::KILL {
            task.cgroup()?
                .kill_all()
                .map_err(|error| Failure::of(&error))?;
            return Ok(Empty {});
        }
        let finished = || Failure::new(ErrorKind::NotFound, "process already finished".to_owned());
        if process.stage == Stage::Added {
            return Err(Failure::new(ErrorKind::Conflict, "process is not started"));
        }
        if !process.is_alive() {
            return Err(finished());
        }
        process.kill(signal).map_err(|error| {
            if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) {
                finished()
            } else {
                Failure::internal("send the signal", error)
            }
        })?;
        Ok(Empty {})
    }

    pub(crate) fn delete(&mut self, call: &DeleteRequest) -> Result<DeleteResponse, Failure> {
        self.end_unstarted(&call.exec_id)?;
        let task = self.task_mut()?;
        let at = task.find(&call.exec_id)?;
        let process = task.process(&call.exec_id)?;
        match process.stage {
            Stage::Added | Stage::Stopped => {}
            Stage::Created | Stage::Running | Stage::Draining => return Err(running()),
        }
        let answer = DeleteResponse {
            pid: process.pid_number(),
            exit_status: process.exit.map_or(0, |exit| exit.status),
            exited_at: process.exit.map(|exit| exit.at.into()),
        };
        if at == INIT {
            let request = Delete {
                id: &task.id,
                bundle: &task.bundle,
                spec: &task.spec,
                cgroup: Some(task.cgroup()?),
            };
            if let Some(tool) = &task.tool {
                tool.delete();
                if let Some(Err(error)) = request.cgroup.map(Cgroup::delete) {
                    note(&Failure::of(&error).message);
                }
            } else if let Err(error) = havre_runtime_core::delete(&request) {
                // What is left is swept by the engine; the container itself is gone either way.
                note(&Failure::of(&error).message);
            }
            self.task = None;
        } else {
            self.forget(at);
        }
        self.publish(&TaskDelete {
            container_id: call.id.clone(),
            pid: answer.pid,
            exit_status: answer.exit_status,
            exited_at: answer.exited_at,
            id: call.exec_id.clone(),
        });
        Ok(answer)
    }

    /// Lets go of a process. Who still waits for one that was never started, or is attached to
    /// it, must not be taken for a client of the next process of this number.
    fn forget(&mut self, at: usize) {
        self.release_clients(at);
        let Some(process) = self
            .task
            .as_mut()
            .and_then(|task| task.processes.remove(at))
        else {
            return;
        };
        for waiter in process.waiters {
            let message = format!("process {} was deleted", process.asked.exec_id);
            self.respond(waiter, Err(Failure::new(ErrorKind::NotFound, message)));
        }
    }

    /// A container that was made and never started is ended by its Delete.
    fn end_unstarted(&mut self, exec_id: &str) -> Result<(), Failure> {
        let process = self.task()?.process(exec_id)?;
        let (Stage::Created, Some(pid)) = (process.stage, process.pid()) else {
            return Ok(());
        };
        let failed = |error| Failure::internal("end the process", error);
        if self.task()?.paused {
            // A frozen process of version 1 does not take even this signal.
            self.resume()?;
        }
        let process = self.task()?.process(exec_id)?;
        process.kill(Signal::KILL).map_err(failed)?;
        let status = process.wait().map_err(failed)?;
        self.collected(pid, u32::try_from(status).ok());
        let at = self.task()?.find(exec_id)?;
        self.finish_process(at);
        Ok(())
    }

    pub(crate) fn pids(&self) -> Result<PidsResponse, Failure> {
        let task = self.task()?;
        let pids = task
            .cgroup()?
            .procs()
            .map_err(|error| Failure::of(&error))?;
        let exec_of = |pid: u32| {
            let mut processes = task.processes.iter().map(|(_, process)| process);
            let process = processes.find(|process| process.pid_number() == pid)?;
            let exec_id = process.asked.exec_id.clone();
            (!exec_id.is_empty()).then(|| {
                Any::pack(
                    "containerd.runc.v1.ProcessDetails",
                    &ProcessDetails { exec_id },
                )
            })
        };
        let processes = pids.into_iter().map(|pid| ProcessInfo {
            pid,
            info: exec_of(pid),
        });
        Ok(PidsResponse {
            processes: processes.collect(),
        })
    }

    pub(crate) fn pause(&mut self) -> Result<Empty, Failure> {
        let task = self.task_mut()?;
        task.cgroup()?
            .freeze()
            .map_err(|error| Failure::of(&error))?;
        task.paused = true;
        let container_id = task.id.clone();
        self.publish(&TaskPaused { container_id });
        Ok(Empty {})
    }

    pub(crate) fn resume(&mut self) -> Result<Empty, Failure> {
        let task = self.task_mut()?;
        task.cgroup()?.thaw().map_err(|error| Failure::of(&error))?;
        task.paused = false;
        let container_id = task.id.clone();
        self.publish(&TaskResumed { container_id });
        Ok(Empty {})
    }

    pub(crate) fn resize(&mut self, call: &ResizePtyRequest) -> Result<Empty, Failure> {
        let process = self.task_mut()?.process_mut(&call.exec_id)?;
        let (rows, columns) = (clamp(call.height), clamp(call.width));
        if process.stage == Stage::Added {
            process.size = Some((rows, columns));
            return Ok(Empty {});
        }
        if !process.asked.terminal {
            return Err(Failure::new(
                ErrorKind::Conflict,
                "the process has no terminal",
            ));
        }
        // A person may drag the window in the moment in which the process ends.
        let Some(terminal) = process.terminal() else {
            return Ok(Empty {});
        };
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(terminal, size)
            .map_err(|error| Failure::internal("resize the terminal", error))?;
        Ok(Empty {})
    }

    pub(crate) fn close_io(&mut self, call: &CloseIoRequest) -> Result<Empty, Failure> {
        let at = self.task()?.find(&call.exec_id)?;
        if call.stdin {
            self.drain_external_input(at);
            self.end_input(at);
        }
        Ok(Empty {})
    }

    pub(crate) fn update(&mut self, call: &UpdateTaskRequest) -> Result<Empty, Failure> {
        let text = call
            .resources
            .as_ref()
            .map_or(&b"{}"[..], |any| any.value.as_slice());
        let resources: LinuxResources = serde_json::from_slice(text).map_err(|error| {
            Failure::new(
                ErrorKind::InvalidParameter,
                format!("invalid resources: {error}"),
            )
        })?;
        let cgroup = self.task_mut()?.cgroup_mut()?;
        cgroup
            .apply(&resources)
            .map_err(|error| Failure::of(&error))?;
        Ok(Empty {})
    }

    pub(crate) fn stats(&self) -> Result<StatsResponse, Failure> {
        let cgroup = self.task()?.cgroup()?;
        let stats = cgroup.stats().map_err(|error| Failure::of(&error))?;
        let kills = cgroup.oom_kills().map_err(|error| Failure::of(&error))?;
        let any = Any::pack(metrics::TYPE_URL, &to_metrics(&stats, kills));
        Ok(StatsResponse { stats: Some(any) })
    }

    pub(crate) fn connect(&self) -> ConnectResponse {
        let init = self.task.as_ref().and_then(|task| task.processes.get(INIT));
        ConnectResponse {
            shim_pid: u32::try_from(getpid().as_raw_nonzero().get()).unwrap_or(0),
            task_pid: init.map_or(0, |init| init.pid_number()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Ends the shim when it holds no container, or in any case with `now`.
    pub(crate) const fn shutdown(&mut self, call: &ShutdownRequest) -> Empty {
        self.ending = self.ending || call.now || self.task.is_none();
        Empty {}
    }
}

fn clamp(size: u32) -> u16 {
    u16::try_from(size).unwrap_or(u16::MAX)
}

fn running() -> Failure {
    Failure::new(ErrorKind::Conflict, "process is still running")
}

fn not_created(id: &str) -> Failure {
    Failure::new(ErrorKind::NotFound, format!("container {id} not created"))
}
