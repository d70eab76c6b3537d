//! A container's first process as the engine reaches it without the shim: only for one whose shim does not answer.

use std::os::fd::{AsFd as _, OwnedFd};

use havre_api_traits::{ApiError, ApiResult};
use havre_types::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::error::internal;

/// The process, held so that its number cannot come to mean another.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: OwnedFd,
    pid: Pid,
}

impl Process {
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

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        let Ok(pidfd) = self.pidfd.try_clone().and_then(super::readiness) else {
            return;
        };
        // Readable means ended; an error means that there is nothing to wait for.
        pidfd.readable().await.ok();
    }
}
