//! System calls: the one crate that holds unsafe code.
//!
//! `rustix` covers most calls safely and callers use it directly; here is what it lacks. Every
//! function of this crate is safe to call: descriptors come and go as owned types and are
//! close-on-exec from birth, and preconditions that the type system cannot state (a single
//! thread for [`process::clone3`]) are checked at run time. Errors are plain [`std::io::Error`]:
//! the caller knows the subject and adds it.
#![expect(
    unsafe_code,
    reason = "this crate exists to hold the unsafe code of the workspace"
)]
#![warn(missing_docs)]

pub mod bpf;
pub mod datagrams;
pub mod fd;
pub mod fsroot;
pub mod keyring;
pub mod memory;
pub mod mount;
pub mod mounts;
pub mod namespace;
pub mod net;
pub mod prctl;
pub mod process;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod spawn;
#[cfg(feature = "testing")]
pub mod testing;
pub mod user;

use std::io;

/// Turns the return value of a raw system call into a result.
fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}
