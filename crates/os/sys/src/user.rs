//! Identity changes of the calling thread.
//!
//! These are the kernel's calls, not the C library's: only the calling thread changes. They are
//! meant for the single-threaded child that is about to execute a program.

use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Replaces the supplementary groups.
pub fn setgroups(groups: &[u32]) -> io::Result<()> {
    let groups: Vec<_> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    Ok(set_thread_groups(&groups)?)
}

/// Sets the real, effective and saved user id.
pub fn setresuid(uid: u32) -> io::Result<()> {
    let uid = Uid::from_raw(uid);
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// Sets the real, effective and saved group id.
pub fn setresgid(gid: u32) -> io::Result<()> {
    let gid = Gid::from_raw(gid);
    Ok(set_thread_res_gid(gid, gid, gid)?)
}
