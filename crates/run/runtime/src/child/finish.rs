//! The last stretch before the program: streams, identity, limits, gate, filter, execve.
//!
//! The same for the first process of a container and for one that enters: that both take this
//! path is what makes their confinement equal.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use havre_sys::{fd, process, sched, seccomp, signal, user};
use oci_spec::runtime::Hook;
use rustix::fs::{
    FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, fchown, fcntl_setfl, fstat, open, openat2,
};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{
    Signal, fchdir, getcwd, ioctl_tiocsctty, set_parent_process_death_signal, setrlimit, setsid,
    umask,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs,
};

use crate::channel::Channel;
use crate::child::terminal::Terminal;
use crate::error::{RuntimeError, Step as _};
use crate::hooks;
use crate::lookup;
use crate::plan::ProcessPlan;
use crate::plan::process::CapSets;
use crate::state::State;

/// Where the standard streams of the process lead.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Streams<'a> {
    Fds {
        stdin: BorrowedFd<'a>,
        stdout: BorrowedFd<'a>,
        stderr: BorrowedFd<'a>,
    },
    Inherit,
}

impl<'a> Streams<'a> {
    pub(crate) fn descriptors(self) -> impl Iterator<Item = BorrowedFd<'a>> {
        let fds = match self {
            Self::Fds {
                stdin,
                stdout,
                stderr,
            } => Some([stdin, stdout, stderr]),
            Self::Inherit => None,
        };
        fds.into_iter().flatten()
    }
}

/// What the process waits for before it executes its program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gate<'a> {
    Open,
    Channel,
    Listener(BorrowedFd<'a>),
}

impl<'a> Gate<'a> {
    pub(crate) const fn descriptor(self) -> Option<BorrowedFd<'a>> {
        match self {
            Self::Open | Self::Channel => None,
            Self::Listener(listener) => Some(listener),
        }
    }
}

/// Files for the label of a security module, opened while `/proc` is the host's.
#[derive(Debug, Default)]
pub(crate) struct Labels(Vec<(OwnedFd, String)>);

impl Labels {
    pub(crate) fn open(plan: &ProcessPlan) -> Result<Self, RuntimeError> {
        let mut out = Vec::new();
        if let Some(profile) = &plan.apparmor {
            let file = attribute(c"/proc/thread-self/attr/apparmor/exec")
                .step(|| format!("use the AppArmor profile `{profile}`"))?;
            out.push((file, format!("exec {profile}")));
        }
        if let Some(label) = &plan.selinux {
            let file = attribute(c"/proc/thread-self/attr/exec")
                .step(|| format!("use the SELinux label `{label}`"))?;
            out.push((file, label.clone()));
        }
        Ok(Self(out))
    }

    /// The numbers of the open files.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        self.0.iter().map(|(file, _)| file.as_raw_fd()).collect()
    }

    fn write(&self) -> Result<(), RuntimeError> {
        for (file, text) in &self.0 {
            rustix::io::write(file, text.as_bytes())
                .step(|| format!("apply the label `{text}`"))?;
        }
        Ok(())
    }
}

fn attribute(path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let fd = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    if rustix::fs::fstatfs(&fd)?.f_type != crate::tree::PROC_MAGIC {
        return Err(io::Error::other("/proc is not procfs"));
    }
    Ok(fd)
}

/// The last stretch, with what it needs.
#[derive(Debug)]
pub(crate) struct Finish<'a> {
    pub(crate) plan: &'a ProcessPlan,
    pub(crate) labels: Labels,
    pub(crate) terminal: Option<Terminal>,
    pub(crate) streams: Streams<'a>,
    pub(crate) gate: Gate<'a>,
    pub(crate) preserve_fds: u32,
    pub(crate) die_with_parent: bool,
    pub(crate) start_hooks: Option<(&'a Vec<Hook>, State)>,
    /// A working directory that is missing is made: for the first process, as runc does, not for one that joins.
    pub(crate) makes_directory: bool,
}

