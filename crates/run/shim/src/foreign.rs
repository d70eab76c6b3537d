//! Runtimes of others: a program with the command line of runc (crun, runc, youki, runsc …) makes the container's
//! processes; their streams, log, signals and end stay with the shim.
//!
//! The program's way to talk: <https://github.com/opencontainers/runc/tree/main/man>, kept by the others.

use std::ffi::{CString, OsStr};
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use havre_cgroup::{Cgroup, Host};
use havre_runtime_core::{RootfsMount, StdioSpec};
use havre_sys::net::{recv_fds, unix_listen_at};
use havre_sys::process::{Child, Exit};
use havre_sys::spawn::{Program, Spawn};
use havre_types::ErrorKind;
use oci_spec::runtime::{Process, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open};

use crate::error::Failure;

/// A runtime that takes longer is ended: the shim answers nobody while it waits.
const PATIENCE: Duration = Duration::from_secs(30);
const LOG: &str = "oci.log";
/// How much of its log is read for the reason of a failure.
const LOG_MAX: u64 = 64 << 10;
const CONSOLE: &str = "console.sock";

/// The program, and the container it is asked about.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) bundle: PathBuf,
    pub(crate) id: String,
}

/// A process that it made.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) child: Child,
    pub(crate) console: Option<OwnedFd>,
    /// Of the container's first process.
    pub(crate) cgroup: Option<Cgroup>,
}

impl Tool {
    /// Makes the container up to its start. Its root is mounted where nobody but the shim and what it starts see it.
    pub(crate) fn create(
        &self,
        spec: &Spec,
        mounts: &[RootfsMount],
        stdio: &StdioSpec,
        host: &Host,
    ) -> Result<Foreign, Failure> {
        havre_runtime_core::mount_root(&self.bundle, spec, mounts)
            .map_err(|error| Failure::of(&error))?;
        let bundle = self.bundle.display().to_string();
        let (child, console) = self.make(&["create", "--bundle", &bundle], stdio)?;
        let path = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.cgroups_path().clone())
            .unwrap_or_default();
        match Cgroup::open(host, &path) {
            Ok(cgroup) => Ok(Foreign {
                child,
                console,
                cgroup: Some(cgroup),
            }),
            Err(error) => {
                self.delete();
                Err(Failure::of(&error))
            }
        }
    }

    pub(crate) fn start(&self) -> Result<(), Failure> {
        self.run(&["start", &self.id], None)
    }

    /// Starts a process beside the first one.
    pub(crate) fn exec(&self, process: &Process, stdio: &StdioSpec) -> Result<Foreign, Failure> {
        let file = self.bundle.join("oci-process.json");
        let body = serde_json::to_vec(process).map_err(|error| {
            Failure::internal("write the process", std::io::Error::other(error))
        })?;
        fs_err::write(&file, body)
            .map_err(|error| Failure::internal("write the process", error))?;
        let file = file.display().to_string();
        let (child, console) = self.make(&["exec", "--detach", "--process", &file], stdio)?;
        Ok(Foreign {
            child,
            console,
            cgroup: None,
        })
    }

    /// Lets the runtime forget the container, whatever its state; what it leaves is swept by the engine.
    pub(crate) fn delete(&self) {
        if let Err(failure) = self.run(&["delete", "--force", &self.id], None) {
            crate::error::note(&failure.message);
        }
    }

    /// Runs a command that makes a process, and takes the process over.
    fn make(&self, words: &[&str], stdio: &StdioSpec) -> Result<(Child, Option<OwnedFd>), Failure> {
        let failed = |error: std::io::Error| Failure::internal("take over the process", error);
        let pid_file = self.bundle.join("oci.pid");
        let pid_text = pid_file.display().to_string();
        let mut words: Vec<&str> = words.to_vec();
        words.extend(["--pid-file", &pid_text]);
        let socket = match stdio {
            StdioSpec::Terminal { .. } => Some(Console::listen(&self.bundle).map_err(failed)?),
            StdioSpec::Fds { .. } | StdioSpec::Inherit => None,
        };
        let path = socket.as_ref().map(Console::path).unwrap_or_default();
        if socket.is_some() {
            words.extend(["--console-socket", &path]);
        }
        words.push(&self.id);
        self.run(&words, Some(stdio))?;
        let text = fs_err::read_to_string(&pid_file).map_err(failed)?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(std::io::Error::other("its number is missing")))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed(errno.into()))?;
        let child = Child { pid, pidfd };
        let console = socket
            .map(|socket| socket.receive())
            .transpose()
            .map_err(failed)?;
        Ok((child, console))
    }

    /// Runs one command to its end.
    fn run(&self, words: &[&str], stdio: Option<&StdioSpec>) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            let text = havre_types::os_text(&error);
            let kind = ErrorKind::Internal;
            Failure::new(kind, format!("failed to run `{}`: {text}", self.program))
        };
        let log = self.bundle.join(LOG);
        match fs_err::remove_file(&log) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        let (root, log_text) = (self.bundle.join("oci"), log.display().to_string());
        let root = root.display().to_string();
        let own = ["--root", &root, "--log", &log_text, "--log-format", "json"];
        let given = self.arguments.iter().map(String::as_str);
        let all = [self.program.as_str()].into_iter().chain(given);
        let argv: Vec<CString> = all
            .chain(own)
            .chain(words.iter().copied())
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|error| failed(error.into()))?;
        let path = CString::new(self.program.as_str()).map_err(|error| failed(error.into()))?;
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        let [stdin, stdout, stderr] = match stdio {
            Some(StdioSpec::Fds {
                stdin,
                stdout,
                stderr,
            }) => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            _ => [null.as_fd(); 3],
        };
        let child = Spawn::new(Program::Path(&path), argv)
            .env(vec![
                c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ])
            .fd(stdin, 0)
            .fd(stdout, 1)
            .fd(stderr, 2)
            .spawn()
            .map_err(failed)?;
        match end_of(&child).map_err(failed)? {
            Some(Exit::Code(0)) => Ok(()),
            Some(exit) => {
                Err(self.complaint(words.first().copied().unwrap_or_default(), exit, &log))
            }
            None => Err(failed(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// The last thing that it wrote to its log, for it says nothing else of a failure.
    fn complaint(&self, command: &str, exit: Exit, log: &Path) -> Failure {
        let mut text = String::new();
        let read =
            fs_err::File::open(log).and_then(|file| file.take(LOG_MAX).read_to_string(&mut text));
        let mut messages = text.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line.get("msg")?.as_str().map(str::to_owned)
        });
        let said = messages.next_back().filter(|_| read.is_ok());
        let said = said.unwrap_or_else(|| format!("exit status {}", exit.status()));
        let message = format!("OCI runtime {command} failed: {said}");
        Failure::new(ErrorKind::Internal, message)
    }
}

