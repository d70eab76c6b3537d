//! The engine's side of a shim: starting it from a sealed copy, and calling it with a deadline.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use havre_api_traits::{ApiError, ApiResult};
use havre_shim_proto::attach::AttachRequest;
use havre_shim_proto::client::{AttachReader, AttachWriter, TaskClient, attach};
use havre_shim_proto::task::{
    CreateTaskRequest, DeleteRequest, ExecProcessRequest, KillRequest, Mount, PauseRequest,
    ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest, StateRequest, StateResponse,
    UpdateTaskRequest, WaitRequest,
};
use havre_shim_proto::{Any, HavreOptions, LogOptions, RpcError, RuntimeOptions, TaskRequest};
use havre_sys::process::Child;
use havre_sys::spawn::{Program, Slots, Spawn};
use havre_types::{Classify as _, ContainerId, ErrorKind, Timestamp};
use rustix::fs::{Mode, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::container::{Exit, SHIM_DEADLINE};
use crate::runtimes::OciRuntime;

mod checkpoint;
pub(crate) mod init;
mod process;

use checkpoint::CHECKPOINT_DEADLINE;
use process::Process;
pub(crate) use process::kill_left;

const PROGRAM: &str = "containerd-shim-havre-v2";
const TASK_SOCKET: &str = "shim.sock";
const ATTACH_SOCKET: &str = "attach.sock";
const PID_FILE: &str = "shim.pid";
/// How long attached clients may take to read the last output.
const DRAIN: Duration = Duration::from_secs(10);
/// A signal is delivered at once or not at all: then the engine does it itself.
const SIGNAL_DEADLINE: Duration = Duration::from_secs(3);
/// How long the kernel may take to freeze everything, or to change a limit.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// Descriptors that the shim expects to be listening.
const TASK_FD: i32 = 3;
const ATTACH_FD: i32 = 4;

/// Starts shims. The program is copied once, so that an upgrade of the file never meets a half-written one, and
/// no process of a container can reach it (CVE-2019-5736).
#[derive(Debug)]
pub(crate) struct Launcher {
    program: OwnedFd,
    slots: Slots,
}

/// A shim that was started and listens.
#[derive(Debug)]
pub(crate) struct Started {
    id: ContainerId,
    bundle: PathBuf,
    child: Child,
}

/// One mount of a container's root.
#[derive(Clone, Debug)]
pub(crate) struct RootMount {
    pub kind: String,
    pub source: PathBuf,
    pub options: Vec<String>,
}

/// What Create needs beyond the bundle.
#[derive(Debug)]
pub(crate) struct CreateTask {
    pub rootfs: Vec<RootMount>,
    /// The program that makes the container; none: the shim itself.
    pub runtime: Option<OciRuntime>,
    /// The directory of a checkpoint that it is made from.
    pub checkpoint: Option<PathBuf>,
    /// CRIU, if the engine knows where it is.
    pub criu: Option<PathBuf>,
    pub terminal: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub log: LogOptions,
}

impl Launcher {
    pub(crate) fn open(program: &Path) -> io::Result<Self> {
        let file = fs_err::File::open(program)?;
        Ok(Self {
            program: havre_sys::fd::memfd_sealed(c"havre-shim", file)?,
            slots: Slots::reserve()?,
        })
    }

    /// Binds the sockets in the bundle and starts a shim that listens on them. Blocks for about a millisecond.
    pub(crate) fn spawn(&self, id: &ContainerId, bundle: &Path) -> io::Result<Started> {
        let dir = open_dir(bundle)?;
        let mode = Mode::from_raw_mode(0o600);
        let task = havre_sys::net::unix_listen_at(dir.as_fd(), OsStr::new(TASK_SOCKET), mode)?;
        let attach = havre_sys::net::unix_listen_at(dir.as_fd(), OsStr::new(ATTACH_SOCKET), mode)?;
        let log = fs_err::File::create(bundle.join("shim.log"))?;
        let null = fs_err::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        let words = [
            PROGRAM,
            "serve",
            "--namespace",
            "havre",
            "--id",
            id.as_str(),
            "--bundle",
        ];
        let mut argv = words
            .into_iter()
            .map(CString::new)
            .collect::<Result<Vec<_>, _>>()?;
        argv.push(CString::new(bundle.as_os_str().as_encoded_bytes())?);
        let child = Spawn::new(Program::Fd(self.program.as_fd()), argv)
            .cwd(dir.as_fd())
            .fd(null.as_fd(), 0)
            .fd(null.as_fd(), 1)
            .fd(log.as_fd(), 2)
            .fd(task.as_fd(), TASK_FD)
            .fd(attach.as_fd(), ATTACH_FD)
            .new_session()
            .slots(&self.slots)
            .spawn()?;
        let number = child.pid.as_raw_nonzero().to_string();
        if let Err(err) = fs_err::write(bundle.join(PID_FILE), number) {
            end(&child);
            return Err(err);
        }
        Ok(Started {
            id: id.clone(),
            bundle: bundle.to_owned(),
            child,
        })
    }
}

/// Ends a shim that has no container yet.
fn end(child: &Child) {
    if let Err(err) = child
        .kill(rustix::process::Signal::KILL)
        .and_then(|()| child.wait())
    {
        tracing::warn!(error = %err, "a shim that is not needed does not end");
    }
}

fn text_of(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string())
        .unwrap_or_default()
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A shim that the engine talks to.
#[derive(Debug)]
pub(crate) struct Shim {
    id: ContainerId,
    bundle: PathBuf,
    /// Sockets are reached through it, so that the length of the path never matters.
    dir: OwnedFd,
    client: TaskClient,
    process: Process,
    /// Attached clients that still read.
    sessions: watch::Sender<usize>,
}

/// Counts one attached client as long as it lives.
#[derive(Debug)]
pub(crate) struct Session(watch::Sender<usize>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Shim {
    pub(crate) async fn connect(started: Started) -> io::Result<Self> {
        let Started { id, bundle, child } = started;
        let connected = Self::dial(id, bundle, Process::Unknown).await;
        match connected {
            Ok(shim) => Ok(Self {
                process: Process::Own(child),
                ..shim
            }),
            Err(err) => {
                end(&child);
                Err(err)
            }
        }
    }

    /// Connects to the shim that an earlier engine started.
    pub(crate) async fn reconnect(id: ContainerId, bundle: PathBuf) -> io::Result<Self> {
        let process = Process::find(&id, &bundle);
        Self::dial(id, bundle, process).await
    }

    async fn dial(id: ContainerId, bundle: PathBuf, process: Process) -> io::Result<Self> {
        let dir = open_dir(&bundle)?;
        let stream = UnixStream::connect(through(&dir, TASK_SOCKET)).await?;
        let (client, sessions) = (TaskClient::new(stream), watch::Sender::new(0));
        Ok(Self {
            id,
            bundle,
            dir,
            client,
            process,
            sessions,
        })
    }

    pub(crate) async fn create(&self, task: &CreateTask) -> ApiResult<u32> {
        let options = HavreOptions {
            log: Some(task.log.clone()),
            open_stdin: task.open_stdin,
            stdin_once: task.stdin_once,
            runtime: task.runtime.as_ref().map(|runtime| RuntimeOptions {
                program: runtime.path.display().to_string(),
                arguments: runtime.args.clone(),
            }),
            criu: text_of(task.criu.as_deref()),
        };
        let rootfs = task.rootfs.iter().map(|mount| Mount {
            fstype: mount.kind.clone(),
            source: mount.source.display().to_string(),
            target: String::new(),
            options: mount.options.clone(),
        });
        let request = CreateTaskRequest {
            id: self.id.to_string(),
            bundle: self.bundle.display().to_string(),
            rootfs: rootfs.collect(),
            terminal: task.terminal,
            checkpoint: text_of(task.checkpoint.as_deref()),
            options: Some(options.to_any()),
            ..CreateTaskRequest::default()
        };
        let limit = match task.checkpoint {
            Some(_) => CHECKPOINT_DEADLINE,
            None => SHIM_DEADLINE,
        };
        Ok(self.call_within(limit, &request).await?.pid)
    }

    pub(crate) async fn start(&self, exec: &str) -> ApiResult<u32> {
        let request = StartRequest {
            id: self.id.to_string(),
            exec_id: exec.to_owned(),
        };
        Ok(self.call(&request).await?.pid)
    }

    /// Sends a signal. A shim that does not even answer to SIGKILL is ended itself, and its container with it.
    pub(crate) async fn kill(&self, exec: &str, signal: u32) -> ApiResult<()> {
        let request = KillRequest {
            id: self.id.to_string(),
            exec_id: exec.to_owned(),
            signal,
            all: false,
        };
        let sent = self
            .call_within(SIGNAL_DEADLINE, &request)
            .await
            .map(|_| ());
        match sent {
            Err(err)
                if signal == crate::signal::KILL
                    && exec.is_empty()
                    && err.kind == ErrorKind::DeadlineExceeded =>
            {
                tracing::warn!(container = %self.id, "shim does not answer and is killed with its container");
                self.process.kill();
                Ok(())
            }
            other => other,
        }
    }

    pub(crate) async fn state(&self, exec: &str) -> ApiResult<StateResponse> {
        self.call(&StateRequest {
            id: self.id.to_string(),
            exec_id: exec.to_owned(),
        })
        .await
    }

    /// Adds a process, which waits for [`Shim::start`].
    pub(crate) async fn exec(&self, exec: &str, terminal: bool, process: Vec<u8>) -> ApiResult<()> {
        let request = ExecProcessRequest {
            id: self.id.to_string(),
            exec_id: exec.to_owned(),
            terminal,
            spec: Some(Any::json(
                "types.containerd.io/opencontainers/runtime-spec/1/Process",
                process,
            )),
            ..ExecProcessRequest::default()
        };
        self.call(&request).await.map(|_| ())
    }

    /// Freezes every process of the container.
    pub(crate) async fn pause(&self) -> ApiResult<()> {
        let id = self.id.to_string();
        self.call_within(CHANGE_DEADLINE, &PauseRequest { id })
            .await
            .map(|_| ())
    }

    /// Lets them go on.
    pub(crate) async fn resume(&self) -> ApiResult<()> {
        let id = self.id.to_string();
        self.call_within(CHANGE_DEADLINE, &ResumeRequest { id })
            .await
            .map(|_| ())
    }

    /// Changes the limits of the running container.
    pub(crate) async fn update(&self, resources: Vec<u8>) -> ApiResult<()> {
        let request = UpdateTaskRequest {
            id: self.id.to_string(),
            resources: Some(Any::json(
                "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
                resources,
            )),
            ..UpdateTaskRequest::default()
        };
        self.call_within(CHANGE_DEADLINE, &request)
            .await
            .map(|_| ())
    }

    pub(crate) async fn delete(&self, exec: &str) -> ApiResult<()> {
        let request = DeleteRequest {
            id: self.id.to_string(),
            exec_id: exec.to_owned(),
        };
        self.call(&request).await.map(|_| ())
    }

    pub(crate) async fn resize(&self, exec: &str, height: u16, width: u16) -> ApiResult<()> {
        let request = ResizePtyRequest {
            id: self.id.to_string(),
            exec_id: exec.to_owned(),
            width: width.into(),
            height: height.into(),
        };
        self.call(&request).await.map(|_| ())
    }

    /// The container's first process, found again as a child of this shim.
    pub(crate) fn first_process(&self, pid: u32) -> Option<init::Process> {
        let shim = fs_err::read_to_string(self.bundle.join(PID_FILE)).ok()?;
        init::Process::child(pid, shim.trim().parse().ok()?)
    }

    /// Whether it answers at all within `limit`.
    pub(crate) async fn answers(&self, limit: Duration) -> bool {
        let request = StateRequest {
            id: self.id.to_string(),
            exec_id: String::new(),
        };
        let answer = self.call_within(limit, &request).await;
        !matches!(answer, Err(err) if err.kind == ErrorKind::DeadlineExceeded)
    }

    /// Ends it, without asking.
    pub(crate) fn abandon(&self) {
        self.process.kill();
    }

    /// The record of the end that it has left.
    pub(crate) fn left_exit(&self) -> Option<Exit> {
        Exit::read(&self.bundle)
    }

    /// Waits for the end of an exec process; a shim that died counts as a kill.
    pub(crate) async fn exec_exit(&self, exec: &str) -> i64 {
        let request = WaitRequest {
            id: self.id.to_string(),
            exec_id: exec.to_owned(),
        };
        match self.client.call(&request).await {
            Ok(answer) => answer.exit_status.into(),
            Err(_gone) => Exit::unseen().exit_status,
        }
    }

    /// Waits for the end of the container. The record on disk is the truth; without one the shim was killed or
    /// cannot be talked to: then it is ended, and who asked must see to the container's processes.
    pub(crate) async fn exit(&self) -> Option<Exit> {
        let request = WaitRequest {
            id: self.id.to_string(),
            exec_id: String::new(),
        };
        let answer = self.client.call(&request).await;
        if let Some(exit) = Exit::read(&self.bundle) {
            return Some(exit);
        }
        match answer {
            Ok(answer) => Some(Exit {
                exit_status: answer.exit_status.into(),
                exited_at: answer.exited_at.map_or_else(Timestamp::now, Into::into),
                ..Exit::unseen()
            }),
            Err(err) => {
                tracing::warn!(container = %self.id, error = %err, "shim is gone before its container");
                self.process.kill();
                None
            }
        }
    }

    pub(crate) async fn attach(
        &self,
        request: &AttachRequest,
    ) -> ApiResult<(AttachReader, AttachWriter)> {
        let path = through(&self.dir, ATTACH_SOCKET);
        let attached = deadline(SHIM_DEADLINE, "attach", attach(&path, request)).await?;
        attached.map_err(|err| ApiError::from_classified(&err))
    }

    /// Keeps the shim from being ended while a client reads what it still has.
    pub(crate) fn session(&self) -> Session {
        self.sessions.send_modify(|count| *count += 1);
        Session(self.sessions.clone())
    }

    /// Frees the container, ends the shim and collects it. False: the shim did not free it, so that its cgroup and
    /// what runs in it are left to the caller.
    pub(crate) async fn finish(&self) -> bool {
        let mut sessions = self.sessions.subscribe();
        // A client that does not read for so long loses the rest; the log has it.
        tokio::time::timeout(DRAIN, sessions.wait_for(|count| *count == 0))
            .await
            .ok();
        let freed = self.delete("").await;
        if let Err(err) = &freed {
            tracing::debug!(container = %self.id, error = %err.message, "shim had nothing to delete");
        }
        let request = ShutdownRequest {
            id: self.id.to_string(),
            now: true,
        };
        if let Err(err) = self.call(&request).await {
            tracing::debug!(container = %self.id, error = %err.message, "shim was gone before its end");
            self.process.kill();
        }
        if let Process::Own(child) = &self.process
            && deadline(SHIM_DEADLINE, "shutdown", collect(child))
                .await
                .is_err()
        {
            tracing::warn!(container = %self.id, "shim does not end and is killed");
            self.process.kill();
            collect(child).await;
        }
        freed.is_ok()
    }

    async fn call<R: TaskRequest>(&self, request: &R) -> ApiResult<R::Response> {
        self.call_within(SHIM_DEADLINE, request).await
    }

    async fn call_within<R: TaskRequest>(
        &self,
        limit: Duration,
        request: &R,
    ) -> ApiResult<R::Response> {
        let answer = deadline(limit, R::METHOD, self.client.call(request)).await?;
        answer.map_err(|err| match err {
            RpcError::Status { kind, message } => ApiError::new(kind, message),
            other => ApiError::new(other.kind(), format!("container {}: {other}", self.id)),
        })
    }
}

/// Waits for the end of a child without holding a thread.
async fn collect(child: &Child) {
    let Ok(pidfd) = child.pidfd.try_clone().and_then(readiness) else {
        return;
    };
    // Readable means ended; an error means that somebody else has collected it.
    if pidfd.readable().await.is_ok() {
        child.try_wait().ok();
    }
}

/// Lets a task wait for a descriptor.
#[expect(
    deprecated,
    reason = "an OwnedFd names one descriptor for its whole life; the replacement is unsafe to call"
)]
pub(crate) fn readiness(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

fn through(dir: &OwnedFd, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

async fn deadline<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> ApiResult<T> {
    tokio::time::timeout(limit, work).await.map_err(|_elapsed| {
        ApiError::new(
            ErrorKind::DeadlineExceeded,
            format!("the shim does not answer ({what})"),
        )
    })
}
