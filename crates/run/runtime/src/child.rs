//! The far side of the clone: the process that turns itself into the first of a container.
//!
//! It runs with the capabilities of the runtime until [`finish`] gives them up, it cannot be
//! inspected (not dumpable), and each error is sent to the runtime, never printed.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use havre_sys::{keyring, namespace, net, prctl, user};
use oci_spec::runtime::{Hook, Hooks};
use rustix::fs::Mode;
use rustix::process::{getpid, umask};
use rustix::thread::UnshareFlags;

use crate::cgroups::Placement;
use crate::channel::Channel;
use crate::error::{RuntimeError, Step as _};
use crate::hooks;
use crate::plan::{Kind, Plan, ProcessPlan};
use crate::state::{State, Status};
use crate::userns::link_type;

pub(crate) mod devices;
pub(crate) mod finish;
pub(crate) mod rootfs;
pub(crate) mod sysctl;
pub(crate) mod terminal;

use finish::{Finish, Gate, Streams};
use terminal::Terminal;

/// All that the child needs; made before the clone, so that it asks nobody for anything.
#[derive(Debug)]
pub(crate) struct Init<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) process: &'a ProcessPlan,
    pub(crate) hooks: Option<&'a Hooks>,
    pub(crate) state: &'a State,
    /// Namespaces to enter, in order.
    pub(crate) join: &'a [(Kind, OwnedFd)],
    pub(crate) cgroup: &'a Placement<'a>,
    pub(crate) rootfs: &'a rootfs::Sources,
    pub(crate) streams: Streams<'a>,
    pub(crate) gate: Gate<'a>,
    pub(crate) preserve_fds: u32,
    pub(crate) die_with_parent: bool,
}

impl Init<'_> {
    /// The descriptors that the child needs, besides `channel`. Not the runtime's end of that:
    /// while it is open in the child its end would never be seen.
    pub(crate) fn descriptors(&self, channel: &Channel) -> Vec<RawFd> {
        let joined = self.join.iter().map(|(_, fd)| fd.as_fd());
        joined
            .chain(self.cgroup.descriptors())
            .chain(self.rootfs.descriptors())
            .chain(self.streams.descriptors())
            .chain(self.gate.descriptor())
            .map(|fd| fd.as_raw_fd())
            .chain([channel.number()])
            .collect()
    }
}

/// Becomes the container. Returns the exit status of a failure, for success does not return.
pub(crate) fn main(init: &Init<'_>, mut channel: Channel) -> i32 {
    match become_container(init, &mut channel) {
        Ok(never) => match never {},
        Err(error) => {
            channel.fail(&error);
            1
        }
    }
}

fn become_container(init: &Init<'_>, channel: &mut Channel) -> Result<Infallible, RuntimeError> {
    prctl::set_undumpable().step(|| "become undumpable".to_owned())?;
    if let Some(value) = init.process.oom_score_adj {
        prctl::set_oom_score_adj(value).step(|| format!("set oom_score_adj to {value}"))?;
    }
    let labels = finish::Labels::open(init.process)?;
    enter_namespaces(init, channel)?;
    join_keyring(&init.state.id)?;
    umask(Mode::empty());
    let root = rootfs::build(init)?;
    let terminal = if init.process.terminal {
        let terminal = Terminal::open(&root, init.process.console_size)?;
        terminal.bind_console(&root)?;
        Some(terminal)
    } else {
        None
    };
    sysctl::write(&init.plan.sysctls, &root)?;
    run_hooks(init, channel)?;
    if init.plan.namespaces.has(Kind::Mount) {
        rootfs::pivot(&root)?;
    } else {
        rootfs::confine(&root)?;
    }
    rootfs::seal(init.plan, &root, init.rootfs.null.as_fd())?;
    drop(root);
    name_host(init.plan)?;
    if let Some(persona) = init.plan.personality {
        prctl::personality(persona).step(|| "set the personality".to_owned())?;
    }
    Finish {
        plan: init.process,
        labels,
        terminal,
        streams: init.streams,
        gate: init.gate,
        preserve_fds: init.preserve_fds,
        die_with_parent: init.die_with_parent,
        start_hooks: start_hooks(init),
        makes_directory: true,
    }
    .run(channel)
}

// === namespaces ===

fn enter_namespaces(init: &Init<'_>, channel: &Channel) -> Result<(), RuntimeError> {
    let namespaces = &init.plan.namespaces;
    if namespaces.makes(Kind::User) {
        channel
            .need_mappings()
            .step(|| "wait for the user mappings".to_owned())?;
        become_root()?;
    }
    for (kind, fd) in init.join {
        namespace::enter(fd.as_fd(), Some(link_type(*kind)))
            .step(|| format!("enter the {kind:?} namespace"))?;
        if *kind == Kind::User {
            become_root()?;
        }
    }
    init.cgroup.join_self()?;
    // Only now, for a cgroup namespace is rooted where its first process is at that moment.
    if namespaces.makes(Kind::Cgroup) {
        namespace::unshare(UnshareFlags::NEWCGROUP)
            .step(|| "make the cgroup namespace".to_owned())?;
    }
    if namespaces.makes(Kind::Network) {
        net::loopback_up().step(|| "bring up the loopback interface".to_owned())?;
    }
    Ok(())
}

/// In a user namespace the process is nobody until it takes an identity that is mapped.
fn become_root() -> Result<(), RuntimeError> {
    user::setresgid(0).step(|| "become group 0 of the user namespace".to_owned())?;
    user::setresuid(0).step(|| "become user 0 of the user namespace".to_owned())
}

/// KEY_POS_ALL: nothing for those who merely have the same user id, such as root of another
/// container (`man 7 keyrings`).
const POSSESSOR_ALL: u32 = 0x3f00_0000;

/// Keys of the caller's session must not be readable inside.
pub(crate) fn join_keyring(id: &str) -> Result<(), RuntimeError> {
    let name = CString::new(format!("_ses.{id}")).unwrap_or_default();
    match keyring::join_new_session(&name) {
        // A kernel without keyrings has nothing to leak.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other
            .and_then(|keyring| keyring.set_permissions(POSSESSOR_ALL))
            .step(|| "make a session keyring".to_owned()),
    }
}

fn name_host(plan: &Plan) -> Result<(), RuntimeError> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .step(|| format!("set the hostname `{name}`"))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .step(|| format!("set the domainname `{name}`"))?;
    }
    Ok(())
}

// === hooks ===

fn run_hooks(init: &Init<'_>, channel: &Channel) -> Result<(), RuntimeError> {
    let Some(all) = init.hooks else { return Ok(()) };
    if wants_runtime_hooks(all) {
        channel
            .need_hooks()
            .step(|| "wait for the hooks of the runtime".to_owned())?;
    }
    let state = init.state.at(Status::Creating, getpid().as_raw_pid());
    hooks::run("createContainer", all.create_container().as_ref(), &state)
}

/// True if the runtime has something to run before pivot_root.
pub(crate) fn wants_runtime_hooks(hooks: &Hooks) -> bool {
    let some = |list: &Option<Vec<Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
    some(hooks.prestart()) || some(hooks.create_runtime())
}

fn start_hooks<'a>(init: &Init<'a>) -> Option<(&'a Vec<Hook>, State)> {
    let hooks = init.hooks?.start_container().as_ref()?;
    Some((hooks, init.state.at(Status::Created, getpid().as_raw_pid())))
}
