//! Process attributes that rustix lacks or words awkwardly.

use std::io;

use rustix::process::{DumpableBehavior, Pid, set_child_subreaper, set_dumpable_behavior};

/// Makes this process the one that inherits the orphans below it, or ends that.
pub fn set_subreaper(enable: bool) -> io::Result<()> {
    // rustix passes the number of the Pid as the flag.
    Ok(set_child_subreaper(enable.then_some(Pid::INIT))?)
}

/// Hides this process from its own user: no ptrace, no access to `/proc/self/{exe,fd,mem}` from
/// inside a container, until the next execve.
pub fn set_undumpable() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Sets the execution domain (`man 2 personality`), such as `0x0008` for LINUX32.
pub fn personality(persona: u32) -> io::Result<()> {
    // SAFETY: the call takes a number and no pointers.
    let ret = unsafe { libc::personality(persona.into()) };
    if ret == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Writes the badness adjustment (-1000 to 1000) of the calling process.
pub fn set_oom_score_adj(value: i32) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, open};
    let fd = open(
        c"/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::io::write(&fd, value.to_string().as_bytes())?;
    Ok(())
}
