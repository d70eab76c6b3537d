//! Starting of another program from a process that may have many threads.
//!
//! The child shares the caller's memory until it executes the program (vfork semantics), and with
//! [`Slots`] its descriptors too, so the cost does not grow with the size of the engine, and the
//! little code that it runs takes no lock and allocates nothing. Unlike posix_spawn this gives a pidfd from birth, takes the
//! program as a descriptor, and leaves exactly the named descriptors open.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};
use rustix::process::Pid;

use crate::process::{Child, pointers};
use crate::signal::{self, SIGNAL_MAX, SignalSet, reset_action};

/// The stack of the child until it executes: system calls only, so a page or two are used.
const STACK: usize = 64 * 1024;

/// What is executed.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// The file at this path; there is no search in PATH.
    Path(&'a CStr),
    /// The file behind this descriptor. A script cannot be executed so: its interpreter would
    /// not find it.
    Fd(BorrowedFd<'a>),
}

/// The lowest number of a slot: above all that a program expects to be given.
const FIRST_SLOT: RawFd = 16;
/// Descriptors of one start: those that are mapped, the program and the directory.
const SLOTS: usize = 12;

/// A few low numbers of descriptors, held for the starting of programs by a process that will have many.
///
/// Without them the child's table is a copy of the caller's, made to be closed again one by one: with three thousand
/// descriptors that takes a millisecond. What lies in the slots is all that the child copies. One start at a time
/// uses them.
#[derive(Debug)]
pub struct Slots(Mutex<Held>);

#[derive(Debug)]
struct Held {
    /// What occupies the numbers in the meantime.
    null: OwnedFd,
    slots: Vec<OwnedFd>,
}

impl Slots {
    /// Takes the lowest numbers that are free: to be called before the process has many.
    pub fn reserve() -> io::Result<Self> {
        let null = rustix::fs::open(c"/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let slots = (0..SLOTS)
            .map(|_| fcntl_dupfd_cloexec(&null, FIRST_SLOT))
            .collect::<Result<_, _>>()?;
        Ok(Self(Mutex::new(Held { null, slots })))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Copies `fds` into slots; their numbers, in the same order.
    fn fill(&mut self, fds: &[BorrowedFd<'_>]) -> io::Result<Vec<RawFd>> {
        if fds.len() > self.slots.len() {
            return Err(io::Error::other("more descriptors than slots"));
        }
        let filled = self.slots.iter_mut().zip(fds).map(|(slot, fd)| {
            dup3(fd, slot, DupFlags::CLOEXEC)?;
            Ok(slot.as_raw_fd())
        });
        filled.collect()
    }

    /// Nothing stays open because it was once given to a child.
    fn clear(&mut self, used: usize) -> io::Result<()> {
        for slot in self.slots.iter_mut().take(used) {
            dup3(&self.null, slot, DupFlags::CLOEXEC)?;
        }
        Ok(())
    }

    /// The first number above all slots.
    fn end(&self) -> u32 {
        let highest = self.slots.iter().map(OwnedFd::as_raw_fd).max();
        highest
            .and_then(|number| u32::try_from(number + 1).ok())
            .unwrap_or(u32::MAX)
    }
}

/// A program about to be started.
///
/// The child gets the named descriptors and no others, an empty signal mask, default signal
/// actions, and exactly the given environment. Descriptors 0, 1 and 2 are inherited as they are
/// if nothing is mapped onto them.
#[derive(Debug)]
pub struct Spawn<'a> {
    program: Program<'a>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: Option<BorrowedFd<'a>>,
    fds: Vec<(BorrowedFd<'a>, RawFd)>,
    session: Session,
    slots: Option<&'a Slots>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Inherit,
    Group,
    Leader,
}

impl<'a> Spawn<'a> {
    /// A program with its arguments, the name it is called by first, and an empty environment.
    #[must_use]
    pub fn new(program: Program<'a>, argv: Vec<CString>) -> Self {
        Self {
            program,
            argv,
            env: Vec::new(),
            cwd: None,
            fds: Vec::new(),
            session: Session::Inherit,
            slots: None,
        }
    }

    /// Sets the whole environment, each entry `NAME=value`.
    #[must_use]
    pub fn env(mut self, env: Vec<CString>) -> Self {
        self.env = env;
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, dir: BorrowedFd<'a>) -> Self {
        self.cwd = Some(dir);
        self
    }

    /// Gives the child a copy of `fd` as the number `target`.
    #[must_use]
    pub fn fd(mut self, fd: BorrowedFd<'a>, target: RawFd) -> Self {
        self.fds.push((fd, target));
        self
    }

    /// Makes the child the leader of a new session without a terminal.
    #[must_use]
    pub const fn new_session(mut self) -> Self {
        self.session = Session::Leader;
        self
    }

    /// Makes the child the leader of a new process group.
    #[must_use]
    pub const fn new_group(mut self) -> Self {
        self.session = Session::Group;
        self
    }

    /// Starts it with the descriptors in these slots, whatever else the caller has open.
    #[must_use]
    pub const fn slots(mut self, slots: &'a Slots) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Starts the program. An error of any step in the child, the execution included, is
    /// returned here, and then no child is left.
    pub fn spawn(self) -> io::Result<Child> {
        let program = match self.program {
            Program::Path(_) => None,
            Program::Fd(fd) => Some(fd),
        };
        let mapped = self.fds.iter().map(|(fd, _)| *fd);
        let sources: Vec<BorrowedFd<'_>> = mapped.chain(program).chain(self.cwd).collect();
        let highest = self.fds.iter().map(|(_, target)| *target).max();
        // A source whose number is below the highest target could be overwritten before its
        // turn, so each is first copied above all targets.
        let above = highest.unwrap_or(2).max(2) + 1;
        let Some(slots) = self.slots else {
            let copies: Vec<OwnedFd> = sources
                .iter()
                .map(|fd| fcntl_dupfd_cloexec(fd, above))
                .collect::<Result<_, _>>()?;
            let numbers: Vec<RawFd> = copies.iter().map(AsRawFd::as_raw_fd).collect();
            return self.start(&numbers, None);
        };
        if above > FIRST_SLOT {
            return Err(io::Error::other("a descriptor is mapped into the slots"));
        }
        let mut held = slots.lock();
        let started = held
            .fill(&sources)
            .and_then(|numbers| self.start(&numbers, Some(held.end())));
        if held.clear(sources.len()).is_err() {
            // The next start takes their places.
        }
        started
    }

    /// `numbers` are the copies of the mapped descriptors, of the program and of the directory.
    fn start(&self, numbers: &[RawFd], table_end: Option<u32>) -> io::Result<Child> {
        let mut numbers = numbers.iter().copied();
        let targets = self.fds.iter().map(|(_, target)| *target);
        let maps: Vec<(RawFd, RawFd)> =
            numbers.by_ref().take(self.fds.len()).zip(targets).collect();
        let (path, program_fd) = match self.program {
            Program::Path(path) => (path, libc::AT_FDCWD),
            Program::Fd(_) => (c"", numbers.next().unwrap_or(libc::AT_FDCWD)),
        };
        let argv = pointers(&self.argv);
        let envp = pointers(&self.env);
        let mut plan = Plan {
            path: path.as_ptr(),
            program_fd,
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            cwd: numbers.next(),
            maps: &maps,
            session: self.session,
            table_end,
            error: 0,
        };
        // No handler of the parent may run in the child on the shared memory.
        let old_mask = signal::block_all()?;
        let started = start(&mut plan);
        signal::set_mask(&old_mask)?;
        let child = started?;
        if plan.error != 0 {
            child.wait()?;
            return Err(io::Error::from_raw_os_error(plan.error));
        }
        Ok(child)
    }
}

/// What the child reads, and where it leaves the error that ended it. All memory belongs to the
/// parent, which is suspended for as long as the child uses it.
struct Plan<'a> {
    path: *const libc::c_char,
    program_fd: RawFd,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    cwd: Option<RawFd>,
    maps: &'a [(RawFd, RawFd)],
    session: Session,
    /// The descriptors are shared until the child has copied those below this number; none: it has a copy of all.
    table_end: Option<u32>,
    error: i32,
}

fn start(plan: &mut Plan<'_>) -> io::Result<Child> {
    let mut stack: Vec<u128> = Vec::with_capacity(STACK / size_of::<u128>());
    // Stacks grow downwards; u128 keeps the end aligned to 16 bytes as the ABI wants.
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    if plan.table_end.is_some() {
        flags |= libc::CLONE_FILES;
    }
    let mut pidfd: libc::c_int = -1;
    let plan: *mut Plan<'_> = plan;
    // SAFETY: `child_main` has the expected signature and `plan` outlives the child's use of it:
    // CLONE_VFORK suspends this thread until the child executed or ended. The stack is unused
    // memory of that size, freed after. All signals are blocked by the caller, so no handler
    // runs on it. `pidfd` receives the descriptor (CLONE_PIDFD uses the parent-tid argument).
    let pid = unsafe { libc::clone(child_main, top.cast(), flags, plan.cast(), &raw mut pidfd) };
    let pid = i32::try_from(crate::check(pid.into())?)
        .ok()
        .and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("clone returned an impossible process id"))?;
    // SAFETY: CLONE_PIDFD succeeded, so the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    drop(stack);
    Ok(Child { pid, pidfd })
}

extern "C" fn child_main(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` passes a pointer to its Plan and is suspended, so this is the only access.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    plan.error = prepare_and_exec(plan);
    // SAFETY: _exit takes no pointers. Returning would run the C library's exit path.
    unsafe { libc::_exit(127) }
}

fn errno() -> i32 {
    // Reads the C library's errno; the parent thread whose storage it is, is suspended.
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// Runs in the child, on memory shared with a parent whose other threads go on: system calls
/// only, no allocation, no lock, no panic.
fn prepare_and_exec(plan: &Plan<'_>) -> i32 {
    // First of all: from here on the table is the child's own.
    if let Some(end) = plan.table_end
        && crate::fd::own_table_below(end).is_err()
    {
        return errno();
    }
    for number in 1..=SIGNAL_MAX {
        reset_action(number);
    }
    let session = match plan.session {
        Session::Inherit => 0,
        // SAFETY: the call takes no pointers.
        Session::Leader => unsafe { libc::setsid() },
        // SAFETY: the call takes no pointers.
        Session::Group => unsafe { libc::setpgid(0, 0) },
    };
    if session == -1 {
        return errno();
    }
    if crate::fd::close_range_cloexec(3).is_err() {
        return errno();
    }
    for (from, to) in plan.maps {
        // SAFETY: the descriptor table is the child's own copy, so replacing `to` takes nothing
        // from the parent; `from` is above every target and open.
        if unsafe { libc::dup2(*from, *to) } == -1 {
            return errno();
        }
    }
    if let Some(dir) = plan.cwd {
        // SAFETY: without CLONE_FS the working directory is the child's own; no pointers.
        if unsafe { libc::fchdir(dir) } == -1 {
            return errno();
        }
    }
    let empty = SignalSet::empty();
    if signal::set_mask(&empty).is_err() {
        return errno();
    }
    // SAFETY: path, argv and envp are null-terminated and belong to the suspended parent.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            plan.program_fd,
            plan.path,
            plan.argv,
            plan.envp,
            libc::AT_EMPTY_PATH,
        )
    };
    errno()
}
