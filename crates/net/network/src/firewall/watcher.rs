//! The thread that hears when somebody removes the engine's rules, and puts them back (SECURITY N04).

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use havre_netlink::nft::{Change, Event, Family, Tables, Watch};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::Firewall;
use crate::error::NetworkError;

/// What failed is tried again after so long.
const AGAIN: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// The host's rules are looked at when nothing has changed for so long: who changes them changes many.
const CALM: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Hears until it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to hear, in the namespace of the calling thread.
    pub(crate) fn start(firewall: Arc<Firewall>) -> Result<Self, NetworkError> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|errno| NetworkError::system("make an event descriptor")(errno.into()))?;
        let stop = Arc::new(stop);
        let hearing = Hearing {
            own: firewall.port()?,
            firewall,
            watch: Watch::open()?,
            stop: Arc::clone(&stop),
        };
        let thread = thread::Builder::new()
            .name("havre-netwatch".to_owned())
            .spawn(move || hearing.run())
            .map_err(NetworkError::system(
                "start the thread that watches the rules",
            ))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It can fail only when the counter is full, and then the thread is awake, too.
        let _awake = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // What it panicked of was printed.
            drop(thread.join());
        }
    }
}

struct Hearing {
    firewall: Arc<Firewall>,
    own: u32,
    watch: Watch,
    stop: Arc<OwnedFd>,
}

impl Hearing {
    fn run(mut self) {
        let (mut owed, mut curious) = (false, false);
        loop {
            let stop = self.stop.as_fd();
            let mut fds = [
                PollFd::new(&stop, PollFlags::IN),
                PollFd::new(&self.watch, PollFlags::IN),
            ];
            let limit = match (curious, owed) {
                (true, _) => Some(&CALM),
                (false, true) => Some(&AGAIN),
                (false, false) => None,
            };
            let quiet = match poll(&mut fds, limit) {
                Ok(count) => count == 0,
                Err(Errno::INTR) => false,
                Err(_) => return,
            };
            if !fds[0].revents().is_empty() {
                return;
            }
            match self.watch.events() {
                Ok(Some(events)) => {
                    owed |= events.iter().any(|event| self.robs(event));
                    curious |= events.iter().any(|event| self.concerns_host(event));
                }
                // More happened than was kept: better once too often.
                Ok(None) => owed = true,
                Err(_) => return,
            }
            if owed {
                owed = self.firewall.restore().is_err();
                curious = owed;
            } else if curious && quiet {
                owed = self.firewall.look().is_err();
                curious = false;
            }
        }
    }

    /// Whether somebody else changed a table that may have rules for arriving packets.
    fn concerns_host(&self, event: &Event) -> bool {
        event.port != self.own
            && event.table != self.firewall.name
            && [Tables::Inet, Tables::Ipv4, Tables::Ipv6]
                .iter()
                .any(|family| family.is_of(event))
    }

    /// Whether somebody else removed something of the engine's tables.
    fn robs(&self, event: &Event) -> bool {
        event.change == Change::Removed
            && event.port != self.own
            && event.table == self.firewall.name
            && [Family::Inet, Family::Bridge]
                .iter()
                .any(|family| family.is_of(event))
    }
}
