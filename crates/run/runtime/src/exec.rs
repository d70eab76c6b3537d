//! Entering a container with another process, under the container's own confinement.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use havre_cgroup::Cgroup;
use havre_sys::fsroot::Root;
use havre_sys::prctl;
use havre_sys::process::{Child, CloneArgs, CloneFlags, Keep, clone3, close_others};
use oci_spec::runtime::{Process, Spec};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, PidfdFlags, pidfd_open, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::cgroups::Placement;
use crate::channel::{self, Channel};
use crate::child::finish::{Finish, Labels};
use crate::child::join_keyring;
use crate::child::terminal::Terminal;
use crate::error::{RuntimeError, Step as _};
use crate::launch::{Gate, Launched, Nothing, StdioSpec};
use crate::plan::{Kind, Plan, ProcessPlan};

/// A process to be run in a container that exists.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The container's name.
    pub id: &'a str,
    /// The container's first process.
    pub init_pid: Pid,
    /// The container's configuration.
    pub spec: &'a Spec,
    /// The process.
    pub process: &'a Process,
    /// Its standard streams.
    pub stdio: StdioSpec,
    /// The container's cgroup.
    pub cgroup: Option<&'a Cgroup>,
    /// What it waits for.
    pub gate: Gate,
    /// How many descriptors from 3 up are passed on to the program.
    pub preserve_fds: u32,
    /// Whether it is killed when the caller dies.
    pub die_with_parent: bool,
}

/// A process in a container.
#[derive(Debug)]
pub struct ExecChild(Launched);

impl ExecChild {
    /// The process, in the caller's PID namespace.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.0.child.pid
    }

    /// The descriptor of the process.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd()
    }

    /// The process as a child to wait for.
    #[must_use]
    pub const fn child(&self) -> &Child {
        &self.0.child
    }

    /// The master side of the terminal; there is one only once.
    #[must_use]
    pub const fn console(&mut self) -> Option<OwnedFd> {
        self.0.console.take()
    }

    /// Opens the gate of a process made with [`Gate::Hold`] and waits until its program is
    /// executed.
    pub fn start(&mut self) -> Result<(), RuntimeError> {
        self.0.start()
    }
}

struct Joining<'a> {
    request: &'a Exec<'a>,
    plan: &'a ProcessPlan,
    init: OwnedFd,
    namespaces: ThreadNameSpaceType,
    cgroup: Option<Placement<'a>>,
    personality: Option<u32>,
}

impl Joining<'_> {
    /// The descriptors that the helper needs.
    fn descriptors(&self, channels: &[&Channel]) -> Vec<RawFd> {
        let placement = self.cgroup.iter().flat_map(Placement::descriptors);
        let own = placement
            .chain([self.init.as_fd()])
            .map(|fd| fd.as_raw_fd());
        own.chain(self.kept()).chain(numbers(channels)).collect()
    }

    /// Those of them that the process itself needs.
    fn kept(&self) -> impl Iterator<Item = RawFd> {
        let streams = self.request.stdio.streams().descriptors();
        streams
            .chain(self.request.gate.for_child().descriptor())
            .map(|fd| fd.as_raw_fd())
    }
}

fn numbers(channels: &[&Channel]) -> impl Iterator<Item = RawFd> {
    channels.iter().map(|channel| channel.number())
}

/// How long a process that enters may be silent while it sets itself up: what it meets in the
/// container, such as a file system that does not answer, must not hold the caller for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes a process in the container up to its gate.
pub fn exec(request: &Exec<'_>) -> Result<ExecChild, RuntimeError> {
    let linux = request.spec.linux().as_ref();
    let mut plan = ProcessPlan::new(request.process, linux.and_then(|l| l.seccomp().as_ref()))?;
    if let StdioSpec::Terminal { size } = request.stdio {
        plan.terminal = true;
        plan.console_size = size.or(plan.console_size);
    } else if plan.terminal {
        return Err(RuntimeError::spec(
            "process.terminal",
            "the caller takes no terminal",
        ));
    }
    let container = Plan::new(request.spec, Path::new("/"))?;
    let has = |kind| container.namespaces.has(kind);
    let init = pidfd_open(request.init_pid, PidfdFlags::empty())
        .step(|| format!("open the container process {}", request.init_pid))?;
    let joining = Joining {
        request,
        plan: &plan,
        init,
        namespaces: all(&has),
        cgroup: request
            .cgroup
            .map(|cgroup| Placement::new(None, cgroup))
            .transpose()?,
        personality: container.personality,
    };
    let describe = || "make a socket pair".to_owned();
    let (ours, theirs) = channel::pair().step(describe)?;
    let (birth, midwife) = channel::pair().step(describe)?;
    let mut args = CloneArgs {
        keep: Some(Keep {
            below: 3 + request.preserve_fds,
            fds: &joining.descriptors(&[&theirs, &midwife]),
        }),
        ..CloneArgs::new(CloneFlags::NONE)
    };
    if let Some(placement) = &joining.cgroup {
        args.cgroup = placement.birth;
    }
    let helper = clone3(&args, || main(&joining, &midwife, theirs))
        .step(|| "clone the process".to_owned())?;
    drop(midwife);
    let child = Launched::await_birth(helper, &birth, PATIENCE)?;
    Launched::attend(
        child,
        ours,
        &request.gate,
        &mut Nothing {
            terminal: plan.terminal,
        },
        Some(PATIENCE),
    )
    .map(ExecChild)
}

