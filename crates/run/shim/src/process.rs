//! One process of the container: its stage, its streams and who waits for it.

use std::os::fd::OwnedFd;
use std::time::Instant;

use havre_runtime_core::{Created, ExecChild};
use havre_shim_proto::attach::Stream;
use havre_shim_proto::task::TaskStatus;
use havre_sys::process::Exit as Exited;
use havre_types::Timestamp;
use oci_spec::runtime::Process as ProcessSpec;
use rustix::process::{Pid, Signal};

use crate::buffer::Outbox;
use crate::foreign::Foreign;
use crate::poll::Interest;

/// Stages in the order in which they are passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Known, not made yet: an exec process before Start.
    Added,
    /// Made, waits at its gate.
    Created,
    Running,
    /// Collected; its output is still being taken over.
    Draining,
    /// Everything is done; Wait is answered.
    Stopped,
}

impl Stage {
    pub(crate) const fn status(self, paused: bool) -> TaskStatus {
        match self {
            Self::Added | Self::Created => TaskStatus::Created,
            Self::Running if paused => TaskStatus::Paused,
            // Until Wait can be answered the process counts as running.
            Self::Running | Self::Draining => TaskStatus::Running,
            Self::Stopped => TaskStatus::Stopped,
        }
    }
}

/// How the process was made.
#[derive(Debug)]
pub(crate) enum Handle {
    Init(Box<Created>),
    Exec(ExecChild),
    Foreign(Box<Foreign>),
}

/// How the process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) status: u32,
    pub(crate) at: Timestamp,
}

/// A caller whose Wait is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) caller: usize,
    pub(crate) stream: u32,
}

/// A stream out of the process.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) fd: OwnedFd,
    pub(crate) stream: Stream,
    pub(crate) interest: Interest,
}

/// The stream into the process.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) fd: OwnedFd,
    pub(crate) queue: Outbox,
    pub(crate) interest: Interest,
    /// No more comes; close once the queue is empty.
    pub(crate) ended: bool,
}

/// What Create or Exec said about the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) exec_id: String,
    pub(crate) terminal: bool,
    pub(crate) stdin_once: bool,
    /// Names of containerd's pipes; empty with our engine.
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) asked: Asked,
    /// Of an exec process that is not started.
    pub(crate) spec: Option<Box<ProcessSpec>>,
    /// Rows and columns that were asked for before there was a terminal.
    pub(crate) size: Option<(u16, u16)>,
    pub(crate) stage: Stage,
    pub(crate) handle: Option<Handle>,
    pub(crate) input: Option<Input>,
    pub(crate) outputs: [Option<Output>; 2],
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) exit: Option<Exit>,
    /// When to stop waiting for the end of output.
    pub(crate) drain_until: Option<Instant>,
}

impl Process {
    pub(crate) const fn new(asked: Asked) -> Self {
        Self {
            asked,
            spec: None,
            size: None,
            stage: Stage::Added,
            handle: None,
            input: None,
            outputs: [None, None],
            waiters: Vec::new(),
            exit: None,
            drain_until: None,
        }
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        match self.handle.as_ref()? {
            Handle::Init(created) => Some(created.pid()),
            Handle::Exec(child) => Some(child.pid()),
            Handle::Foreign(made) => Some(made.child.pid),
        }
    }

    pub(crate) fn pid_number(&self) -> u32 {
        self.pid()
            .and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())
            .unwrap_or(0)
    }

    /// Whether the process can still take a signal.
    pub(crate) const fn is_alive(&self) -> bool {
        matches!(self.stage, Stage::Created | Stage::Running)
    }

    pub(crate) fn kill(&self, signal: Signal) -> std::io::Result<()> {
        match &self.handle {
            Some(Handle::Init(created)) => created.child().kill(signal),
            Some(Handle::Exec(child)) => child.child().kill(signal),
            Some(Handle::Foreign(made)) => made.child.kill(signal),
            None => Ok(()),
        }
    }

    /// Collects the process, which must be about to end, and gives its status.
    pub(crate) fn wait(&self) -> std::io::Result<i32> {
        match &self.handle {
            Some(Handle::Init(created)) => created.child().wait().map(Exited::status),
            Some(Handle::Exec(child)) => child.child().wait().map(Exited::status),
            Some(Handle::Foreign(made)) => made.child.wait().map(Exited::status),
            None => Ok(0),
        }
    }

    /// The descriptor of its terminal, if it has one.
    pub(crate) fn terminal(&self) -> Option<&OwnedFd> {
        if !self.asked.terminal {
            return None;
        }
        self.outputs
            .iter()
            .flatten()
            .map(|output| &output.fd)
            .next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_as_the_task_api_names_them() {
        use TaskStatus::{Created, Paused, Running, Stopped};
        let table = [
            (Stage::Added, Created, Created),
            (Stage::Created, Created, Created),
            (Stage::Running, Running, Paused),
            (Stage::Draining, Running, Running),
            (Stage::Stopped, Stopped, Stopped),
        ];
        for (stage, normal, paused) in table {
            assert_eq!(
                (stage.status(false), stage.status(true)),
                (normal, paused),
                "{stage:?}"
            );
        }
    }
}
