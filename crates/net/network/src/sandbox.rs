//! A network namespace, with a socket inside it that is opened once.

mod dns;
mod pool;

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_netlink::Route;
use rustix::thread::UnshareFlags;

use crate::error::NetworkError;
use crate::inside::{set_if_there, within};
use crate::names;

pub use dns::RESOLVER;
pub(crate) use pool::{Pool, Stock};

/// What an interface made ahead is called.
pub(crate) const FIRST: &str = "eth0";

/// A network namespace. It lives as long as this value or a process in it does.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    namespace: OwnedFd,
    state: Mutex<State>,
}

/// What is known of the inside.
pub(crate) struct State {
    /// A socket inside.
    pub(crate) route: Route,
    /// The names of the interfaces.
    pub(crate) names: BTreeSet<String>,
    /// A cable that was made ahead and has no use yet.
    pub(crate) cable: Option<Cable>,
}

/// A cable from the host into a namespace; its inner end is [`FIRST`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cable {
    /// The name of the host's end.
    pub(crate) host: String,
    /// The number of the host's end.
    pub(crate) host_index: u32,
    /// The number of the inner end, inside.
    pub(crate) index: u32,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("namespace", &self.shared.namespace)
            .finish_non_exhaustive()
    }
}

impl Sandbox {
    /// A new namespace. The calling thread is in it afterwards: it must be one that goes elsewhere or ends.
    pub(crate) fn unshare() -> Result<Self, NetworkError> {
        havre_sys::namespace::unshare(UnshareFlags::NEWNET)
            .map_err(NetworkError::system("make a network namespace"))?;
        havre_sys::net::loopback_up().map_err(NetworkError::system("set up interface lo"))?;
        for (name, value) in DEFAULTS {
            set_if_there(&format!("net/ipv6/conf/default/{name}"), value)?;
        }
        Self::here()
    }

    /// The namespace of the calling thread.
    fn here() -> Result<Self, NetworkError> {
        let opened = fs_err::File::open("/proc/thread-self/ns/net")
            .map_err(NetworkError::system("open a network namespace"))?;
        let (file, _path) = opened.into_parts();
        let mut route = Route::open()?;
        let links = route.links()?;
        let state = State {
            route,
            names: links.into_iter().map(|link| link.name).collect(),
            cable: None,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                namespace: file.into(),
                state: Mutex::new(state),
            }),
        })
    }

    /// The namespace of a running process, as after a restart of the engine.
    pub fn of_process(pid: u32) -> Result<Self, NetworkError> {
        let opened = fs_err::File::open(format!("/proc/{pid}/ns/net")).map_err(
            NetworkError::system(format!("open the network namespace of process {pid}")),
        )?;
        let (file, _path) = opened.into_parts();
        let namespace = OwnedFd::from(file);
        within(namespace.as_fd(), Self::here)
    }

    /// A path that leads any process of root to it, for as long as this value lives.
    #[must_use]
    pub fn path(&self) -> String {
        let number = self.shared.namespace.as_raw_fd();
        format!("/proc/{}/fd/{number}", std::process::id())
    }

    /// Its descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.namespace.as_fd()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parameters of interfaces to come: nobody on the network tells a container its routes (CVE-2020-13401), and addresses
/// work at once, since who gives them out knows that they are free.
const DEFAULTS: [(&str, &str); 2] = [("accept_ra", "0"), ("dad_transmits", "0")];

impl State {
    /// The name of a new interface: the wanted one, or the first free one of a prefix.
    pub(crate) fn name(&self, wanted: Option<&str>, prefix: &str) -> Result<String, NetworkError> {
        let name = match wanted {
            Some(name) => name.to_owned(),
            None => {
                let mut names = (0_u32..).map(|number| format!("{prefix}{number}"));
                let free = names.find(|name| !self.names.contains(name));
                free.unwrap_or_else(|| prefix.to_owned())
            }
        };
        if names::is_interface(&name) {
            Ok(name)
        } else {
            Err(NetworkError::InterfaceName(name))
        }
    }

    /// Removes the cable that was made ahead, which the first interface cannot use.
    pub(crate) fn discard(&mut self, host: &mut Route) -> Result<(), NetworkError> {
        match self.cable.take() {
            Some(cable) => Ok(host.delete_link(cable.host_index)?),
            None => Ok(()),
        }
    }
}
