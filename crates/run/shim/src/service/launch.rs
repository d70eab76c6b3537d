//! Create, Exec and Start: the calls that make processes.

use std::path::{Path, PathBuf};

use havre_cgroup::{Cgroup, Host};
use havre_runtime_core::{Create, Exec, Gate, RootfsMount, StdioSpec, create, exec};
use havre_shim_proto::events::{TaskCreate, TaskExecAdded, TaskExecStarted, TaskIo, TaskStart};
use havre_shim_proto::task::{
    CreateTaskRequest, CreateTaskResponse, ExecProcessRequest, StartRequest, StartResponse,
};
use havre_shim_proto::{Empty, HavreOptions, RuntimeOptions};
use havre_types::{ErrorKind, Timestamp};
use oci_spec::runtime::Spec;
use prost::Message as _;

use crate::error::{Failure, note};
use crate::foreign::Tool;
use crate::log::Log;
use crate::process::{Asked, Exit, Handle, Process, Stage};
use crate::server::Server;
use crate::service::checkpoint;
use crate::slab::Slab;
use crate::stdio::{OurEnds, Stdin, pipes};
use crate::task::{Criu, INIT, Task};

impl Server {
    pub(crate) fn create(
        &mut self,
        call: CreateTaskRequest,
    ) -> Result<CreateTaskResponse, Failure> {
        if self.task.is_some() {
            let message = format!("container {} exists already", call.id);
            return Err(Failure::new(ErrorKind::Conflict, message));
        }
        let options = own_options(&call)?;
        let spec = Box::new(read_spec(Path::new(&call.bundle))?);
        let log = match &options.log {
            Some(options) => Log::open(options)?,
            None => None,
        };
        let open_stdin = options.open_stdin || !call.stdin.is_empty();
        let (ends, stdio) = streams(match call.terminal {
            true => Streams::Terminal(None),
            false => Streams::Pipes(Stdin::from_wish(open_stdin)),
        })?;
        let mounts: Vec<_> = call
            .rootfs
            .iter()
            .map(|mount| RootfsMount {
                fstype: mount.fstype.clone(),
                source: mount.source.clone(),
                options: mount.options.clone(),
            })
            .collect();
        let host = Host::detect().map_err(|error| Failure::of(&error))?;
        let tool = tool(&call, options.runtime);
        let criu = Criu {
            program: Some(options.criu)
                .filter(|program| !program.is_empty())
                .map(PathBuf::from),
            descriptors: checkpoint::destinations(&stdio),
        };
        let handle = match &tool {
            Some(_) if !call.checkpoint.is_empty() => return Err(checkpoint::foreign()),
            Some(tool) => {
                let made = tool.create(&spec, &mounts, &stdio, &host)?;
                Handle::Foreign(Box::new(made))
            }
            None => own_init(&call, &spec, &mounts, stdio, &host, &criu)?,
        };
        let mut init = Process::new(Asked {
            exec_id: String::new(),
            terminal: call.terminal,
            stdin_once: options.stdin_once,
            stdin: call.stdin.clone(),
            stdout: call.stdout.clone(),
            stderr: call.stderr.clone(),
        });
        init.handle = Some(handle);
        init.stage = Stage::Created;
        let pid = init.pid_number();
        let mut processes = Slab::default();
        processes.insert(init);
        self.task = Some(Task {
            id: call.id.clone(),
            bundle: call.bundle.clone().into(),
            spec,
            processes,
            log,
            paused: false,
            oom_killed: false,
            tool,
            criu,
            memory_peak: 0,
        });
        if let Err(failure) = self.take_streams(INIT, ends) {
            self.undo_create();
            return Err(failure);
        }
        let pid_file = Path::new(&call.bundle).join("init.pid");
        if let Err(error) = fs_err::write(&pid_file, pid.to_string()) {
            // The file is for people and for cleaning up; the container does not need it.
            note(&error.to_string());
        }
        self.publish_created(call, pid);
        Ok(CreateTaskResponse { pid })
    }

    fn publish_created(&mut self, call: CreateTaskRequest, pid: u32) {
        if self.publisher.is_none() {
            return;
        }
        self.publish(&TaskCreate {
            container_id: call.id,
            bundle: call.bundle,
            rootfs: call.rootfs,
            io: Some(TaskIo {
                stdin: call.stdin,
                stdout: call.stdout,
                stderr: call.stderr,
                terminal: call.terminal,
            }),
            checkpoint: call.checkpoint,
            pid,
        });
    }

