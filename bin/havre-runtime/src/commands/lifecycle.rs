//! create, run, start, kill, pause, resume, delete.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use havre_cgroup::{Cgroup, Host};
use havre_runtime_core::{
    Create, Created, Delete, Gate, State, Status, StdioSpec, create_while,
    delete as delete_container, open_gate,
};
use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::arguments::Invocation;
use crate::commands::{cgroup_of, named, signals};
use crate::store::{Entry, Record, Store};
use crate::{foreground, protect};

/// How long a killed container may take to end.
const END: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// The configuration of a bundle.
pub(super) struct Bundle {
    pub(super) dir: PathBuf,
    text: Vec<u8>,
    pub(super) spec: Spec,
}

impl Bundle {
    pub(super) fn read(invocation: &Invocation) -> Result<Self> {
        let dir = Path::new(invocation.value("bundle").unwrap_or(".".as_ref()));
        let dir = fs_err::canonicalize(dir)?;
        let path = dir.join("config.json");
        let text = fs_err::read(&path)?;
        let spec = serde_json::from_slice(&text)
            .with_context(|| format!("failed to read `{}`", path.display()))?;
        let bundle = Self { dir, text, spec };
        bundle.check()?;
        Ok(bundle)
    }

    fn check(&self) -> Result<()> {
        let version = self.spec.version();
        let major = version.split('.').next();
        if major != Some("1") {
            bail!("unsupported ociVersion {version:?} in config.json");
        }
        Ok(())
    }

    fn terminal(&self) -> bool {
        self.spec
            .process()
            .as_ref()
            .and_then(|process| process.terminal())
            .unwrap_or(false)
    }

    /// Writes down that the container is there.
    pub(super) fn record(&self, entry: &Entry, id: &str, pid: Pid, cgroup: &Cgroup) -> Result<()> {
        let state = State::creating(id, &self.dir, &self.spec);
        let record = Record::new(state, pid, cgroup, self.rootfs());
        entry.write_config(&self.text)?;
        entry.write(&record)
    }

    fn rootfs(&self) -> PathBuf {
        self.spec
            .root()
            .as_ref()
            .map_or_else(|| self.dir.clone(), |root| self.dir.join(root.path()))
    }
}

pub(super) fn preserve_fds(invocation: &Invocation) -> Result<u32> {
    let text = invocation.text("preserve-fds")?.unwrap_or("0");
    text.parse()
        .with_context(|| format!("bad value {text:?} of --preserve-fds"))
}

pub(super) fn write_pid_file(invocation: &Invocation, pid: Pid) -> Result<()> {
    let Some(path) = invocation.value("pid-file") else {
        return Ok(());
    };
    let mut next = path.to_owned();
    next.push(".new");
    fs_err::write(&next, pid.as_raw_pid().to_string())?;
    Ok(fs_err::rename(&next, path)?)
}

/// Makes the container and everything that is recorded of it. On an error nothing is left.
fn make(
    store: &Store,
    invocation: &Invocation,
    bundle: &Bundle,
    gate: impl FnOnce(&Entry) -> Result<Gate>,
) -> Result<(Entry, Created)> {
    let id = invocation.id()?;
    let entry = store.reserve(id)?;
    let made = gate(&entry).and_then(|gate| make_in(&entry, invocation, bundle, gate));
    match made {
        Ok(created) => Ok((entry, created)),
        Err(error) => {
            entry.remove()?;
            Err(error)
        }
    }
}

fn make_in(entry: &Entry, invocation: &Invocation, bundle: &Bundle, gate: Gate) -> Result<Created> {
    let host = Host::detect()?;
    let request = request(invocation, bundle, &host, gate)?;
    let mut recorded = Ok(());
    let created = create_while(&request, |pid, cgroup| {
        recorded = bundle.record(entry, request.id, pid, cgroup);
    });
    let created = created.context("unable to start container process")?;
    hand_out(invocation, created, recorded)
}

