//! Signals read from a descriptor, and the state of signals that a new program inherits.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

use rustix::process::Signal;

use crate::check;

/// The highest signal number of Linux.
pub const SIGNAL_MAX: i32 = 64;

/// The signal of this number, real-time ones included; none outside of 1 to 64.
#[must_use]
pub fn from_raw(number: i32) -> Option<Signal> {
    if !(1..=SIGNAL_MAX).contains(&number) {
        return None;
    }
    // SAFETY: the number is a signal of the kernel. rustix's further condition (numbers that the
    // C library keeps for itself) concerns handlers and masks, and this crate changes masks
    // only through the C library, which ignores those numbers.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}

/// A set of signals.
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries((1..=SIGNAL_MAX).filter(|n| self.contains_raw(*n)))
            .finish()
    }
}

impl SignalSet {
    /// The set with no signal.
    #[must_use]
    pub fn empty() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for a write of a sigset_t.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset has written the whole set; it cannot fail for a valid pointer.
        Self(unsafe { set.assume_init() })
    }

    /// The set with every signal.
    #[must_use]
    pub fn full() -> Self {
        let mut set = Self::empty();
        // SAFETY: the pointer is to an initialised sigset_t that this function owns.
        unsafe { libc::sigfillset(&raw mut set.0) };
        set
    }

    /// The set of these signals.
    #[must_use]
    pub fn of(signals: &[Signal]) -> Self {
        let mut set = Self::empty();
        for signal in signals {
            // SAFETY: the pointer is to an initialised sigset_t that this function owns.
            unsafe { libc::sigaddset(&raw mut set.0, signal.as_raw()) };
        }
        set
    }

    /// True if the signal is in the set.
    #[must_use]
    pub fn contains(&self, signal: Signal) -> bool {
        self.contains_raw(signal.as_raw())
    }

    fn contains_raw(&self, number: i32) -> bool {
        // SAFETY: the pointer is to an initialised sigset_t borrowed for the call.
        unsafe { libc::sigismember(&raw const self.0, number) == 1 }
    }
}

fn change_mask(how: i32, set: &SignalSet) -> io::Result<SignalSet> {
    let mut old = SignalSet::empty();
    // SAFETY: both pointers are to initialised sets that live through the call.
    let error = unsafe { libc::pthread_sigmask(how, &raw const set.0, &raw mut old.0) };
    if error == 0 {
        Ok(old)
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// Blocks the signals in the calling thread (and in the threads and children that it makes).
/// Returns the mask as it was.
pub fn block(set: &SignalSet) -> io::Result<SignalSet> {
    change_mask(libc::SIG_BLOCK, set)
}

/// Blocks every signal that can be blocked. Returns the mask as it was.
pub fn block_all() -> io::Result<SignalSet> {
    block(&SignalSet::full())
}

/// Makes `set` the mask of the calling thread. Returns the mask as it was.
pub fn set_mask(set: &SignalSet) -> io::Result<SignalSet> {
    change_mask(libc::SIG_SETMASK, set)
}

/// Gives every signal its default action and unblocks all: the state in which a program that
/// knows nothing of its parent should start.
pub fn reset_all() -> io::Result<()> {
    for number in 1..=SIGNAL_MAX {
        reset_action(number);
    }
    set_mask(&SignalSet::empty()).map(drop)
}

/// The kernel's `struct sigaction`; all zero means the default action on every architecture.
#[repr(C)]
#[derive(Default)]
struct DefaultAction([u64; 4]);

/// Gives one signal its default action. KILL and STOP refuse, and have it anyway.
/// Async-signal-safe. Past the C library, which would refuse the two signals it keeps for
/// itself, although a parent may have left them ignored.
pub(crate) fn reset_action(number: i32) {
    let action = DefaultAction::default();
    let mask_size = size_of::<u64>();
    let no_old = ptr::null_mut::<DefaultAction>();
    // SAFETY: the action is at least as large as the kernel's structure, outlives the call, and
    // names no handler; no old action is asked for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            &raw const action,
            no_old,
            mask_size,
        )
    };
}

/// Ignores a signal, for instance PIPE, so that a write reports EPIPE instead.
pub fn ignore(signal: Signal) {
    // SAFETY: SIG_IGN is no function of ours; replacing a handler cannot invalidate memory.
    unsafe { libc::signal(signal.as_raw(), libc::SIG_IGN) };
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalInfo {
    /// Its number.
    pub signal: i32,
    /// The sender, or for CHLD the child.
    pub pid: u32,
    /// For CHLD the exit code or the signal.
    pub status: i32,
}

/// A descriptor that delivers signals, non-blocking.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks the signals in the calling thread and makes a descriptor that delivers them. Call
    /// it before any other thread exists, or block them there too.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let set = SignalSet::of(signals);
        block(&set)?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set is initialised and outlives the call.
        let fd = unsafe { libc::signalfd(-1, &raw const set.0, flags) };
        check(fd.into())?;
        // SAFETY: signalfd returned a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that is waiting, if any.
    pub fn read(&self) -> io::Result<Option<SignalInfo>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is valid for a write of `size` bytes.
        let got = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if got == -1 {
            let error = io::Error::last_os_error();
            let empty = error.kind() == io::ErrorKind::WouldBlock;
            return if empty { Ok(None) } else { Err(error) };
        }
        // SAFETY: signalfd delivers whole structures only (`man 2 signalfd`), and one was asked.
        let info = unsafe { info.assume_init() };
        let signal = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
        Ok(Some(SignalInfo {
            signal,
            pid: info.ssi_pid,
            status: info.ssi_status,
        }))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The signals that wait for the calling thread although they are blocked.
pub fn pending() -> io::Result<SignalSet> {
    let mut set = SignalSet::empty();
    // SAFETY: the pointer is to an initialised set that this function owns.
    let ret = unsafe { libc::sigpending(ptr::from_mut(&mut set.0)) };
    check(ret.into())?;
    Ok(set)
}