    /// Ends and removes a container whose streams cannot be had.
    fn undo_create(&mut self) {
        self.release_clients(INIT);
        let Some(task) = self.task.take() else { return };
        let Some(init) = task.processes.get(INIT) else {
            return;
        };
        let ended = init.kill(rustix::process::Signal::KILL);
        if let Err(error) = ended.and_then(|()| init.wait().map(drop)) {
            note(&format!("failed to end the container: {error}"));
        }
        if let Some(tool) = &task.tool {
            tool.delete();
        }
        if let Ok(Err(error)) = task.cgroup().map(Cgroup::delete) {
            note(&Failure::of(&error).message);
        }
    }

    pub(crate) fn exec(&mut self, call: ExecProcessRequest) -> Result<Empty, Failure> {
        let task = self.task_mut()?;
        if call.exec_id.is_empty() || task.find(&call.exec_id).is_ok() {
            let message = format!("exec {} exists already", call.exec_id);
            return Err(Failure::new(ErrorKind::Conflict, message));
        }
        if task
            .processes
            .get(INIT)
            .is_none_or(|init| init.stage != Stage::Running)
        {
            let message = format!("container {} is not running", task.id);
            return Err(Failure::new(ErrorKind::Conflict, message));
        }
        let text = call.spec.map(|any| any.value).unwrap_or_default();
        let spec = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(
                ErrorKind::InvalidParameter,
                format!("invalid process: {error}"),
            )
        })?;
        let mut process = Process::new(Asked {
            exec_id: call.exec_id.clone(),
            terminal: call.terminal,
            stdin_once: true,
            stdin: call.stdin,
            stdout: call.stdout,
            stderr: call.stderr,
        });
        process.spec = Some(Box::new(spec));
        task.processes.insert(process);
        self.publish(&TaskExecAdded {
            container_id: call.id,
            exec_id: call.exec_id,
        });
        Ok(Empty {})
    }

    pub(crate) fn start(&mut self, call: &StartRequest) -> Result<StartResponse, Failure> {
        let task = self.task_mut()?;
        let at = task.find(&call.exec_id)?;
        let process = task.process(&call.exec_id)?;
        if task.paused {
            // The process would be frozen before it has executed its program, and we with it.
            let message = format!("container {} is paused", task.id);
            return Err(Failure::new(ErrorKind::Conflict, message));
        }
        match (process.stage, at) {
            (Stage::Created, INIT) => self.start_init()?,
            (Stage::Added, _) => self.start_exec(at)?,
            (Stage::Created | Stage::Running, _) => {
                return Err(Failure::new(
                    ErrorKind::Conflict,
                    "process is already started",
                ));
            }
            (Stage::Draining | Stage::Stopped, _) => {
                return Err(Failure::new(
                    ErrorKind::Conflict,
                    "process has already ended",
                ));
            }
        }
        let pid = self.task()?.process(&call.exec_id)?.pid_number();
        if at == INIT {
            self.publish(&TaskStart {
                container_id: call.id.clone(),
                pid,
            });
        } else {
            let (container_id, exec_id) = (call.id.clone(), call.exec_id.clone());
            self.publish(&TaskExecStarted {
                container_id,
                exec_id,
                pid,
            });
        }
        Ok(StartResponse { pid })
    }

    fn start_init(&mut self) -> Result<(), Failure> {
        self.keep_sources(INIT)?;
        let tool = self.task()?.tool.clone();
        let process = self.task_mut()?.process_mut("")?;
        // When this fails the process has ended, or is about to; `reap` finishes it.
        match (process.handle.as_mut(), tool) {
            (Some(Handle::Init(created)), _) => {
                created.start().map_err(|error| Failure::of(&error))?;
            }
            (Some(Handle::Foreign(_)), Some(tool)) => tool.start()?,
            (Some(Handle::Foreign(_) | Handle::Exec(_)) | None, _) => {
                let text = "the container has no process";
                return Err(Failure::new(ErrorKind::Internal, text));
            }
        }
        process.stage = Stage::Running;
        Ok(())
    }

    fn start_exec(&mut self, at: usize) -> Result<(), Failure> {
        let wants_input = self.has_input_client(at);
        let task = self.task.as_mut().ok_or_else(gone)?;
        let init_pid = task.process("")?.pid().ok_or_else(gone)?;
        let process = task.processes.get(at).ok_or_else(gone)?;
        let spec = process.spec.clone().ok_or_else(gone)?;
        let open_stdin = wants_input || !process.asked.stdin.is_empty();
        let (ends, stdio) = streams(match process.asked.terminal {
            true => Streams::Terminal(process.size),
            false => Streams::Pipes(Stdin::from_wish(open_stdin)),
        })?;
        let outcome = match &task.tool {
            Some(tool) => match tool.exec(&spec, &stdio) {
                Ok(made) => Ok(Handle::Foreign(Box::new(made))),
                Err(failure) => Err((NOT_EXECUTED, failure)),
            },
            None => exec(&Exec {
                id: &task.id,
                init_pid,
                spec: &task.spec,
                process: &spec,
                stdio,
                cgroup: Some(task.cgroup()?),
                gate: Gate::Hold,
                preserve_fds: 0,
                die_with_parent: true,
            })
            .map(Handle::Exec)
            .map_err(|error| (error.exit_code().into(), Failure::of(&error))),
        };
        let process = task.processes.get_mut(at).ok_or_else(gone)?;
        process.spec = None;
        let handle = match outcome {
            Ok(handle) => handle,
            Err((status, failure)) => {
                // Whoever waits for it or is attached to it must not wait for ever.
                process.exit = Some(Exit {
                    status,
                    at: Timestamp::now(),
                });
                self.finish_process(at);
                return Err(failure);
            }
        };

        process.handle = Some(handle);
        process.stage = Stage::Created;
        self.take_streams(at, ends)?;
        self.keep_sources(at)?;
        let process = self.task_mut()?.processes.get_mut(at).ok_or_else(gone)?;
        if let Some(Handle::Exec(child)) = process.handle.as_mut() {
            child.start().map_err(|error| Failure::of(&error))?;
        }
        process.stage = Stage::Running;
        // What they sent before the process existed lies in their sockets.
        self.resume_clients(at);
        Ok(())
    }

    /// Puts our ends of the streams to use: the terminal's if there is one.
    fn take_streams(&mut self, at: usize, ends: OurEnds) -> Result<(), Failure> {
        let process = self.task_mut()?.processes.get_mut(at).ok_or_else(gone)?;
        let console = match process.handle.as_mut() {
            Some(Handle::Init(created)) => created.console(),
            Some(Handle::Exec(child)) => child.console(),
            Some(Handle::Foreign(made)) => made.console.take(),
            None => None,
        };
        let ends = match console {
            Some(master) => OurEnds::terminal(master)?,
            None => ends,
        };
        self.connect_streams(at, ends)
    }
}

