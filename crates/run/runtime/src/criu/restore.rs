//! Bringing a container's processes back from files.
//!
//! A helper of the runtime takes the container's cgroup, makes its network namespace, mounts its
//! root in a mount namespace of its own and then becomes CRIU. The first process comes out as a
//! child of the runtime; CRIU holds it, with all others, until [`Held::release`].

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use havre_cgroup::Cgroup;
use havre_sys::fsroot::Root;
use havre_sys::mount::Depth;
use havre_sys::namespace;
use havre_sys::process::{Child, CloneArgs, CloneFlags, clone3};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use rustix::thread::LinkNameSpaceType;

use super::guard::Guard;
use super::helper::FIRST;
use super::message::{InheritFd, JoinNamespace, Kind as RequestKind, Options, Request};
use super::places::{self, EXTERNAL_NET};
use super::session::{Criu, Ends, Session, Word};
use super::{CriuOptions, clone_fd, images};
use crate::cgroups::{self, Placement};
use crate::child::rootfs::{READONLY, Sources};
use crate::create::{Create, Created, process_plan, root_mounts};
use crate::error::{RuntimeError, Step as _};
use crate::hooks;
use crate::launch::{Gate, Launched, StdioSpec};
use crate::plan::{Kind, Plan, ProcessPlan};
use crate::state::{State, Status};
use crate::{tree, userns};

const LOG: &str = "restore.log";

/// A container to be brought back.
#[derive(Debug)]
pub struct Restore<'a> {
    /// What it is, as if it were made anew. [`Gate::Listen`] is not possible.
    pub create: Create<'a>,
    /// Where the files are.
    pub images: &'a Path,
    /// What CRIU is told.
    pub options: &'a CriuOptions,
}

/// Restored processes that do not run yet.
#[derive(Debug)]
pub(crate) struct Held(Session);

impl Held {
    /// Lets them run.
    pub(crate) fn release(self) -> Result<(), RuntimeError> {
        let outcome = self.0.go_on().and_then(|()| {
            loop {
                match self.0.hear()? {
                    Word::At(..) => self.0.go_on()?,
                    Word::Done => return Ok(()),
                }
            }
        });
        self.0.end();
        outcome
    }
}

/// Everything that was made before CRIU starts.
pub(super) struct Scene<'a> {
    pub(super) request: &'a Restore<'a>,
    pub(super) plan: Plan,
    process: ProcessPlan,
    pub(super) sources: Sources,
    /// The network namespace, when one is joined. CRIU finds others by their paths.
    network: Option<OwnedFd>,
    directory: OwnedFd,
    pub(super) criu: Criu,
}

/// Brings the container back up to its gate. After an error nothing of it is left.
pub fn restore(request: &Restore<'_>) -> Result<Created, RuntimeError> {
    let create = &request.create;
    let (spec, id) = (create.spec, create.id);
    let criu = Criu::find(request.options.program.as_deref())?;
    let plan = Plan::new(spec, create.bundle)?;
    let process = process_plan(create)?;
    let directory = images::open(request.images)?;
    images::check_filters(&directory, process.filter.as_ref())?;
    places::check_namespaces(&plan)?;
    let root_mounts = root_mounts(create.rootfs_mounts, &plan)?;
    let sources = Sources::prepare(&plan, &root_mounts)?;
    let mut joins = plan.namespaces.join.iter();
    let network = joins
        .find(|(kind, _)| *kind == Kind::Network)
        .map(|(kind, path)| userns::open_namespace(*kind, path))
        .transpose()?;
    let cgroup = cgroups::make(create.cgroup_host, spec, id)?;
    let scene = Scene {
        request,
        plan,
        process,
        sources,
        network,
        directory,
        criu,
    };
    match scene.play(&cgroup) {
        Ok((launched, state)) => Ok(Created::new(launched, cgroup, state, spec)),
        Err(error) => {
            // The first error is the one to report.
            drop(cgroup.kill_all());
            drop(cgroup.delete());
            Err(error)
        }
    }
}

