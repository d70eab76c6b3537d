//! Making a container: plan, cgroup, clone, and the caller's handle of what came of it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use havre_cgroup::{Cgroup, Host};
use havre_sys::process::{Child, CloneArgs, CloneFlags, Keep, clone3};
use oci_spec::runtime::{Hooks, Mount, MountBuilder, Spec};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use crate::cgroups::{self, Placement};
use crate::channel::{self, Channel};
use crate::child::rootfs::{Sources, attach_layers, root_tree};
use crate::child::{self, Init};
use crate::delete::unmount_root;
use crate::error::{RuntimeError, Step as _};
use crate::hooks;
use crate::launch::{Attend, Gate, Launched, StdioSpec};
use crate::plan::{Kind, MountStep, Namespaces, Plan, ProcessPlan};
use crate::state::{State, Status};
use crate::userns;

/// A mount of the container's root, in the words of containerd. It is made inside the
/// container's mount namespace and never appears on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootfsMount {
    /// `overlay`, `bind`, or any other file system.
    pub fstype: String,
    /// The device or directory; `overlay` for overlay.
    pub source: String,
    /// `lowerdir=a:b`, `upperdir=…`, `ro` and so on.
    pub options: Vec<String>,
}

/// What a container is made from.
#[derive(Debug)]
pub struct Create<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its directory, absolute.
    pub bundle: &'a Path,
    /// Its configuration.
    pub spec: &'a Spec,
    /// Mounts of its root, bottom first; empty if the directory `root.path` is the root itself.
    pub rootfs_mounts: &'a [RootfsMount],
    /// Its standard streams.
    pub stdio: StdioSpec,
    /// The host's cgroup hierarchies.
    pub cgroup_host: &'a Host,
    /// What it waits for.
    pub gate: Gate,
    /// How many descriptors from 3 up are passed on to the program.
    pub preserve_fds: u32,
    /// Whether it is killed when the caller dies.
    pub die_with_parent: bool,
}

/// A container that exists. Dropping this lets go of it; it does not end it.
#[derive(Debug)]
pub struct Created {
    launched: Launched,
    cgroup: Cgroup,
    state: State,
    hooks: Option<Hooks>,
}

impl Created {
    pub(crate) fn new(launched: Launched, cgroup: Cgroup, state: State, spec: &Spec) -> Self {
        Self {
            launched,
            cgroup,
            state,
            hooks: spec.hooks().clone(),
        }
    }

    /// The first process, in the caller's PID namespace.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.launched.child.pid
    }

    /// The descriptor of the first process.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.launched.pidfd()
    }

    /// The first process as a child to wait for.
    #[must_use]
    pub const fn child(&self) -> &Child {
        &self.launched.child
    }

    /// The master side of the terminal; there is one only once.
    #[must_use]
    pub const fn console(&mut self) -> Option<OwnedFd> {
        self.launched.console.take()
    }

    /// The container's cgroup.
    #[must_use]
    pub const fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The container's cgroup, to be changed.
    pub const fn cgroup_mut(&mut self) -> &mut Cgroup {
        &mut self.cgroup
    }

    /// Opens the gate of a container made with [`Gate::Hold`] and waits until its program is
    /// executed; then runs its poststart hooks.
    pub fn start(&mut self) -> Result<(), RuntimeError> {
        self.launched.start()?;
        self.poststart()
    }

    /// Runs the poststart hooks, for a container made with [`Gate::Open`].
    pub fn poststart(&self) -> Result<(), RuntimeError> {
        let Some(all) = &self.hooks else {
            return Ok(());
        };
        let state = self.state.at(Status::Running, self.pid().as_raw_pid());
        hooks::run("poststart", all.poststart().as_ref(), &state)
    }
}

/// Makes a container up to its gate. Its program has been looked up by then, so that a missing
/// one is reported here. After an error nothing of it is left.
pub fn create(request: &Create<'_>) -> Result<Created, RuntimeError> {
    create_while(request, |_pid, _cgroup| {})
}

/// As [`create`]; calls `meanwhile` while the new process sets itself up, with its number and
/// its cgroup, for what the caller has to do anyway. The container may still fail afterwards.
pub fn create_while(
    request: &Create<'_>,
    meanwhile: impl FnOnce(Pid, &Cgroup),
) -> Result<Created, RuntimeError> {
    let spec = request.spec;
    let plan = Plan::new(spec, request.bundle)?;
    let process = process_plan(request)?;
    let state = State::creating(request.id, request.bundle, spec);
    let root_mounts = root_mounts(request.rootfs_mounts, &plan)?;
    let sources = Sources::prepare(&plan, &root_mounts)?;
    let join = open_namespaces(&plan.namespaces)?;
    let cgroup = cgroups::make(request.cgroup_host, spec, request.id)?;
    let launched = Placement::new(Some(request.cgroup_host), &cgroup).and_then(|placement| {
        let init = Init {
            plan: &plan,
            process: &process,
            hooks: spec.hooks().as_ref(),
            state: &state,
            join: &join.inside,
            cgroup: &placement,
            rootfs: &sources,
            streams: request.stdio.streams(),
            gate: request.gate.for_child(),
            preserve_fds: request.preserve_fds,
            die_with_parent: request.die_with_parent,
        };
        let (child, channel) = launch(&init, &join)?;
        meanwhile(child.pid, &cgroup);
        Launched::attend(
            child,
            channel,
            &request.gate,
            &mut Attendant { init: &init },
            // Its hooks may take their time.
            None,
        )
    });
    match launched {
        Ok(launched) => Ok(Created::new(launched, cgroup, state, spec)),
        Err(error) => {
            // The first error is the one to report; a directory that resists is found by the
            // sweep of the engine.
            drop(cgroup.delete());
            drop(unmount_root(request.bundle, spec));
            Err(error)
        }
    }
}

