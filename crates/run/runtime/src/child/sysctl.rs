//! Kernel parameters of the container's namespaces, written before the root changes.

use std::io;
use std::os::fd::OwnedFd;

use havre_sys::fsroot::Root;
use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstat, fstatvfs, open, openat2};

use crate::error::{RuntimeError, Step as _};
use crate::tree::is_proc;

const WITHIN_PROC: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);
/// fs/proc/root.c: the inode of the root of every procfs.
const PROC_ROOT_INODE: u64 = 1;

/// Sets each parameter; `root` is the tree of the container, attached but not yet the root of the process.
pub(crate) fn write(sysctls: &[(String, String)], root: &Root) -> Result<(), RuntimeError> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let directory = sysctl_directory(root).step(|| "open /proc/sys".to_owned())?;
    for (path, value) in sysctls {
        let describe = || format!("set the sysctl {path}");
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat2(&directory, path, flags, Mode::empty(), WITHIN_PROC).step(describe)?;
        rustix::io::write(&file, value.as_bytes()).step(describe)?;
    }
    Ok(())
}

/// `sys` of the container's own `/proc`, or of the host's where the container has none that serves. Which parameters
/// they show depends on the caller's namespaces alone, but the host's has an entry of the same name for every network
/// namespace that was ever asked for, and the kernel goes through them one by one.
fn sysctl_directory(root: &Root) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let sys = |proc: OwnedFd| Ok(openat2(proc, "sys", flags, Mode::empty(), WITHIN_PROC)?);
    if let Ok(own) = root.open_at("proc".as_ref(), flags, Mode::empty())
        && is_proc(&own)?
        && fstat(&own)?.st_ino == PROC_ROOT_INODE
        && !fstatvfs(&own)?.f_flag.contains(StatVfsMountFlags::RDONLY)
        && let Ok(sys) = sys(own)
    {
        return Ok(sys);
    }
    let host = open("/proc", flags, Mode::empty())?;
    if !is_proc(&host)? {
        return Err(io::Error::other("/proc is not procfs"));
    }
    sys(host)
}