impl Scene<'_> {
    fn play(&self, cgroup: &Cgroup) -> Result<(Launched, State), RuntimeError> {
        let create = &self.request.create;
        let placement = Placement::new(Some(create.cgroup_host), cgroup)?;
        let work = self.request.options.work()?;
        let ends = Ends::make()?;
        let cast = self.cast()?;
        let child = self.start(&placement, &ends, &cast)?;
        let log = clone_fd(work.as_ref().unwrap_or(&self.directory))?;
        let session = Session::new(child, ends, (log, LOG));
        let state = State::creating(create.id, create.bundle, create.spec);
        let mut made = Made::default();
        let outcome = self
            .options(work.as_ref(), cgroup, &cast, session.criu.pid)
            .and_then(|options| self.converse(&session, options, cgroup, &state, &mut made))
            .and_then(|()| made.launched());
        match outcome {
            Ok(mut launched) => {
                let held = Held(session);
                match create.gate {
                    Gate::Open => held.release()?,
                    Gate::Hold | Gate::Listen(_) => launched.hold(held),
                }
                Ok((launched, state))
            }
            Err(error) => {
                // The first process with all that are in its PID namespace, then CRIU.
                made.kill();
                session.stop();
                made.reap();
                Err(error)
            }
        }
    }

    // === the request ===

    /// The descriptors for CRIU with the words that they stand for, in the order of their numbers.
    fn cast(&self) -> Result<Vec<(String, BorrowedFd<'_>)>, RuntimeError> {
        let mut out: Vec<(String, BorrowedFd<'_>)> = Vec::new();
        let names = images::read_descriptors(&self.directory)?;
        let streams = streams(&self.request.create.stdio);
        for (name, stream) in names.into_iter().zip(streams) {
            // Two streams may have led to one pipe; the first descriptor serves both.
            if let Some(name) = name.filter(|name| !out.iter().any(|(known, _)| known == name)) {
                out.push((name, stream));
            }
        }
        let network = self.network.iter();
        out.extend(network.map(|fd| (EXTERNAL_NET.to_owned(), fd.as_fd())));
        Ok(out)
    }

    pub(super) fn makes_network(&self) -> bool {
        self.plan.namespaces.makes(Kind::Network) && !self.request.options.empty_network
    }

    fn options(
        &self,
        work: Option<&OwnedFd>,
        cgroup: &Cgroup,
        cast: &[(String, BorrowedFd<'_>)],
        criu: Pid,
    ) -> Result<Options, RuntimeError> {
        let asked = self.request.options;
        let work = work.map(|fd| fd.as_raw_fd());
        let mut options = asked.request(self.directory.as_raw_fd(), work, LOG);
        options.root = Some(self.plan.rootfs.display().to_string());
        options.rst_sibling = Some(true);
        options.evasive_devices = Some(true);
        options.lsm_profile = asked.lsm_profile.clone().or_else(|| {
            let profile = self.process.apparmor.as_ref();
            profile.map(|profile| format!("apparmor:{profile}"))
        });
        options.lsm_mount_context = asked.lsm_mount_context.clone();
        // The root as CRIU sees it, in the mount namespace that the helper has made.
        let root = Root::open(Path::new(&format!("/proc/{}/root", criu.as_raw_pid())))
            .and_then(|view| view.subroot(&self.plan.rootfs))
            .step(|| "open the root for CRIU".to_owned())?;
        options.ext_mnt = places::to_restore(&self.plan, &root, cgroup, self.request.images)?;
        let words = cast.iter().map(|(word, _)| word.clone());
        let made = self.makes_network().then(|| EXTERNAL_NET.to_owned());
        options.inherit_fd = words
            .chain(made)
            .zip(FIRST..)
            .map(|(key, fd)| InheritFd { key, fd })
            .collect();
        for (kind, path) in &self.plan.namespaces.join {
            if *kind != Kind::Network {
                options.join_ns.push(JoinNamespace {
                    kind: places::namespace_name(*kind).to_owned(),
                    path: path.display().to_string(),
                });
            }
        }
        Ok(options)
    }

    // === the conversation ===

    fn converse(
        &self,
        session: &Session,
        options: Options,
        cgroup: &Cgroup,
        state: &State,
        made: &mut Made,
    ) -> Result<(), RuntimeError> {
        session.ask(&Request {
            kind: RequestKind::Restore.into(),
            options: Some(options),
            notify_success: None,
        })?;
        loop {
            let Word::At(point, pid, fd) = session.hear()? else {
                return Err(RuntimeError::Criu {
                    reason: "it did not wait for the look at the processes".to_owned(),
                });
            };
            if let Some(pid) = pid.and_then(Pid::from_raw) {
                made.take(pid)?;
            }
            match point.as_str() {
                "setup-namespaces" => self.hooks(state, made)?,
                "orphan-pts-master" => made.console = fd,
                // Everything is in place, and nothing runs yet.
                "pre-resume" => {
                    let guard = Guard {
                        plan: &self.plan,
                        process: &self.process,
                        cgroup: cgroup.path(),
                    };
                    self.seal(made.pid()?)?;
                    return guard.check(made.pid()?);
                }
                _ => {}
            }
            session.go_on()?;
        }
    }

    /// Makes the root read-only: CRIU before 4.0 leaves it writable, whatever it was.
    fn seal(&self, pid: Pid) -> Result<(), RuntimeError> {
        if !self.plan.readonly_root {
            return Ok(());
        }
        let describe = || "make the restored root read-only".to_owned();
        let path = format!("/proc/{}/ns/mnt", pid.as_raw_pid());
        let mounts = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step(describe)?;
        let within = || -> io::Result<()> {
            namespace::enter(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
            let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            tree::adjust(root.as_fd(), READONLY, Depth::One, None)
        };
        let number = || match within() {
            Ok(()) => 0,
            // The number of an error fits the status of a process.
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        let child = clone3(&CloneArgs::new(CloneFlags::NONE), number).step(describe)?;
        match child.wait().step(describe)?.status() {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)).step(describe),
        }
    }

    fn hooks(&self, state: &State, made: &Made) -> Result<(), RuntimeError> {
        let Some(all) = self.request.create.spec.hooks() else {
            return Ok(());
        };
        let state = state.at(Status::Creating, made.pid()?.as_raw_pid());
        hooks::run("prestart", all.prestart().as_ref(), &state)?;
        hooks::run("createRuntime", all.create_runtime().as_ref(), &state)
    }
}

/// The streams that pipes of the checkpoint are replaced by.
fn streams(stdio: &StdioSpec) -> Vec<BorrowedFd<'_>> {
    match stdio {
        StdioSpec::Fds {
            stdin,
            stdout,
            stderr,
        } => vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        StdioSpec::Inherit => vec![
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ],
        StdioSpec::Terminal { .. } => Vec::new(),
    }
}

// === what came of it ===

/// The first process, once CRIU has made it, and its terminal.
#[derive(Debug, Default)]
struct Made {
    child: Option<Child>,
    console: Option<OwnedFd>,
}

impl Made {
    fn take(&mut self, pid: Pid) -> Result<(), RuntimeError> {
        if self.child.is_none() {
            let pidfd = pidfd_open(pid, PidfdFlags::empty())
                .step(|| "take over the restored process".to_owned())?;
            self.child = Some(Child { pid, pidfd });
        }
        Ok(())
    }

    fn pid(&self) -> Result<Pid, RuntimeError> {
        let child = self.child.as_ref().ok_or_else(|| RuntimeError::Criu {
            reason: "it did not name the restored process".to_owned(),
        })?;
        Ok(child.pid)
    }

    fn launched(&mut self) -> Result<Launched, RuntimeError> {
        self.pid()?;
        match self.child.take() {
            Some(child) => Ok(Launched::restored(child, self.console.take())),
            None => Err(RuntimeError::Died { how: String::new() }),
        }
    }

    fn kill(&self) {
        if let Some(child) = &self.child {
            drop(child.kill(Signal::KILL));
        }
    }

    fn reap(&self) {
        if let Some(child) = &self.child {
            drop(child.wait());
        }
    }
}