/// What the command line and the bundle ask for.
pub(super) fn request<'a>(
    invocation: &'a Invocation,
    bundle: &'a Bundle,
    host: &'a Host,
    gate: Gate,
) -> Result<Create<'a>> {
    let stdio = if bundle.terminal() {
        StdioSpec::Terminal { size: None }
    } else {
        StdioSpec::Inherit
    };
    Ok(Create {
        id: invocation.id()?,
        bundle: &bundle.dir,
        spec: &bundle.spec,
        rootfs_mounts: &[],
        stdio,
        cgroup_host: host,
        gate,
        preserve_fds: preserve_fds(invocation)?,
        die_with_parent: false,
    })
}

/// Gives what the caller wants of a new container; one that cannot be recorded is ended.
pub(super) fn hand_out(
    invocation: &Invocation,
    mut created: Created,
    recorded: Result<()>,
) -> Result<Created> {
    let handed = recorded
        .and_then(|()| write_pid_file(invocation, created.pid()))
        .and_then(|()| hand_out_console(invocation, &mut created));
    if let Err(error) = handed {
        created.child().kill(Signal::KILL)?;
        created.child().wait()?;
        created.cgroup().delete()?;
        return Err(error);
    }
    Ok(created)
}

fn hand_out_console(invocation: &Invocation, created: &mut Created) -> Result<()> {
    let Some(path) = invocation.value("console-socket") else {
        return Ok(());
    };
    match created.console() {
        Some(master) => foreground::send_console(Path::new(path), master.as_fd()),
        None => bail!("--console-socket was given, but the process has no terminal"),
    }
}

pub(super) fn check_console(invocation: &Invocation, bundle: &Bundle) -> Result<()> {
    let detach = invocation.command == "create" || invocation.has("detach");
    let terminal = bundle.terminal();
    let socket = invocation.value("console-socket").is_some();
    if detach && terminal && !socket {
        bail!("cannot allocate tty if runc will detach without setting console socket");
    }
    if socket && !(detach && terminal) {
        bail!("cannot use console socket if runc will not detach or allocate tty");
    }
    Ok(())
}

pub(super) fn create(store: &Store, invocation: &Invocation) -> Result<()> {
    protect::executable()?;
    let bundle = Bundle::read(invocation)?;
    check_console(invocation, &bundle)?;
    let gate = |entry: &Entry| Ok(Gate::Listen(entry.make_gate()?));
    make(store, invocation, &bundle, gate)?;
    Ok(())
}

pub(super) fn start(store: &Store, invocation: &Invocation) -> Result<()> {
    let (entry, record) = named(store, invocation)?;
    match record.state.status {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Running => bail!("cannot start an already running container"),
        Status::Creating | Status::Paused => bail!("cannot start a container in this state"),
    }
    open_gate(entry.knock()?)?;
    let spec = entry.spec()?;
    let hooks = spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.poststart().as_ref());
    let state = record.state.at(Status::Running, record.state.pid);
    Ok(havre_runtime_core::run_hooks("poststart", hooks, &state)?)
}

pub(super) fn run(store: &Store, invocation: &Invocation) -> Result<ExitCode> {
    protect::executable()?;
    let bundle = Bundle::read(invocation)?;
    check_console(invocation, &bundle)?;
    let (entry, created) = make(store, invocation, &bundle, |_| Ok(Gate::Open))?;
    accompany(invocation, &bundle, &entry, created)
}

/// Stays with a container that runs, unless it is to be left to itself.
pub(super) fn accompany(
    invocation: &Invocation,
    bundle: &Bundle,
    entry: &Entry,
    mut created: Created,
) -> Result<ExitCode> {
    let detach = invocation.has("detach");
    let started = created.poststart();
    if started.is_ok() && detach {
        return Ok(ExitCode::SUCCESS);
    }
    if started.is_err() {
        created.child().kill(Signal::KILL)?;
    }
    let console = created.console();
    let status = foreground::attend(created.child(), console)?;
    if !invocation.has("keep") {
        let removed = delete_container(&Delete {
            id: invocation.id()?,
            bundle: &bundle.dir,
            spec: &bundle.spec,
            cgroup: Some(created.cgroup()),
        });
        entry.remove()?;
        removed?;
    }
    started?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
}

