//! An engine on private directories, as a test meets it: by its socket and the command lines.
//!
//! Dropping it removes its containers, ends the engine, and then looks for what is left: a process, a
//! mount or a cgroup that outlives the engine fails the test that made it.

mod census;
mod namespace;

pub use census::Census;
pub use namespace::Namespace;

use crate::command::{command, run};
use crate::http::{Body, Response, read_response};
use anyhow::{Context as _, Result, bail, ensure};
use fs_err::File;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::env;
use std::io::{BufReader, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An engine must answer this soon after its start, and end this soon after it was told to.
const DEADLINE: Duration = Duration::from_secs(30);

/// A shim may outlive the removal of its container by as much.
const SETTLE: Duration = Duration::from_secs(5);

/// How an engine is started.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Further arguments of `havred`.
    pub args: Vec<String>,
    /// A program with its first arguments that in turn starts `havred`, such as `nice`: it must do so
    /// by becoming it.
    pub wrapper: Vec<String>,
    /// The last name of the path of `--data-root`, `data` if it is empty.
    pub data_name: String,
    /// The folder of the programs; by default `$HAVRE_BIN_DIR` or the one this test was built into.
    pub bin_dir: Option<PathBuf>,
    /// The engine has a network namespace for itself, in which only the loopback interface is up: what it does to
    /// interfaces and rules reaches nobody else. Without it the engine runs beside the host's network and gets
    /// `--bridge none`. Tests of networks other than `none` and `host` need it.
    pub own_network: bool,
}

/// A running engine and its directories.
#[derive(Debug)]
pub struct Engine {
    process: Option<Child>,
    bin_dir: PathBuf,
    args: Vec<String>,
    wrapper: Vec<String>,
    data_name: String,
    namespace: Option<Namespace>,
    directory: TempDir,
    /// What the engine calls the parent of its cgroups.
    cgroup: String,
}

/// Asks an engine by its socket, whether it runs or not.
#[derive(Clone, Debug)]
pub struct Caller(PathBuf);

impl Caller {
    /// Sends one request to the API.
    pub fn api(&self, method: &str, target: &str, body: &Body<'_>) -> Result<Response> {
        let stream = UnixStream::connect(&self.0)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let bytes: &[u8] = match body {
            Body::Empty => b"",
            Body::Bytes(bytes, _) => bytes,
            Body::File(_) => bail!("files are not sent to an engine"),
        };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            bytes.len(),
        );
        (&stream).write_all(head.as_bytes())?;
        (&stream).write_all(bytes)?;
        read_response(&mut BufReader::new(&stream), method == "HEAD")
            .with_context(|| format!("{method} {target}"))
    }
}

impl Engine {
    /// Starts an engine and waits until it answers.
    pub fn start() -> Result<Self> {
        Self::start_with(EngineOptions::default())
    }

    /// Starts an engine with options and waits until it answers.
    pub fn start_with(options: EngineOptions) -> Result<Self> {
        let bin_dir = match options.bin_dir {
            Some(folder) => folder,
            None => default_bin_dir()?,
        };
        let directory = tempfile::Builder::new().prefix("havre-test-").tempdir()?;
        fs_err::create_dir(directory.path().join("docker-config"))?;
        let mut engine = Self {
            process: None,
            bin_dir,
            args: options.args,
            wrapper: options.wrapper,
            data_name: options.data_name,
            namespace: if options.own_network {
                Some(Namespace::new()?)
            } else {
                None
            },
            directory,
            cgroup: String::new(),
        };
        engine.launch()?;
        Ok(engine)
    }

    // === where things are ===

    /// The private directory everything of this engine lies in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The engine's `--data-root`.
    pub fn data_root(&self) -> PathBuf {
        match self.data_name.as_str() {
            "" => self.directory().join("data"),
            name => self.directory().join(name),
        }
    }

    /// The engine's `--exec-root`.
    pub fn exec_root(&self) -> PathBuf {
        self.directory().join("run")
    }

