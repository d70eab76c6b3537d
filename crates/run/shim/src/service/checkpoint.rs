//! Checkpoint, and Create from one. The shim answers nobody while CRIU works: the container stands still meanwhile.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use havre_runtime_core::{
    CgroupsMode, Checkpoint, Create, Created, CriuOptions, Restore, RuntimeError, StdioSpec,
    checkpoint, restore,
};
use havre_shim_proto::events::TaskCheckpointed;
use havre_shim_proto::task::CheckpointTaskRequest;
use havre_shim_proto::{CheckpointOptions, Empty};
use havre_types::ErrorKind;
use prost::Message as _;
use rustix::fs::{FileType, fstat};

use crate::error::Failure;
use crate::process::Stage;
use crate::server::Server;
use crate::task::{Criu, INIT};

impl Server {
    pub(crate) fn checkpoint(&mut self, call: &CheckpointTaskRequest) -> Result<Empty, Failure> {
        let asked = asked(call)?;
        let task = self.task()?;
        let init = task.processes.get(INIT);
        let running = init.filter(|init| init.stage == Stage::Running);
        let Some(init_pid) = running.and_then(|init| init.pid()) else {
            let message = format!("container {} is not running", task.id);
            return Err(Failure::new(ErrorKind::Conflict, message));
        };
        if task.tool.is_some() {
            return Err(foreign());
        }
        // CRIU writes one tree of processes; those of exec stand beside it and would be lost.
        if task
            .processes
            .iter()
            .any(|(at, process)| at != INIT && process.is_alive())
        {
            let message = format!(
                "container {} has running exec processes, which a checkpoint cannot hold",
                task.id
            );
            return Err(Failure::new(ErrorKind::Conflict, message));
        }
        let path = match asked.image_path.as_str() {
            "" => &call.path,
            path => path,
        };
        let request = Checkpoint {
            bundle: &task.bundle,
            spec: &task.spec,
            init_pid,
            cgroup: task.cgroup()?,
            images: Path::new(path),
            leave_running: !asked.exit,
            pre_dump: false,
            parent: None,
            page_server: None,
            descriptors: &task.criu.descriptors,
            options: &options(&asked, &task.criu)?,
        };
        checkpoint(&request).map_err(|error| Failure::of(&error))?;
        let (container_id, checkpoint) = (call.id.clone(), path.to_owned());
        self.publish(&TaskCheckpointed {
            container_id,
            checkpoint,
        });
        Ok(Empty {})
    }
}

fn asked(call: &CheckpointTaskRequest) -> Result<CheckpointOptions, Failure> {
    let own = call
        .options
        .as_ref()
        .filter(|any| any.type_name() == CheckpointOptions::TYPE_URL);
    let Some(any) = own else {
        return Ok(CheckpointOptions::default());
    };
    CheckpointOptions::decode(any.value.as_slice())
        .map_err(|error| invalid(format!("invalid options: {error}")))
}

fn options(asked: &CheckpointOptions, criu: &Criu) -> Result<CriuOptions, Failure> {
    if let Some(name) = asked
        .empty_namespaces
        .iter()
        .find(|name| *name != "network")
    {
        return Err(invalid(format!("namespace {name:?} cannot be left empty")));
    }
    Ok(CriuOptions {
        program: criu.program.clone(),
        work: Some(&asked.work_path)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        tcp_established: asked.open_tcp,
        ext_unix_sk: asked.external_unix_sockets,
        shell_job: asked.terminal,
        file_locks: asked.file_locks,
        empty_network: !asked.empty_namespaces.is_empty(),
        cgroups: match asked.cgroups_mode.as_str() {
            "" | "ignore" => CgroupsMode::Ignore,
            "soft" => CgroupsMode::Soft,
            "full" => CgroupsMode::Full,
            "strict" => CgroupsMode::Strict,
            other => return Err(invalid(format!("unknown cgroups mode {other:?}"))),
        },
        ..CriuOptions::default()
    })
}

/// Makes the container from a checkpoint. What that holds was allowed when it was written.
pub(crate) fn bring_back(
    create: Create<'_>,
    images: &Path,
    criu: &Criu,
) -> Result<Created, RuntimeError> {
    let options = CriuOptions {
        program: criu.program.clone(),
        work: Some(create.bundle.join("criu")),
        tcp_established: true,
        ext_unix_sk: true,
        shell_job: true,
        file_locks: true,
        ..CriuOptions::default()
    };
    restore(&Restore {
        create,
        images,
        options: &options,
    })
}

/// Where each stream leads, as it will be seen in the process.
pub(crate) fn destinations(stdio: &StdioSpec) -> Vec<String> {
    let StdioSpec::Fds {
        stdin,
        stdout,
        stderr,
    } = stdio
    else {
        return Vec::new();
    };
    let name = |fd: &OwnedFd| match fstat(fd) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo => {
            format!("pipe:[{}]", stat.st_ino)
        }
        _ => String::new(),
    };
    [stdin, stdout, stderr].map(name).to_vec()
}

pub(crate) fn foreign() -> Failure {
    let message = "checkpoints of containers that another runtime makes are not supported";
    Failure::new(ErrorKind::NotImplemented, message)
}

fn invalid(message: String) -> Failure {
    Failure::new(ErrorKind::InvalidParameter, message)
}