/// The namespaces that the container has for itself.
fn all(has: &dyn Fn(Kind) -> bool) -> ThreadNameSpaceType {
    let mut out = ThreadNameSpaceType::empty();
    for (kind, flag) in [
        (Kind::Mount, ThreadNameSpaceType::MOUNT),
        (Kind::Pid, ThreadNameSpaceType::PROCESS_ID),
        (Kind::Network, ThreadNameSpaceType::NETWORK),
        (Kind::Ipc, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        (
            Kind::Uts,
            ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
        ),
        (Kind::User, ThreadNameSpaceType::USER),
        (Kind::Cgroup, ThreadNameSpaceType::CONTROL_GROUP),
        (Kind::Time, ThreadNameSpaceType::TIME),
    ] {
        if has(kind) {
            out |= flag;
        }
    }
    out
}

// === the helper ===

/// Enters everything but the PID namespace, which counts for its child, makes the process there and
/// names it to the runtime.
///
/// From its first moment that process can be looked into by those of the container that may trace,
/// whatever its dumpability (ptrace(2): CAP_SYS_PTRACE overrules it; CVE-2016-9962). So it is born
/// with the container's root and without a descriptor of the host.
fn main(joining: &Joining<'_>, midwife: &Channel, mut channel: Channel) -> i32 {
    let labels = match enter(joining) {
        Ok(labels) => labels,
        Err(error) => {
            midwife.fail(&error);
            return 1;
        }
    };
    let kept: Vec<RawFd> = joining
        .kept()
        .chain(labels.descriptors())
        .chain([channel.number()])
        .collect();
    let below = 3 + joining.request.preserve_fds;
    // Between the clone and the child's first call its descriptors are ours: so these are few already.
    let ours: Vec<RawFd> = kept.iter().copied().chain([midwife.number()]).collect();
    close_others(Keep { below, fds: &ours });
    let args = CloneArgs {
        keep: Some(Keep { below, fds: &kept }),
        ..CloneArgs::new(CloneFlags::PARENT)
    };
    let born = clone3(&args, move || {
        match become_process(joining, labels, &mut channel) {
            Ok(never) => match never {},
            Err(error) => {
                channel.fail(&error);
                1
            }
        }
    })
    .and_then(|child| midwife.born(&child));
    match born.step(|| "clone the process".to_owned()) {
        Ok(()) => 0,
        Err(error) => {
            midwife.fail(&error);
            1
        }
    }
}

fn enter(joining: &Joining<'_>) -> Result<Labels, RuntimeError> {
    prctl::set_undumpable().step(|| "become undumpable".to_owned())?;
    if let Some(value) = joining.plan.oom_score_adj {
        prctl::set_oom_score_adj(value).step(|| format!("set oom_score_adj to {value}"))?;
    }
    let labels = Labels::open(joining.plan)?;
    replace_streams(&joining.request.stdio).step(|| "replace the standard streams".to_owned())?;
    if let Some(placement) = &joining.cgroup {
        placement.join_self()?;
    }
    if !joining.namespaces.is_empty() {
        move_into_thread_name_spaces(joining.init.as_fd(), joining.namespaces)
            .step(|| "enter the namespaces of the container".to_owned())?;
    }
    join_keyring(joining.request.id)?;
    if let Some(persona) = joining.personality {
        prctl::personality(persona).step(|| "set the personality".to_owned())?;
    }
    umask(Mode::empty());
    Ok(labels)
}

/// The runtime's own standard streams, such as its log, are nothing for the container. Where they
/// are meant to be the process's they stay.
fn replace_streams(stdio: &StdioSpec) -> io::Result<()> {
    match stdio {
        StdioSpec::Fds {
            stdin,
            stdout,
            stderr,
        } => {
            dup2_stdin(stdin)?;
            dup2_stdout(stdout)?;
            dup2_stderr(stderr)?;
        }
        StdioSpec::Terminal { .. } => {
            let null = open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            dup2_stdin(&null)?;
            dup2_stdout(&null)?;
            dup2_stderr(&null)?;
        }
        StdioSpec::Inherit => {}
    }
    Ok(())
}

// === the process ===

fn become_process(
    joining: &Joining<'_>,
    labels: Labels,
    channel: &mut Channel,
) -> Result<Infallible, RuntimeError> {
    let (request, plan) = (joining.request, joining.plan);
    let terminal = if plan.terminal {
        let root = Root::open(Path::new("/")).step(|| "open the root".to_owned())?;
        Some(Terminal::open(&root, plan.console_size)?)
    } else {
        None
    };
    Finish {
        plan,
        labels,
        terminal,
        streams: request.stdio.streams(),
        gate: request.gate.for_child(),
        preserve_fds: request.preserve_fds,
        die_with_parent: request.die_with_parent,
        start_hooks: None,
        makes_directory: false,
    }
    .run(channel)
}
