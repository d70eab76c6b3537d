//! The container as the shim knows it.

use std::path::PathBuf;

use havre_cgroup::Cgroup;
use havre_types::ErrorKind;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::Failure;
use crate::foreign::Tool;
use crate::log::Log;
use crate::process::{Handle, Process};
use crate::slab::Slab;

/// Place of the container's first process in [`Task::processes`].
pub(crate) const INIT: usize = 0;

/// For checkpoints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Criu {
    /// The program; without it `criu` in PATH.
    pub(crate) program: Option<PathBuf>,
    /// Where the standard streams of the first process led when it was made, as `/proc/PID/fd` names it.
    pub(crate) descriptors: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) spec: Box<Spec>,
    pub(crate) processes: Slab<Process>,
    pub(crate) log: Option<Log>,
    pub(crate) paused: bool,
    pub(crate) oom_killed: bool,
    /// The runtime that makes the processes, when it is not our own.
    pub(crate) tool: Option<Tool>,
    /// What a checkpoint needs to know beside the configuration.
    pub(crate) criu: Criu,
    /// In bytes; only asked for then.
    pub(crate) memory_peak: u64,
}

impl Task {
    /// The process of this name; the empty name is the first one.
    pub(crate) fn find(&self, exec_id: &str) -> Result<usize, Failure> {
        let found = self
            .processes
            .iter()
            .find(|(_, process)| process.asked.exec_id == exec_id);
        found.map(|(at, _)| at).ok_or_else(|| {
            let message = if exec_id.is_empty() {
                format!("container {} not created", self.id)
            } else {
                format!("process {exec_id} not found in container {}", self.id)
            };
            Failure::new(ErrorKind::NotFound, message)
        })
    }

    pub(crate) fn process(&self, exec_id: &str) -> Result<&Process, Failure> {
        let at = self.find(exec_id)?;
        self.processes.get(at).ok_or_else(|| lost(exec_id))
    }

    pub(crate) fn process_mut(&mut self, exec_id: &str) -> Result<&mut Process, Failure> {
        let at = self.find(exec_id)?;
        self.processes.get_mut(at).ok_or_else(|| lost(exec_id))
    }

    /// The container's cgroup, until Delete.
    pub(crate) fn cgroup(&self) -> Result<&Cgroup, Failure> {
        let init = self.processes.get(INIT);
        let found = match init.and_then(|init| init.handle.as_ref()) {
            Some(Handle::Init(created)) => Some(created.cgroup()),
            Some(Handle::Foreign(made)) => made.cgroup.as_ref(),
            Some(Handle::Exec(_)) | None => None,
        };
        found.ok_or_else(|| self.not_created())
    }

    /// The same, for a change that may add hierarchies: whoever enters later and the end must know them.
    pub(crate) fn cgroup_mut(&mut self) -> Result<&mut Cgroup, Failure> {
        let missing = self.not_created();
        let init = self.processes.get_mut(INIT);
        let found = match init.and_then(|init| init.handle.as_mut()) {
            Some(Handle::Init(created)) => Some(created.cgroup_mut()),
            Some(Handle::Foreign(made)) => made.cgroup.as_mut(),
            Some(Handle::Exec(_)) | None => None,
        };
        found.ok_or(missing)
    }

    fn not_created(&self) -> Failure {
        let message = format!("container {} not created", self.id);
        Failure::new(ErrorKind::NotFound, message)
    }

    /// Without a PID namespace of its own the kernel does not end the other processes with the first.
    pub(crate) fn shares_pid_namespace(&self) -> bool {
        let namespaces = self
            .spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.namespaces().as_ref());
        !namespaces.into_iter().flatten().any(|namespace| {
            namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none()
        })
    }
}

fn lost(exec_id: &str) -> Failure {
    Failure::new(ErrorKind::NotFound, format!("process {exec_id} not found"))
}