pub(super) fn kill(store: &Store, invocation: &Invocation) -> Result<()> {
    let (_, record) = named(store, invocation)?;
    let signal = invocation
        .words
        .get(1)
        .and_then(|word| word.to_str())
        .unwrap_or("SIGTERM");
    let signal = signals::parse(signal)?;
    if invocation.has("all") && signal == Signal::KILL {
        // All at once, also those that are born meanwhile; numbers would be a guess.
        return Ok(cgroup_of(&record)?.kill_all()?);
    }
    if invocation.has("all") {
        for pid in cgroup_of(&record)?.procs()? {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let Some(pid) = pid else { continue };
            match rustix::process::kill_process(pid, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error).context("failed to signal a process"),
            }
        }
        return Ok(());
    }
    if record.state.status == Status::Stopped {
        bail!("container not running");
    }
    let pidfd = pidfd_of(&record)?;
    pidfd_send_signal(&pidfd, signal).context("failed to signal the container")?;
    if record.state.status == Status::Paused && signal == Signal::KILL {
        // A frozen process dies only when it is thawed.
        cgroup_of(&record)?.thaw()?;
    }
    Ok(())
}

/// The first process, seen to be the one that was recorded after it was pinned.
pub(super) fn pidfd_of(record: &Record) -> Result<OwnedFd> {
    let pid = Pid::from_raw(record.state.pid).context("container not running")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("container not running")?;
    if crate::store::start_ticks(record.state.pid) != Some(record.start_ticks) {
        bail!("container not running");
    }
    Ok(pidfd)
}

pub(super) fn pause(store: &Store, invocation: &Invocation) -> Result<()> {
    let (_, record) = named(store, invocation)?;
    match record.state.status {
        Status::Running | Status::Created => Ok(cgroup_of(&record)?.freeze()?),
        _ => bail!(
            "container not running or created: {:?}",
            record.state.status
        ),
    }
}

pub(super) fn resume(store: &Store, invocation: &Invocation) -> Result<()> {
    let (_, record) = named(store, invocation)?;
    match record.state.status {
        Status::Paused => Ok(cgroup_of(&record)?.thaw()?),
        _ => bail!("container not paused"),
    }
}

pub(super) fn delete(store: &Store, invocation: &Invocation) -> Result<()> {
    let force = invocation.has("force");
    let entry = match store.find(invocation.id()?) {
        // As with rm: what is gone is gone.
        Err(_) if force => return Ok(()),
        other => other?,
    };
    let record = match entry.look() {
        // A creation that was cut short left a directory without a record.
        Err(_) if force => return entry.remove(),
        other => other?,
    };
    match record.state.status {
        Status::Stopped => {}
        Status::Created => end(&record)?,
        _ if force => end(&record)?,
        status => bail!(
            "cannot delete container {} that is not stopped: {}",
            record.state.id,
            format!("{status:?}").to_lowercase()
        ),
    }
    let spec = entry.spec()?;
    let cgroup = cgroup_of(&record).ok();
    let removed = delete_container(&Delete {
        id: &record.state.id,
        bundle: &record.state.bundle,
        spec: &spec,
        cgroup: cgroup.as_ref(),
    });
    entry.remove()?;
    Ok(removed?)
}

fn end(record: &Record) -> Result<()> {
    let pidfd = pidfd_of(record)?;
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error).context("failed to kill the container"),
    }
    if record.state.status == Status::Paused {
        cgroup_of(record)?.thaw()?;
    }
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    if poll(&mut fds, Some(&END)).context("failed to wait for the container")? == 0 {
        bail!("the container does not end");
    }
    Ok(())
}
