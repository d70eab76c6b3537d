//! Creation of processes with fork semantics, and execution of programs. Threads are never
//! made here, and memory is never shared with a child (see [`crate::spawn`] for vfork semantics).

use std::ffi::{CStr, CString};
use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid,
};

use crate::check;

/// The exit status of a child whose closure panicked.
pub const PANIC_STATUS: i32 = 101;

/// Flags for [`clone3`]: only those that keep fork semantics (a separate address space and a
/// separate descriptor table) can be expressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneFlags(u64);

impl CloneFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// A new mount namespace.
    pub const NEWNS: Self = Self(0x0002_0000);
    /// A new cgroup namespace.
    pub const NEWCGROUP: Self = Self(0x0200_0000);
    /// A new UTS namespace.
    pub const NEWUTS: Self = Self(0x0400_0000);
    /// A new IPC namespace.
    pub const NEWIPC: Self = Self(0x0800_0000);
    /// A new user namespace.
    pub const NEWUSER: Self = Self(0x1000_0000);
    /// A new PID namespace.
    pub const NEWPID: Self = Self(0x2000_0000);
    /// A new network namespace.
    pub const NEWNET: Self = Self(0x4000_0000);
    /// A new time namespace (the child is inside it only after the offsets are written).
    pub const NEWTIME: Self = Self(0x0000_0080);
    /// The child's parent is the caller's parent.
    pub const PARENT: Self = Self(0x0000_8000);
    /// Every signal that has a handler is reset to its default action in the child.
    pub const CLEAR_SIGHAND: Self = Self(0x1_0000_0000);

    const PIDFD: u64 = 0x0000_1000;
    // libc's constant is a c_int and overflows; the value is from linux/sched.h.
    const INTO_CGROUP: u64 = 0x2_0000_0000;

    /// The bits as the kernel numbers them.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// True if every flag of `other` is in `self`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for CloneFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for CloneFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What [`clone3`] is asked for.
#[derive(Clone, Copy, Debug)]
pub struct CloneArgs<'a> {
    /// Namespaces and the rest.
    pub flags: CloneFlags,
    /// The cgroup v2 directory in which the child is born.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The signal sent to the parent when the child ends; ignored with [`CloneFlags::PARENT`],
    /// where the kernel uses the caller's own.
    pub exit_signal: Signal,
    /// The descriptors that the child keeps; all if there is none.
    pub keep: Option<Keep<'a>>,
}

/// Descriptors that outlive the clone in the child. Numbers, since the caller may be about to
/// move their owners into the child's closure.
#[derive(Clone, Copy, Debug)]
pub struct Keep<'a> {
    /// All below this number are kept.
    pub below: u32,
    /// And these.
    pub fds: &'a [RawFd],
}

impl CloneArgs<'_> {
    /// Arguments with these flags, no cgroup, and SIGCHLD as the exit signal.
    #[must_use]
    pub const fn new(flags: CloneFlags) -> Self {
        Self {
            flags,
            cgroup: None,
            exit_signal: Signal::CHILD,
            keep: None,
        }
    }
}

/// A child process and the descriptor that names it for as long as it is open.
#[derive(Debug)]
pub struct Child {
    /// The process id, in the caller's PID namespace.
    pub pid: Pid,
    /// The process descriptor; readable when the process has ended.
    pub pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It called exit with this code.
    Code(i32),
    /// A signal of this number killed it.
    Signal(i32),
}

impl Exit {
    /// The status as a shell reports it: the code, or 128 + the signal.
    #[must_use]
    pub const fn status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    fn from_wait(status: &WaitIdStatus) -> Option<Self> {
        if let Some(code) = status.exit_status() {
            return Some(Self::Code(code));
        }
        status.terminating_signal().map(Self::Signal)
    }
}

impl Child {
    /// Waits until the process has ended and reaps it.
    pub fn wait(&self) -> io::Result<Exit> {
        loop {
            match self.wait_with(WaitIdOptions::EXITED) {
                Ok(Some(exit)) => return Ok(exit),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reaps the process if it has ended.
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// True if a signal has stopped the process and nobody has let it go on.
    pub fn is_stopped(&self) -> io::Result<bool> {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
        match status {
            // It has been reaped.
            Err(Errno::CHILD) => Ok(false),
            other => Ok(other?.is_some_and(|status| status.stopped())),
        }
    }

    fn wait_with(&self, options: WaitIdOptions) -> io::Result<Option<Exit>> {
        let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), options)?;
        Ok(status.as_ref().and_then(Exit::from_wait))
    }

    /// Sends a signal to the process; never to another that took over its number.
    pub fn kill(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }
}

/// `struct clone_args` of linux/sched.h, version 2.
#[repr(C)]
#[derive(Default)]
struct RawCloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Fails unless the calling process has exactly one thread and shares its memory with none.
///
/// The kernel checks just that before it would do `unshare(CLONE_THREAD)`, which then changes
/// nothing (kernel/fork.c, `check_unshare_flags`). Unlike a look into `/proc` it is one system
/// call and works where no `/proc` is mounted.
pub fn ensure_single_threaded() -> io::Result<()> {
    // SAFETY: CLONE_THREAD makes unshare verify and do nothing; it takes no pointers.
    let ret = unsafe { libc::unshare(libc::CLONE_THREAD) };
    if ret == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EINVAL) {
        return Err(io::Error::other("the process has more than one thread"));
    }
    Err(error)
}

