//! A container's first process as the engine reaches it without the shim: to see that it has ended, and to end
//! it when its shim does not answer.

use std::os::fd::{AsFd as _, OwnedFd};

use havre_api_traits::{ApiError, ApiResult};
use havre_types::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::error::internal;

const FIELD_STATE: usize = 3;
const FIELD_PARENT: usize = 4;
const FIELD_STATUS: usize = 52;

/// The process, held so that its number cannot come to mean another.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: OwnedFd,
    pid: Pid,
}

impl Process {
    /// The process that a shim has just made: it waits at its gate, so that nothing else can have its number.
    pub(crate) fn waiting(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(pid.try_into().ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        Some(Self { pidfd, pid })
    }

    /// The process as a child of its shim, also when it has ended and was not collected.
    pub(super) fn child(pid: u32, shim: u32) -> Option<Self> {
        let process = Self::waiting(pid)?;
        let parent: u32 = process.stat(FIELD_PARENT)?.parse().ok()?;
        (parent == shim).then_some(process)
    }

    /// Finds the first process of a container. The number may belong to another process by now: that it is one of
    /// this container is read while the descriptor holds it.
    pub(crate) fn find(id: &ContainerId, pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(pid.try_into().ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let groups = fs_err::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()));
        groups
            .ok()?
            .contains(id.as_str())
            .then_some(Self { pidfd, pid })
    }

    pub(crate) fn signal(&self, number: u32) -> ApiResult<()> {
        let signal = i32::try_from(number)
            .ok()
            .and_then(havre_sys::signal::from_raw);
        let signal =
            signal.ok_or_else(|| ApiError::invalid(format!("invalid signal: {number}")))?;
        pidfd_send_signal(self.pidfd.as_fd(), signal)
            .map_err(|err| internal("failed to signal the container", &err))
    }

    /// Whether it has ended, or is about to: it lets go of its namespaces first, and taking them down takes time.
    pub(crate) fn is_over(&self) -> bool {
        let namespace = format!("/proc/{}/ns/mnt", self.pid.as_raw_nonzero());
        if fs_err::read_link(namespace).is_err() {
            return true;
        }
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec::default())).is_ok_and(|count| count > 0)
    }

    /// What it ended with, as long as nobody has collected it.
    pub(crate) fn exit_code(&self) -> Option<i64> {
        if self.stat(FIELD_STATE)? != "Z" {
            return None;
        }
        let status = self.stat(FIELD_STATUS)?.parse().ok()?;
        Some(if libc::WIFSIGNALED(status) {
            128 + i64::from(libc::WTERMSIG(status))
        } else {
            libc::WEXITSTATUS(status).into()
        })
    }

    /// A field of its `stat` file, by the number in man 5 proc_pid_stat.
    fn stat(&self, field: usize) -> Option<String> {
        let path = format!("/proc/{}/stat", self.pid.as_raw_nonzero());
        let text = fs_err::read_to_string(path).ok()?;
        // The name before it may hold anything, also blanks and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let value = rest
            .split_whitespace()
            .nth(field.checked_sub(FIELD_STATE)?)?;
        Some(value.to_owned())
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        let Ok(pidfd) = self.pidfd.try_clone().and_then(super::readiness) else {
            return;
        };
        // Readable means ended; an error means that there is nothing to wait for.
        pidfd.readable().await.ok();
    }
}