impl Finish<'_> {
    /// Does not return but by an error. When the gate is a listener, `channel` becomes the
    /// connection of whoever opened it, so that later errors reach that one.
    pub(crate) fn run(mut self, channel: &mut Channel) -> Result<Infallible, RuntimeError> {
        let plan = self.plan;
        self.connect_streams(channel)?;
        own_null().step(|| "open the container's null device".to_owned())?;
        set_scheduling(plan)?;
        for (resource, limit) in &plan.rlimits {
            setrlimit(*resource, *limit).step(|| format!("set the limit {resource:?}"))?;
        }
        enter_directory(&plan.cwd, self.makes_directory)?;
        own_streams(plan)?;
        let extra = take_identity(plan)?;
        let env = with_home(plan);
        let program = lookup::program(first(&plan.args), &env)?;
        signal::reset_all().step(|| "reset the signals".to_owned())?;
        umask(Mode::from_raw_mode(plan.umask));
        fd::close_range_cloexec(3 + self.preserve_fds)
            .step(|| "mark the descriptors close-on-exec".to_owned())?;
        if self.die_with_parent {
            // Changes of identity clear it, so it comes after them. So does the execution of a
            // set-user-id program: whoever finds the caller dead must end the cgroup anyway.
            set_parent_process_death_signal(Some(Signal::KILL))
                .step(|| "tie the process to its parent".to_owned())?;
        }
        self.wait(channel)?;
        if let Some((hooks, state)) = self.start_hooks.take() {
            hooks::run("startContainer", Some(hooks), &state)?;
        }
        self.labels.write()?;
        confine(plan, extra)?;
        let error = process::exec(&program, &plan.args, &env);
        Err(lookup::exec_failure(&program, &error))
    }

    fn connect_streams(&mut self, channel: &Channel) -> Result<(), RuntimeError> {
        let describe = || "connect the standard streams".to_owned();
        setsid().step(|| "start a session".to_owned())?;
        if let Some(terminal) = self.terminal.take() {
            channel
                .console(terminal.master.as_fd())
                .step(|| "hand out the terminal".to_owned())?;
            ioctl_tiocsctty(&terminal.slave).step(|| "take the terminal".to_owned())?;
            for dup in [dup2_stdin, dup2_stdout, dup2_stderr] {
                dup(&terminal.slave).step(describe)?;
            }
        } else if let Streams::Fds {
            stdin,
            stdout,
            stderr,
        } = self.streams
        {
            dup2_stdin(stdin).step(describe)?;
            dup2_stdout(stdout).step(describe)?;
            dup2_stderr(stderr).step(describe)?;
        }
        Ok(())
    }

    /// Says that all is ready, in every case: a parent that died before the process was tied to
    /// it is noticed here, and the end of a process that said so is the execution of its program.
    fn wait(&self, channel: &mut Channel) -> Result<(), RuntimeError> {
        let describe = || "wait to be started".to_owned();
        channel.ready().step(describe)?;
        match self.gate {
            Gate::Open => Ok(()),
            Gate::Channel => channel.await_go().step(describe),
            Gate::Listener(listener) => {
                let connection = loop {
                    match accept_with(listener, SocketFlags::CLOEXEC) {
                        Err(Errno::INTR | Errno::CONNABORTED) => {}
                        other => break other.step(describe)?,
                    }
                };
                *channel = Channel::from_fd(connection);
                Ok(())
            }
        }
    }
}

/// A standard stream that leads to the host's null device is led to the container's: the host's
/// file is none of its business, and a file outside of its mounts could not be in a checkpoint.
fn own_null() -> io::Result<()> {
    let mut null = None;
    for stream in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        // A caller may leave a stream closed.
        if !fstat(stream).is_ok_and(|stat| is_null(&stat)) {
            continue;
        }
        if null.is_none() {
            null = container_null();
        }
        if let Some(null) = &null {
            fd::place(null.as_fd(), stream.as_raw_fd())?;
        }
    }
    Ok(())
}

/// None if the container has no such device.
fn container_null() -> Option<OwnedFd> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Looked at before it is opened: what an image has there may act when it is.
    let reference = open(c"/dev/null", flags | OFlags::PATH, Mode::empty()).ok()?;
    if !is_null(&fstat(&reference).ok()?) {
        return None;
    }
    let flags = flags | OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
    let null = open(c"/dev/null", flags, Mode::empty()).ok()?;
    fcntl_setfl(&null, OFlags::empty()).ok()?;
    is_null(&fstat(&null).ok()?).then_some(null)
}

fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        ) == (1, 3)
}

fn first(args: &[CString]) -> &std::ffi::CStr {
    args.first().map_or(c"", CString::as_c_str)
}

fn set_scheduling(plan: &ProcessPlan) -> Result<(), RuntimeError> {
    if let Some((class, level)) = plan.io_priority {
        sched::set_ioprio(class, level).step(|| "set the I/O priority".to_owned())?;
    }
    if let Some(attr) = &plan.scheduler {
        sched::set_attr(attr).step(|| "set the scheduler".to_owned())?;
    }
    Ok(())
}

/// Enters the working directory without ever following a magic link: a descriptor that is still
/// open could lead out of the container (CVE-2024-21626). With `make` a missing directory is made.
fn enter_directory(path: &Path, make: bool) -> Result<(), RuntimeError> {
    let enter = || -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let root = open(c"/", flags, Mode::empty())?;
        let dir = match openat2(&root, path, flags, Mode::empty(), resolve) {
            // Nothing is made below /proc, where the descriptors that are open for the making
            // would themselves be found.
            Err(Errno::NOENT) if make && !path.starts_with("/proc") => {
                havre_sys::fsroot::Root::from_fd(root)
                    .mkdir_all(path, Mode::from_raw_mode(0o755))?
            }
            other => other?,
        };
        fchdir(&dir)?;
        let seen = getcwd(Vec::new())?;
        if seen.to_bytes().starts_with(b"/") {
            Ok(())
        } else {
            Err(io::Error::other("it is outside of the container"))
        }
    };
    enter().step(|| format!("change to the working directory `{}`", path.display()))
}

/// Lets a user other than root open its own standard streams again (`/dev/stdout`).
fn own_streams(plan: &ProcessPlan) -> Result<(), RuntimeError> {
    if plan.uid == 0 {
        return Ok(());
    }
    for stream in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let stat = match fstat(stream) {
            // A caller may leave a stream closed.
            Err(Errno::BADF) => continue,
            other => other.step(|| "look at the standard streams".to_owned())?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let terminal = kind == FileType::CharacterDevice
            && (136..=143).contains(&rustix::fs::major(stat.st_rdev));
        if stat.st_uid == plan.uid
            || !(terminal || matches!(kind, FileType::Fifo | FileType::Socket))
        {
            continue;
        }
        let gid = (!terminal).then(|| Gid::from_raw(plan.gid));
        match fchown(stream, Some(Uid::from_raw(plan.uid)), gid) {
            // Not ours to give away: a stream from outside the user namespace, a read-only one.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(error) => {
                return Err(error).step(|| "give the standard streams to the user".to_owned());
            }
        }
    }
    Ok(())
}

// === identity ===

const NO_CAPS: CapSets = CapSets {
    bounding: 0,
    effective: 0,
    permitted: 0,
    inheritable: 0,
    ambient: 0,
};

/// Takes the user, the groups and the capabilities of the process. Returns the final sets if
/// CAP_SYS_ADMIN had to be kept for the seccomp filter until the very end.
fn take_identity(plan: &ProcessPlan) -> Result<Option<CapabilitySets>, RuntimeError> {
    let wanted = plan.caps.unwrap_or(NO_CAPS);
    let held = capabilities(None)
        .step(|| "read the capabilities".to_owned())?
        .permitted
        .bits();
    drop_bounding(wanted.bounding)?;
    set_keep_capabilities(true).step(|| "keep the capabilities".to_owned())?;
    user::setgroups(&plan.groups).step(|| "set the supplementary groups".to_owned())?;
    user::setresgid(plan.gid).step(|| format!("become group {}", plan.gid))?;
    user::setresuid(plan.uid).step(|| format!("become user {}", plan.uid))?;
    set_keep_capabilities(false).step(|| "end keeping the capabilities".to_owned())?;
    // What the runtime itself lacks it cannot give.
    let set = |bits: u64| CapabilitySet::from_bits_retain(bits & held);
    let last = CapabilitySets {
        effective: set(wanted.effective),
        permitted: set(wanted.permitted),
        inheritable: set(wanted.inheritable),
    };
    let early_filter = plan.filter.is_some() && !plan.no_new_privs;
    let mut now = last;
    if early_filter {
        now.effective |= CapabilitySet::SYS_ADMIN;
        now.permitted |= CapabilitySet::SYS_ADMIN;
    }
    set_capabilities(None, now).step(|| "set the capabilities".to_owned())?;
    set_ambient(wanted.ambient & held)?;
    Ok(early_filter.then_some(last))
}