    /// The engine's socket file.
    pub fn socket(&self) -> PathBuf {
        self.directory().join("havre.sock")
    }

    /// The engine's address for `docker --host`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The path of one of Havre's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// The process id of the running engine.
    pub fn pid(&self) -> Result<u32> {
        Ok(self
            .process
            .as_ref()
            .context("the engine does not run")?
            .id())
    }

    /// What the engine has logged so far, over all its starts.
    pub fn log(&self) -> String {
        fs_err::read_to_string(self.directory().join("havred.log")).unwrap_or_default()
    }

    /// The engine's own network namespace.
    pub fn namespace(&self) -> Result<&Namespace> {
        let own = self.namespace.as_ref();
        own.context("the engine was not started with `own_network`")
    }

    // === asking it ===

    /// The real docker command line, aimed at this engine.
    pub fn docker_command<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        self.client("docker".as_ref(), args)
    }

    /// Havre's command line, aimed at this engine.
    pub fn havre_command<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        self.client(&self.program("havre"), args)
    }

    /// Runs `docker …`, which must succeed, and returns what it printed without the last line break.
    pub fn docker<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Result<String> {
        let output = run(&mut self.docker_command(args)).with_context(|| self.log())?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// Runs `havre …`, which must succeed, and returns what it printed without the last line break.
    pub fn havre<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Result<String> {
        let output = run(&mut self.havre_command(args)).with_context(|| self.log())?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// Runs `docker …` and returns its status and output, whatever they are.
    pub fn docker_output<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Result<Output> {
        let mut command = self.docker_command(args);
        Ok(command.stdin(Stdio::null()).output()?)
    }

    /// Runs `havre …` and returns its status and output, whatever they are.
    pub fn havre_output<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Result<Output> {
        let mut command = self.havre_command(args);
        Ok(command.stdin(Stdio::null()).output()?)
    }

    /// Sends one request to the API.
    pub fn api(&self, method: &str, target: &str, body: &Body<'_>) -> Result<Response> {
        self.caller().api(method, target, body)
    }

    /// A way to the API that outlives this engine's process, for other threads.
    pub fn caller(&self) -> Caller {
        Caller(self.socket())
    }

    fn client<S: AsRef<std::ffi::OsStr>>(&self, program: &Path, args: &[S]) -> Command {
        let mut command = command(program);
        for name in [
            "DOCKER_CONTEXT",
            "DOCKER_TLS_VERIFY",
            "DOCKER_CERT_PATH",
            "HAVRE_CONTEXT",
        ] {
            command.env_remove(name);
        }
        command
            .env("DOCKER_HOST", self.host())
            .env("HAVRE_HOST", self.host())
            .env("DOCKER_CONFIG", self.directory().join("docker-config"))
            .args(args);
        command
    }

    // === ending and starting it ===

    /// Kills the engine at once, as a crash would. Its containers go on.
    pub fn kill9(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the engine does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Tells the engine to end and waits until it has. Its containers go on.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("the engine does not run")?;
        let handle = pidfd(&process)?;
        pidfd_send_signal(&handle, Signal::TERM)?;
        if wait_readable(&handle, DEADLINE)? {
            return Ok(process.wait()?);
        }
        process.kill()?;
        process.wait()?;
        bail!(
            "the engine did not end within {DEADLINE:?} after SIGTERM: {}",
            self.log()
        )
    }

    /// Starts the engine again on the same directories; one that runs is told to end first.
    pub fn restart(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.stop()?;
        }
        self.launch()
    }

    fn launch(&mut self) -> Result<()> {
        let path = self.directory().join("havred.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(path)?
            .into_parts()
            .0;
        let havred = self.program("havred");
        let mut command = match self.wrapper.split_first() {
            None => command(havred),
            Some((program, first)) => {
                let mut wrapped = command(program);
                wrapped.args(first).arg(havred);
                wrapped
            }
        };
        command
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(self.exec_root());
        command
            .arg("--pidfile")
            .arg(self.directory().join("havred.pid"));
        command.arg("-H").arg(self.host()).args(&self.args);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = match &self.namespace {
            Some(namespace) => namespace.spawn(&mut command),
            None => command.arg("--bridge").arg("none").spawn(),
        };
        let process = process
            .with_context(|| format!("failed to start {}", self.program("havred").display()))?;
        let handle = pidfd(&process)?;
        self.process = Some(process);
        self.wait_ready(&handle)?;
        let info = self.api("GET", "/info", &Body::Empty)?;
        let info: serde_json::Value = serde_json::from_slice(&info.body)?;
        let id = info["ID"].as_str().context("the engine has no id")?;
        self.cgroup = format!("havre-{id}");
        Ok(())
    }

    fn wait_ready(&mut self, handle: &impl AsFd) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if self
                .api("GET", "/_ping", &Body::Empty)
                .is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            // The wait ends at once when the engine dies.
            if wait_readable(handle, Duration::from_millis(5))? {
                let status = self
                    .process
                    .take()
                    .map(|mut process| process.wait())
                    .transpose()?;
                bail!("the engine ended ({status:?}): {}", self.log());
            }
            ensure!(
                Instant::now() < deadline,
                "the engine does not answer: {}",
                self.log()
            );
        }
    }

    // === after a test ===

    /// What this engine has in the kernel now: processes besides itself, mounts, cgroups.
    pub fn census(&self) -> Result<Census> {
        Census::take(
            self.directory(),
            &self.cgroup,
            self.process.as_ref().map(Child::id),
        )
    }

    /// The census once processes that are about to end have ended.
    fn settled_census(&self) -> Result<Census> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let census = self.census()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if !census.wait_for_one(left)? {
                return Ok(census);
            }
        }
    }

    fn remove_containers(&self) -> Result<()> {
        let listed = self.api("GET", "/containers/json?all=1", &Body::Empty)?;
        ensure!(listed.status == 200, "the engine does not list containers");
        let listed: serde_json::Value = serde_json::from_slice(&listed.body)?;
        for container in listed.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().context("a container has no id")?;
            let target = format!("/containers/{id}?force=1&v=1");
            let removed = self.api("DELETE", &target, &Body::Empty)?;
            let gone = matches!(removed.status, 204 | 404 | 409);
            ensure!(gone, "{id}: {}", String::from_utf8_lossy(&removed.body));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.process.is_none() {
            self.launch()?;
        }
        self.remove_containers()?;
        let census = self.settled_census()?;
        ensure!(
            census.is_empty(),
            "left after all containers were removed: {census:?}"
        );
        self.stop()?;
        let census = self.settled_census()?;
        ensure!(census.is_empty(), "left after the engine's end: {census:?}");
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let result = if thread::panicking() {
            Ok(())
        } else {
            self.finish()
        };
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _killed = process.kill();
            let _status = process.wait();
        }
        let swept = self.census().and_then(|census| census.sweep());
        if thread::panicking() {
            // What the engine said is the first thing wanted when a test failed.
            let _written = writeln!(std::io::stderr(), "=== engine log ===\n{}", self.log());
            return;
        }
        let failure = result.and(swept).err();
        assert!(
            failure.is_none(),
            "engine fixture: {failure:?}\n{}",
            self.log()
        );
    }
}

/// The programs lie beside the test's own executable, or one folder up when it lies in `deps`.
fn default_bin_dir() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("HAVRE_BIN_DIR") {
        return Ok(PathBuf::from(folder));
    }
    let own = env::current_exe()?;
    for folder in own.ancestors().skip(1).take(2) {
        if folder.join("havred").exists() {
            return Ok(folder.to_owned());
        }
    }
    bail!(
        "no havred near {}: build the programs or set HAVRE_BIN_DIR",
        own.display()
    )
}

fn pidfd(process: &Child) -> Result<OwnedFd> {
    let pid = i32::try_from(process.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("no process id")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Whether the descriptor becomes readable (for a pidfd: the process ends) within the time.
fn wait_readable(handle: &impl AsFd, time: Duration) -> Result<bool> {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs())?,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