pub(crate) fn process_plan(request: &Create<'_>) -> Result<ProcessPlan, RuntimeError> {
    let Some(process) = request.spec.process() else {
        return Err(RuntimeError::spec("process", "it is missing"));
    };
    let seccomp = request
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    let mut plan = ProcessPlan::new(process, seccomp)?;
    if let StdioSpec::Terminal { size } = request.stdio {
        plan.terminal = true;
        plan.console_size = size.or(plan.console_size);
    } else if plan.terminal {
        return Err(RuntimeError::spec(
            "process.terminal",
            "the caller takes no terminal",
        ));
    }
    Ok(plan)
}

/// The mounts of the root as steps, by way of the words of the specification.
pub(crate) fn root_mounts(
    mounts: &[RootfsMount],
    plan: &Plan,
) -> Result<Vec<MountStep>, RuntimeError> {
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    if !plan.rootfs.is_dir() {
        fs_err::create_dir_all(&plan.rootfs)
            .step(|| "make the directory of the root".to_owned())?;
    }
    let step = |mount: &RootfsMount| {
        let mount: Mount = MountBuilder::default()
            .destination("/")
            .typ(mount.fstype.clone())
            .source(PathBuf::from(&mount.source))
            .options(mount.options.clone())
            .build()
            .map_err(|error| RuntimeError::spec("rootfs", error.to_string()))?;
        MountStep::new(&mount)
    };
    mounts.iter().map(step).collect()
}

/// Mounts a container's root for another runtime, which finds it in place: in a mount namespace of the calling
/// process's own, so that the host does not see it and it goes with the process.
pub fn mount_root(bundle: &Path, spec: &Spec, mounts: &[RootfsMount]) -> Result<(), RuntimeError> {
    let plan = Plan::new(spec, bundle)?;
    let steps = root_mounts(mounts, &plan)?;
    let layers: Vec<_> = steps.iter().map(root_tree).collect::<Result<_, _>>()?;
    if layers.is_empty() {
        return Ok(());
    }
    let describe = || "make a mount namespace for the root".to_owned();
    havre_sys::namespace::unshare(UnshareFlags::NEWNS).step(describe)?;
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", flags).step(describe)?;
    attach_layers(&plan.rootfs, &layers).map(drop)
}

// === namespaces ===

/// Namespaces that are joined.
#[derive(Debug, Default)]
struct Joins {
    /// By the child, in order; a user namespace first, for it decides about the others.
    inside: Vec<(Kind, OwnedFd)>,
    /// By the runtime for its children: a process cannot change its own PID namespace.
    pid: Option<OwnedFd>,
}

fn open_namespaces(namespaces: &Namespaces) -> Result<Joins, RuntimeError> {
    let mut out = Joins::default();
    for (kind, path) in &namespaces.join {
        let fd = userns::open_namespace(*kind, path)?;
        match kind {
            Kind::Pid => out.pid = Some(fd),
            Kind::User => out.inside.insert(0, (*kind, fd)),
            _ => out.inside.push((*kind, fd)),
        }
    }
    Ok(out)
}

struct Attendant<'a> {
    init: &'a Init<'a>,
}

impl Attend for Attendant<'_> {
    fn is_needed(&self) -> bool {
        self.init.process.terminal
            || self.init.plan.namespaces.makes(Kind::User)
            || self.init.hooks.is_some_and(child::wants_runtime_hooks)
    }

    fn mappings(&mut self, pid: Pid) -> Result<(), RuntimeError> {
        userns::write_mappings(pid, &self.init.plan.namespaces)
    }

    fn hooks(&mut self, pid: Pid) -> Result<(), RuntimeError> {
        let Some(all) = self.init.hooks else {
            return Ok(());
        };
        let state = self.init.state.at(Status::Creating, pid.as_raw_pid());
        hooks::run("prestart", all.prestart().as_ref(), &state)?;
        hooks::run("createRuntime", all.create_runtime().as_ref(), &state)
    }
}

fn launch(init: &Init<'_>, join: &Joins) -> Result<(Child, Channel), RuntimeError> {
    let namespaces = &init.plan.namespaces;
    let mut flags = CloneFlags::NONE;
    for kind in &namespaces.new {
        // The cgroup namespace is made after the cgroup was entered, the time namespace before
        // its first process, while its clocks can still be set.
        if !matches!(kind, Kind::Cgroup | Kind::Time) {
            flags |= kind.flag();
        }
    }
    let (ours, theirs) = channel::pair().step(|| "make a socket pair".to_owned())?;
    let around = userns::ForChildren::enter(namespaces, join.pid.as_ref())?;
    let args = CloneArgs {
        cgroup: init.cgroup.birth,
        keep: Some(Keep {
            below: 3 + init.preserve_fds,
            fds: &init.descriptors(&theirs),
        }),
        ..CloneArgs::new(flags)
    };
    let child = clone3(&args, || child::main(init, theirs));
    let left = around.leave();
    let child = child.step(|| "clone the container process".to_owned())?;
    // After an error the child ends by itself, when it finds nobody at the other end.
    left.map(|()| (child, ours))
}