/// Makes a child process that runs `child` and exits with the number it returns.
///
/// Fork semantics: the child has a copy of the memory and of the descriptor table. The caller
/// must be single-threaded, which is checked: otherwise a lock that another thread held at that
/// moment would stay locked in the child for ever. A panic in `child` ends the child with
/// [`PANIC_STATUS`]; it never unwinds into the caller's frames.
///
/// With [`CloneArgs::keep`] every other descriptor is closed before `child` is called, so that
/// nobody who can look into the child finds one of the caller's. `child` must then use none but
/// those kept, and drop no owner of another.
pub fn clone3(args: &CloneArgs<'_>, child: impl FnOnce() -> i32) -> io::Result<Child> {
    ensure_single_threaded()?;
    let mut pidfd: libc::c_int = -1;
    let parent = args.flags.contains(CloneFlags::PARENT);
    let mut raw = RawCloneArgs {
        flags: args.flags.0 | CloneFlags::PIDFD,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: if parent {
            0
        } else {
            u64::from(args.exit_signal.as_raw().unsigned_abs())
        },
        ..RawCloneArgs::default()
    };
    if let Some(cgroup) = args.cgroup {
        raw.flags |= CloneFlags::INTO_CGROUP;
        raw.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    let gaps = args.keep.map_or_else(Vec::new, gaps);
    // SAFETY: `raw` and `pidfd` outlive the call and have the layout of linux/sched.h. Without
    // CLONE_VM (not expressible in CloneFlags) and with a null stack the child continues on a
    // copy of this very stack, as after fork; the process has one thread, checked above, so no
    // lock of the C library or of Rust is held by a thread that the child lacks.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut raw, size_of::<RawCloneArgs>()) };
    if ret == 0 {
        close_gaps(&gaps);
        let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(PANIC_STATUS);
        // SAFETY: _exit takes no pointers; handlers of the parent's atexit must not run twice.
        unsafe { libc::_exit(code) }
    }
    let ret = check(ret)?;
    // SAFETY: CLONE_PIDFD succeeded, so the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(ret).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("clone3 returned an impossible process id"))?;
    Ok(Child { pid, pidfd })
}

/// The ranges of numbers between the descriptors that are kept.
fn gaps(keep: Keep<'_>) -> Vec<(u32, u32)> {
    let mut kept: Vec<u32> = keep.fds.iter().map(|fd| fd.unsigned_abs()).collect();
    kept.sort_unstable();
    let mut out = Vec::new();
    let mut first = keep.below;
    for fd in kept {
        if fd > first {
            out.push((first, fd - 1));
        }
        first = first.max(fd + 1);
    }
    out.push((first, u32::MAX));
    out
}

/// Closes every descriptor of this process but those named, for a child made by [`clone3`] that is
/// about to make one of its own in a place where it can be looked into.
///
/// The contract is that of [`CloneArgs::keep`]: from here on none of the others is used, and no owner
/// of one is dropped, which a process that ends by returning from its closure fulfils.
pub fn close_others(keep: Keep<'_>) {
    close_gaps(&gaps(keep));
}

/// Closes descriptors right after the clone; without allocation, and nothing can fail that
/// matters: a number that is not open is no error.
fn close_gaps(gaps: &[(u32, u32)]) {
    for (first, last) in gaps {
        // SAFETY: the call takes no pointers. The owners of these numbers live in the copy of the
        // caller's frames, which the child never returns to, and by the contract of `clone3` the
        // child's closure neither uses nor drops them.
        unsafe { libc::syscall(libc::SYS_close_range, *first, *last, 0) };
    }
}

/// Replaces the program of this process by the file `program`. Returns only on failure.
pub fn exec(program: &CStr, argv: &[CString], envp: &[CString]) -> io::Error {
    let argv = pointers(argv);
    let envp = pointers(envp);
    // SAFETY: both arrays end with a null pointer and their strings outlive the call.
    let never = unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    debug_assert_eq!(never, -1, "execve returned without an error");
    io::Error::last_os_error()
}

/// Replaces the program of this process by the file behind `program` (`O_PATH` suffices).
/// Returns only on failure. A script needs a descriptor that survives the call: its interpreter
/// opens it by number, so a close-on-exec one fails with ENOENT.
pub fn fexec(program: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> io::Error {
    let argv = pointers(argv);
    let envp = pointers(envp);
    // SAFETY: both arrays end with a null pointer and their strings, the empty path too, outlive
    // the call; the descriptor is borrowed for it.
    let never = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    debug_assert_eq!(never, -1, "execveat returned without an error");
    io::Error::last_os_error()
}

/// Ends the process at once, without destructors or exit handlers: for the far side of a fork.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// The null-terminated array of pointers that execve wants. Valid while `strings` lives.
pub(crate) fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([ptr::null()])
        .collect()
}
