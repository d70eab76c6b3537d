//! Namespaces with a cable, made ahead: making one takes longer than the rest of a container's network.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use havre_netlink::{Kind, LinkChange, NewLink, Route};
use rustix::thread::LinkNameSpaceType;

use super::{Cable, FIRST, Sandbox};
use crate::driver::VETH;
use crate::error::NetworkError;
use crate::inside::{apart, set_if_there};

/// While there is another one, nothing is made for so long after one was taken: the kernel does such things one by one, and
/// the one that was taken is being connected.
const CALM: Duration = Duration::from_millis(5);
const FOREVER: Duration = Duration::from_secs(3600);

/// What the makers need of the host.
#[derive(Debug)]
pub(crate) struct Stock {
    host: OwnedFd,
    route: Mutex<Route>,
    prefix: String,
}

/// Namespaces that wait for a container, and the thread that makes them.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    maker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stock: Stock,
    shelf: Mutex<Shelf>,
    changed: Condvar,
}

#[derive(Debug)]
struct Shelf {
    ready: VecDeque<Sandbox>,
    wanted: usize,
    closed: bool,
    /// When one was taken last.
    taken: Option<Instant>,
}

impl Stock {
    /// Of the calling thread's namespace; names of cables begin with `prefix`.
    pub(crate) fn open(prefix: String) -> Result<Self, NetworkError> {
        let opened = fs_err::File::open("/proc/thread-self/ns/net")
            .map_err(NetworkError::system("open the engine's network namespace"))?;
        let (file, _path) = opened.into_parts();
        Ok(Self {
            host: file.into(),
            route: Mutex::new(Route::open()?),
            prefix,
        })
    }

    /// A name for the host's end of a cable.
    pub(crate) fn name(&self) -> Result<String, NetworkError> {
        let number = getrandom::u32().map_err(|error| NetworkError::System {
            action: "make up the name of an interface".to_owned(),
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(format!("{}{number:08x}", self.prefix))
    }

    /// A namespace with a cable. The calling thread ends in the host's namespace, where it must have been.
    fn make(&self) -> Result<Sandbox, NetworkError> {
        let made = Sandbox::unshare().and_then(|sandbox| {
            self.connect(&sandbox)?;
            Ok(sandbox)
        });
        havre_sys::namespace::enter(self.host.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
            NetworkError::system("return to the engine's network namespace"),
        )?;
        made
    }

    /// Lays a cable whose inner end is up and has neither address nor IPv6; the calling thread is inside.
    fn connect(&self, sandbox: &Sandbox) -> Result<(), NetworkError> {
        let host = self.name()?;
        let mut outside = self.route.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = NewLink {
            namespace: Some(sandbox.fd()),
            ..NewLink::new(FIRST, Kind::Other(""))
        };
        let made = outside.create_link(&NewLink::new(&host, Kind::Veth(&peer)));
        made.map_err(NetworkError::without(VETH))?;
        let host_index = outside.link(&host)?.index;
        drop(outside);
        // Before it is up: not even a neighbour message goes out.
        set_if_there(&format!("net/ipv6/conf/{FIRST}/disable_ipv6"), "1")?;
        let mut state = sandbox.lock();
        let index = state.route.link(FIRST)?.index;
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        state.route.change_link(index, &up)?;
        state.cable = Some(Cable {
            host,
            host_index,
            index,
        });
        Ok(())
    }
}

impl Shared {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the shelf until it is closed. What cannot be made now is made when somebody asks, who then hears why not.
    fn run(&self) {
        let mut shelf = self.shelf();
        while !shelf.closed {
            let taken = shelf.taken.filter(|_| !shelf.ready.is_empty());
            let rest = taken.map_or(Duration::ZERO, |taken| CALM.saturating_sub(taken.elapsed()));
            if shelf.ready.len() >= shelf.wanted {
                shelf = self.wait(shelf, FOREVER);
            } else if !rest.is_zero() {
                shelf = self.wait(shelf, rest);
            } else {
                drop(shelf);
                let made = self.stock.make();
                shelf = self.shelf();
                match made {
                    Ok(sandbox) => shelf.ready.push_back(sandbox),
                    Err(_told_to_who_asks) => shelf = self.wait(shelf, FOREVER),
                }
            }
        }
    }

    fn wait<'a>(&self, shelf: MutexGuard<'a, Shelf>, limit: Duration) -> MutexGuard<'a, Shelf> {
        let waited = self.changed.wait_timeout(shelf, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Pool {
    /// Begins to make namespaces, so that `wanted` of them are ready.
    pub(crate) fn start(stock: Stock, wanted: usize) -> Result<Self, NetworkError> {
        let shared = Arc::new(Shared {
            stock,
            shelf: Mutex::new(Shelf {
                ready: VecDeque::new(),
                wanted,
                closed: false,
                taken: None,
            }),
            changed: Condvar::new(),
        });
        let inner = Arc::clone(&shared);
        let maker = thread::Builder::new()
            .name("havre-netpool".to_owned())
            .spawn(move || inner.run())
            .map_err(NetworkError::system("start the thread of the pool"))?;
        Ok(Self {
            shared,
            maker: Some(maker),
        })
    }

    /// A namespace: one that is ready, or else a new one.
    pub(crate) fn take(&self) -> Result<Sandbox, NetworkError> {
        let mut shelf = self.shared.shelf();
        let ready = shelf.ready.pop_front();
        shelf.taken = Some(Instant::now());
        drop(shelf);
        self.shared.changed.notify_one();
        match ready {
            Some(sandbox) => Ok(sandbox),
            None => apart("havre-netns", || self.shared.stock.make()),
        }
    }

    /// How many are ready.
    pub(crate) fn ready(&self) -> usize {
        self.shared.shelf().ready.len()
    }

    /// A name for the host's end of a cable.
    pub(crate) fn name(&self) -> Result<String, NetworkError> {
        self.shared.stock.name()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut shelf = self.shared.shelf();
        shelf.closed = true;
        shelf.ready.clear();
        drop(shelf);
        self.shared.changed.notify_one();
        if let Some(maker) = self.maker.take() {
            // It ends by itself; what it panicked of was printed.
            drop(maker.join());
        }
    }
}
