//! How long a record is worth waiting for: as long as the container lives, and a little longer.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What the last records of a container may take to be delivered: dockerd gives a driver as long to close.
pub(crate) const LAST: Duration = Duration::from_secs(10);
/// Waiting inside a system call is cut into slices, so that the end of the shim is seen.
pub(crate) const SLICE: Duration = Duration::from_secs(1);

/// Watches the shim while something else is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    shim: Arc<OwnedFd>,
    until: Option<Instant>,
    last: Duration,
}

impl Patience {
    /// `last` is what is left once the shim has gone.
    pub(crate) const fn new(shim: Arc<OwnedFd>, last: Duration) -> Self {
        Self {
            shim,
            until: None,
            last,
        }
    }

    /// Whether it is worth trying once more.
    pub(crate) fn lasts(&mut self) -> bool {
        self.pause(Duration::ZERO)
    }

    /// Waits before another attempt; false when there is no time for one.
    pub(crate) fn pause(&mut self, wish: Duration) -> bool {
        let end = Instant::now() + wish;
        while self.until.is_none() {
            // Only a hang-up wakes: the data that waits meanwhile does not matter.
            let mut fds = [PollFd::new(&*self.shim, PollFlags::RDHUP)];
            let left = end.saturating_duration_since(Instant::now());
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) => return true,
                Ok(_) => self.until = Some(Instant::now() + self.last),
                Err(_) => {}
            }
        }
        let now = Instant::now();
        let until = self.until.unwrap_or(now);
        let left = end.min(until).saturating_duration_since(now);
        if !left.is_zero() && poll(&mut [], Some(&timespec(left))).is_err() {
            // Interrupted: the next attempt comes early.
        }
        Instant::now() < until
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Growing pauses between attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// Half as long again each time, as fluentd's library does.
    pub(crate) fn step(&mut self) -> Duration {
        let now = self.next;
        self.next = (now + now / 2).min(self.most);
        now
    }
}