/// What a shell answers for a command that cannot be executed; other runtimes do not tell more.
const NOT_EXECUTED: u32 = 126;

/// The kind of streams that a process gets.
#[derive(Clone, Copy)]
enum Streams {
    /// With this size, if one was asked for.
    Terminal(Option<(u16, u16)>),
    Pipes(Stdin),
}

/// The program of another runtime, if the engine names one.
fn tool(call: &CreateTaskRequest, runtime: Option<RuntimeOptions>) -> Option<Tool> {
    let RuntimeOptions { program, arguments } = runtime?;
    Some(Tool {
        program,
        arguments,
        bundle: call.bundle.clone().into(),
        id: call.id.clone(),
    })
}

fn own_init(
    call: &CreateTaskRequest,
    spec: &Spec,
    rootfs_mounts: &[RootfsMount],
    stdio: StdioSpec,
    cgroup_host: &Host,
    criu: &Criu,
) -> Result<Handle, Failure> {
    let request = Create {
        id: &call.id,
        bundle: Path::new(&call.bundle),
        spec,
        rootfs_mounts,
        stdio,
        cgroup_host,
        gate: Gate::Hold,
        preserve_fds: 0,
        die_with_parent: true,
    };
    let created = if call.checkpoint.is_empty() {
        create(&request)
    } else {
        checkpoint::bring_back(request, Path::new(&call.checkpoint), criu)
    };
    let created = created.map_err(|error| Failure::of(&error))?;
    Ok(Handle::Init(Box::new(created)))
}

fn gone() -> Failure {
    Failure::new(ErrorKind::NotFound, "the container is gone")
}

/// Streams for a process: its terminal is made by the runtime, pipes by us.
fn streams(asked: Streams) -> Result<(OurEnds, StdioSpec), Failure> {
    match asked {
        Streams::Terminal(size) => Ok((OurEnds::default(), StdioSpec::Terminal { size })),
        Streams::Pipes(stdin) => pipes(stdin),
    }
}

/// Our engine's options; those of other engines (containerd's for runc) ask for nothing that we have.
fn own_options(call: &CreateTaskRequest) -> Result<HavreOptions, Failure> {
    match &call.options {
        Some(any) if any.type_name() == HavreOptions::TYPE_URL => {
            HavreOptions::decode(any.value.as_slice()).map_err(|error| {
                Failure::new(
                    ErrorKind::InvalidParameter,
                    format!("invalid options: {error}"),
                )
            })
        }
        _ => Ok(HavreOptions::default()),
    }
}

pub(crate) fn read_spec(bundle: &Path) -> Result<Spec, Failure> {
    let path = bundle.join("config.json");
    let text = fs_err::read(&path)
        .map_err(|error| Failure::internal("read the container's configuration", error))?;
    serde_json::from_slice(&text).map_err(|error| {
        let message = format!("invalid configuration `{}`: {error}", path.display());
        Failure::new(ErrorKind::InvalidParameter, message)
    })
}
