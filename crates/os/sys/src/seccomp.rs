//! Loading of seccomp filters. What a filter says is decided in `havre-seccomp`.

use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{FromRawFd as _, OwnedFd};

use crate::check;

/// One classic BPF instruction, `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    /// The operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jt: u8,
    /// Instructions to skip when false.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

#[repr(C)]
struct SockFprog {
    len: u16,
    filter: *const SockFilter,
}

/// `SECCOMP_FILTER_FLAG_*` of linux/seccomp.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeccompFlags(u32);

impl SeccompFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The filter is put on every thread of the process.
    pub const TSYNC: Self = Self(1);
    /// Actions other than allow are logged.
    pub const LOG: Self = Self(1 << 1);
    /// No speculative store bypass mitigation.
    pub const SPEC_ALLOW: Self = Self(1 << 2);
    /// A listener for NOTIFY actions is returned.
    pub const NEW_LISTENER: Self = Self(1 << 3);
    /// With TSYNC and a listener: a thread that cannot be synchronised gives ESRCH.
    pub const TSYNC_ESRCH: Self = Self(1 << 4);
    /// A notified task can be interrupted only by fatal signals once its call was received.
    pub const WAIT_KILLABLE_RECV: Self = Self(1 << 5);

    /// True if every flag of `other` is in `self`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for SeccompFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for SeccompFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Puts the filter on the calling thread and all that it will create.
///
/// Needs CAP_SYS_ADMIN or `no_new_privs`. Returns the listener if the flags ask for one.
pub fn load(program: &[SockFilter], flags: SeccompFlags) -> io::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_too_long| io::ErrorKind::InvalidInput)?;
    let prog = SockFprog {
        len,
        filter: program.as_ptr(),
    };
    // SAFETY: `prog` has the layout of struct sock_fprog and points to `len` instructions that
    // outlive the call; the kernel verifies the program itself.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags.0,
            &raw const prog,
        )
    };
    let ret = check(ret)?;
    if !flags.contains(SeccompFlags::NEW_LISTENER) {
        // With TSYNC a positive value is the thread that could not be synchronised.
        return if ret == 0 {
            Ok(None)
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        };
    }
    let fd = i32::try_from(ret).map_err(io::Error::other)?;
    // SAFETY: with NEW_LISTENER a successful call returns a new descriptor, close-on-exec, that
    // nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}