/// None when it had to be ended.
fn end_of(child: &Child) -> std::io::Result<Option<Exit>> {
    let limit = Timespec::try_from(PATIENCE).map_err(std::io::Error::other)?;
    let mut fds = [PollFd::new(&child.pidfd, PollFlags::IN)];
    let ended = loop {
        match poll(&mut fds, Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other? > 0,
        }
    };
    if !ended {
        child.kill(Signal::KILL)?;
    }
    let exit = child.wait()?;
    Ok(ended.then_some(exit))
}

/// Where the runtime hands over the terminal that it made.
struct Console {
    socket: OwnedFd,
    bundle: OwnedFd,
}

impl Console {
    fn listen(bundle: &Path) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let bundle_fd = open(bundle, flags, Mode::empty())?;
        match fs_err::remove_file(bundle.join(CONSOLE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let name = OsStr::new(CONSOLE);
        let socket = unix_listen_at(bundle_fd.as_fd(), name, Mode::from_raw_mode(0o600))?;
        Ok(Self {
            socket,
            bundle: bundle_fd,
        })
    }

    /// Short enough for every socket address, however deep the bundle is.
    fn path(&self) -> String {
        let (shim, directory) = (getpid().as_raw_nonzero(), self.bundle.as_raw_fd());
        format!("/proc/{shim}/fd/{directory}/{CONSOLE}")
    }

    /// The runtime has ended: what it sent lies there.
    fn receive(self) -> std::io::Result<OwnedFd> {
        rustix::fs::fcntl_setfl(&self.socket, OFlags::NONBLOCK)?;
        let connection = accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let mut name = [0; 256];
        let (_length, mut fds) = recv_fds(connection.as_fd(), &mut name, 1)?;
        fds.pop()
            .ok_or_else(|| std::io::Error::other("the runtime sent no terminal"))
    }
}
