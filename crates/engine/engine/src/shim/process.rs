//! The process of a shim, apart from what it answers: to end one that does not.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use havre_sys::process::Child;
use havre_types::ContainerId;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A shim's process.
#[derive(Debug)]
pub(super) enum Process {
    /// Ours to collect when it ends.
    Own(Child),
    /// Of an engine before this one.
    Found(OwnedFd),
    /// It could not be found: it has ended.
    Unknown,
}

impl Process {
    /// Finds the shim that an earlier engine started for `id`. The number may belong to another process by now, so
    /// what it says of itself is read while the descriptor holds it.
    pub(super) fn find(id: &ContainerId, bundle: &Path) -> Self {
        let opened = || {
            let text = fs_err::read_to_string(bundle.join(super::PID_FILE)).ok()?;
            let pid = Pid::from_raw(text.trim().parse().ok()?)?;
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            let words = fs_err::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
            let mut words = words.split(|byte| *byte == 0);
            let first = words.next() == Some(super::PROGRAM.as_bytes());
            (first && words.any(|word| word == id.as_str().as_bytes())).then_some(pidfd)
        };
        opened().map_or(Self::Unknown, Self::Found)
    }

    /// Ends it at once. Its container's processes end with it, unless they have seen to it that they do not.
    pub(super) fn kill(&self) {
        let killed = match self {
            Self::Own(child) => child.kill(Signal::KILL),
            Self::Found(pidfd) => {
                pidfd_send_signal(pidfd.as_fd(), Signal::KILL).map_err(Into::into)
            }
            Self::Unknown => return,
        };
        if let Err(err) = killed {
            tracing::debug!(error = %err, "shim had ended before it was killed");
        }
    }
}

/// Ends the shim of a bundle when there is one.
pub(crate) fn kill_left(id: &ContainerId, bundle: &Path) {
    Process::find(id, bundle).kill();
}