fn drop_bounding(keep: u64) -> Result<(), RuntimeError> {
    for number in 0..64_u32 {
        let bit = 1_u64 << number;
        if keep & bit != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
            Ok(()) => {}
            // The kernel knows no capability of this number, nor of a higher one.
            Err(Errno::INVAL) => break,
            Err(error) => {
                return Err(error)
                    .step(|| format!("drop capability {number} from the bounding set"));
            }
        }
    }
    Ok(())
}

fn set_ambient(wanted: u64) -> Result<(), RuntimeError> {
    clear_ambient_capability_set().step(|| "clear the ambient capabilities".to_owned())?;
    for number in (0..64_u32).filter(|number| wanted & (1 << number) != 0) {
        let one = CapabilitySet::from_bits_retain(1 << number);
        configure_capability_in_ambient_set(one, true)
            .step(|| format!("raise the ambient capability {number}"))?;
    }
    Ok(())
}

/// After this hardly any system call may be left.
fn confine(plan: &ProcessPlan, last: Option<CapabilitySets>) -> Result<(), RuntimeError> {
    if plan.no_new_privs {
        set_no_new_privs(true).step(|| "set no_new_privs".to_owned())?;
    }
    if let Some(filter) = &plan.filter {
        seccomp::load(&filter.program, filter.flags)
            .step(|| "load the seccomp filter".to_owned())?;
    }
    if let Some(last) = last {
        set_capabilities(None, last).step(|| "give up CAP_SYS_ADMIN".to_owned())?;
    }
    Ok(())
}

// === environment ===

/// The longest `/etc/passwd` that is looked into.
const PASSWD_MAX: usize = 1 << 20;

/// The environment of the specification, with HOME added from the container's `/etc/passwd` if it
/// is not there, as runc does.
fn with_home(plan: &ProcessPlan) -> Vec<CString> {
    let mut env = plan.env.clone();
    if env
        .iter()
        .any(|entry| entry.to_bytes().starts_with(b"HOME="))
    {
        return env;
    }
    let passwd = read_passwd().unwrap_or_default();
    let home = home_of(&passwd, plan.uid).unwrap_or(b"/");
    if let Ok(entry) = CString::new([b"HOME=", home].concat()) {
        env.push(entry);
    }
    env
}

fn read_passwd() -> io::Result<Vec<u8>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let dir = open(
        c"/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // Neither a FIFO nor a device of the image may hold us up or act.
    let reference = openat2(
        &dir,
        c"etc/passwd",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?;
    if FileType::from_raw_mode(fstat(&reference)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat2(&dir, c"etc/passwd", flags, Mode::empty(), resolve)?;
    let mut out = Vec::new();
    let mut buffer = [0; 4096];
    while out.len() < PASSWD_MAX {
        match rustix::io::read(&file, &mut buffer)? {
            0 => break,
            count => out.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
    Ok(out)
}

fn home_of(passwd: &[u8], uid: u32) -> Option<&[u8]> {
    let uid = uid.to_string();
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<_> = line.split(|byte| *byte == b':').collect();
        (fields.get(2).copied() == Some(uid.as_bytes())).then(|| fields.get(5).copied())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_the_sixth_field_of_the_users_line() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/var/www:/bin/false\n";
        assert_eq!(home_of(passwd, 33), Some(&b"/var/www"[..]));
        assert_eq!(home_of(passwd, 0), Some(&b"/root"[..]));
        assert_eq!(home_of(passwd, 3), None);
        assert_eq!(home_of(b"x:x:3", 3), None);
    }
}
