//! The executable that enters a container must not be one that the container can write
//! (CVE-2019-5736): the program executes itself again from a read-only clone of its file.

use std::env::{args_os, vars_os};
use std::ffi::{CString, OsStr};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context as _, Result};
use havre_sys::{fd, process};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fcntl_get_seals, fstatvfs, open};

/// Returns if the program runs from a file that cannot be written through; otherwise does not
/// return, but starts over.
pub(crate) fn executable() -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let exe =
        open(c"/proc/self/exe", flags, Mode::empty()).context("failed to open /proc/self/exe")?;
    let status = fstatvfs(&exe).context("failed to look at /proc/self/exe")?;
    let sealed =
        || fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::WRITE));
    if status.f_flag.contains(StatVfsMountFlags::RDONLY) || sealed() {
        return Ok(());
    }
    let clone =
        fd::self_exe_readonly().context("failed to make a read-only copy of the runtime")?;
    let text = |text: &OsStr| CString::new(text.as_bytes());
    let argv: Vec<_> = args_os()
        .map(|word| text(&word))
        .collect::<Result<_, _>>()?;
    let mut env = Vec::new();
    for (name, value) in vars_os() {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        env.push(text(&entry)?);
    }
    Err(process::fexec(clone.as_fd(), &argv, &env))
        .context("failed to execute the read-only copy of the runtime")
}
