//! What an end leaves behind is removed beside everything else: an interface takes the kernel tens of milliseconds, and
//! connections that were under way must be forgotten before another container gets the address (SECURITY N20).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use havre_netlink::{Connections, NetlinkError, Route};
use rustix::io::Errno;

use crate::error::NetworkError;

/// What an end leaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remains {
    /// The host's end of its cable, unless that is gone.
    pub(crate) link: Option<String>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The thread that removes it.
#[derive(Debug)]
pub(crate) struct Janitor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    waiting: VecDeque<Remains>,
    /// What is being removed now.
    now: Option<Remains>,
    closed: bool,
}

impl Work {
    fn holds(&self, wanted: impl Fn(IpAddr) -> bool) -> bool {
        let mut all = self.waiting.iter().chain(&self.now);
        all.any(|remains| remains.addresses.iter().any(|address| wanted(*address)))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, work: MutexGuard<'a, Work>) -> MutexGuard<'a, Work> {
        let waited = self.changed.wait(work);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until it is closed and nothing is left.
    fn run(&self, mut tools: Tools) {
        let mut work = self.lock();
        loop {
            match work.waiting.pop_front() {
                Some(remains) => {
                    work.now = Some(remains.clone());
                    drop(work);
                    tools.remove(&remains);
                    work = self.lock();
                    work.now = None;
                    self.changed.notify_all();
                }
                None if work.closed => return,
                None => work = self.wait(work),
            }
        }
    }
}

#[derive(Debug)]
struct Tools {
    route: Route,
    connections: Connections,
}

impl Tools {
    /// Nobody waits for it, so nobody is told when the kernel refuses: the start of the next engine looks again.
    fn remove(&mut self, remains: &Remains) {
        if let Some(name) = &remains.link {
            let gone = self.unplug(name);
            drop(gone);
        }
        for address in &remains.addresses {
            drop(self.connections.forget_address(*address));
        }
    }

    fn unplug(&mut self, name: &str) -> Result<(), NetlinkError> {
        let link = self.route.link(name)?;
        self.route.delete_link(link.index)
    }
}

impl Janitor {
    /// Begins, in the namespace of the calling thread.
    pub(crate) fn start() -> Result<Self, NetworkError> {
        let shared = Arc::new(Shared::default());
        let mut connections = Connections::open()?;
        // What cannot be counted cannot be forgotten either, and nobody would be told later.
        connections.count().map_err(|error| match error.errno() {
            // What netfilter says when nobody there knows of connections.
            Some(Errno::INVAL) => NetworkError::Unsupported("nf_conntrack_netlink"),
            _ => error.into(),
        })?;
        let tools = Tools {
            route: Route::open()?,
            connections,
        };
        let inner = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("havre-netclean".to_owned())
            .spawn(move || inner.run(tools))
            .map_err(NetworkError::system("start the thread that cleans up"))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Has something removed.
    pub(crate) fn give(&self, remains: Remains) {
        self.shared.lock().waiting.push_back(remains);
        self.shared.changed.notify_all();
    }

    /// Waits until nothing is left of who had such addresses before.
    pub(crate) fn wait_for(&self, wanted: impl Fn(IpAddr) -> bool) {
        let mut work = self.shared.lock();
        while work.holds(&wanted) {
            work = self.shared.wait(work);
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // What it panicked of was printed.
            drop(thread.join());
        }
    }
}
