//! Entering a container with another process, under the container's own confinement.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use havre_cgroup::Cgroup;
use havre_sys::fsroot::Root;
use havre_sys::process::{Child, CloneArgs, CloneFlags, Keep, clone3};
use havre_sys::{namespace, prctl};
use oci_spec::runtime::{Process, Spec};
use rustix::fs::Mode;
use rustix::process::{Pid, PidfdFlags, pidfd_open, umask};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_thread_name_spaces};

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
    /// The descriptors that the child needs.
    fn descriptors(&self, channel: &Channel) -> Vec<RawFd> {
        let placement = self.cgroup.iter().flat_map(Placement::descriptors);
        placement
            .chain(self.request.stdio.streams().descriptors())
            .chain(self.request.gate.for_child().descriptor())
            .chain([self.init.as_fd()])
            .map(|fd| fd.as_raw_fd())
            .chain([channel.number()])
            .collect()
    }
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
        namespaces: inside(&has),
        cgroup: request
            .cgroup
            .map(|cgroup| Placement::new(None, cgroup))
            .transpose()?,
        personality: container.personality,
    };
    let (ours, theirs) = channel::pair().step(|| "make a socket pair".to_owned())?;
    let child = clone_into(&joining, has(Kind::Pid), theirs)?;
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

/// All but the PID namespace, which has to be entered before the clone.
fn inside(has: &dyn Fn(Kind) -> bool) -> ThreadNameSpaceType {
    let mut out = ThreadNameSpaceType::empty();
    for (kind, flag) in [
        (Kind::Mount, ThreadNameSpaceType::MOUNT),
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

fn clone_into(
    joining: &Joining<'_>,
    pid_namespace: bool,
    theirs: Channel,
) -> Result<Child, RuntimeError> {
    let mut args = CloneArgs {
        // From its first moment the child is in the container's PID namespace, where a process
        // with CAP_SYS_PTRACE can look into it (CVE-2016-9962).
        keep: Some(Keep {
            below: 3 + joining.request.preserve_fds,
            fds: &joining.descriptors(&theirs),
        }),
        ..CloneArgs::new(CloneFlags::NONE)
    };
    if let Some(placement) = &joining.cgroup {
        args.cgroup = placement.birth;
    }
    let mut back = None;
    if pid_namespace {
        let describe = || "enter the PID namespace".to_owned();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let own = rustix::fs::open(c"/proc/self/ns/pid", flags, Mode::empty()).step(describe)?;
        move_into_thread_name_spaces(joining.init.as_fd(), ThreadNameSpaceType::PROCESS_ID)
            .step(describe)?;
        back = Some(own);
    }
    let child = clone3(&args, || main(joining, theirs));
    if let Some(own) = back {
        namespace::enter(own.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .step(|| "return to the runtime's own PID namespace".to_owned())?;
    }
    child.step(|| "clone the process".to_owned())
}

fn main(joining: &Joining<'_>, mut channel: Channel) -> i32 {
    match enter(joining, &mut channel) {
        Ok(never) => match never {},
        Err(error) => {
            channel.fail(&error);
            1
        }
    }
}

fn enter(joining: &Joining<'_>, channel: &mut Channel) -> Result<Infallible, RuntimeError> {
    let (request, plan) = (joining.request, joining.plan);
    prctl::set_undumpable().step(|| "become undumpable".to_owned())?;
    if let Some(value) = plan.oom_score_adj {
        prctl::set_oom_score_adj(value).step(|| format!("set oom_score_adj to {value}"))?;
    }
    let labels = Labels::open(plan)?;
    if let Some(placement) = &joining.cgroup {
        placement.join_self()?;
    }
    if !joining.namespaces.is_empty() {
        move_into_thread_name_spaces(joining.init.as_fd(), joining.namespaces)
            .step(|| "enter the namespaces of the container".to_owned())?;
    }
    join_keyring(request.id)?;
    if let Some(persona) = joining.personality {
        prctl::personality(persona).step(|| "set the personality".to_owned())?;
    }
    umask(Mode::empty());
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
    }
    .run(channel)
}
