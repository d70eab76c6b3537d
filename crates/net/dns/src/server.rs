//! The companion process: one thread, one event loop. It serves sockets that the engine opened in the containers' namespaces
//! and handed over, goes on without the engine, and ends when it has nothing to serve and nobody to serve it for.

mod control;
mod forward;
mod hostfile;
mod relay;
mod splice;
mod tcp;
mod udp;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use havre_sys::datagrams::Datagrams;
use rustix::fs::{AtFlags, fstat, unlinkat};
use rustix::net::{SocketType, sockopt};
use rustix::thread::LinkNameSpaceType;
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::Names;
use crate::protocol::SOCKET;
use crate::table::Table;
use crate::zone::Zone;

/// How often a companion without an engine looks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(5);
/// How long the loop rests when the system has no descriptors left.
const REST: Duration = Duration::from_millis(100);

/// Why the companion cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The control socket cannot be used.
    #[error("failed to listen for the engine")]
    Listen(#[source] io::Error),
    /// The event loop cannot be made.
    #[error("failed to start the event loop")]
    Loop(#[source] io::Error),
    /// The own network namespace cannot be named, so there would be no way back into it.
    #[error("failed to open the own network namespace")]
    Namespace(#[source] io::Error),
}

/// What the program is told at its start.
#[derive(Debug)]
pub struct Settings {
    /// The directory of the control socket, which is also how long the engine's world exists.
    pub directory: OwnedFd,
    /// The host's resolv.conf.
    pub resolv_conf: PathBuf,
    /// How long it stays with nothing to do.
    pub linger: Duration,
}

/// Serves until nothing is left to serve.
pub fn run(listener: OwnedFd, settings: Settings) -> Result<(), ServeError> {
    let home = rustix::fs::open(
        "/proc/thread-self/ns/net",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let home = home.map_err(|error| ServeError::Namespace(error.into()))?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.map_err(ServeError::Loop)?.block_on(async {
        let listener = net::UnixListener::from(listener);
        let unusable = |error| ServeError::Listen(error);
        listener.set_nonblocking(true).map_err(unusable)?;
        let listener = UnixListener::from_std(listener).map_err(unusable)?;
        serve(listener, settings, Shared::new(home)).await;
        Ok(())
    })
}

async fn serve(listener: UnixListener, settings: Settings, shared: Shared) {
    let shared = Rc::new(shared);
    let mut tasks = JoinSet::new();
    tasks.spawn_local(hostfile::follow(
        Rc::clone(&shared),
        settings.resolv_conf.clone(),
    ));
    let mut listener = Some(listener);
    while !shared.is_done(listener.is_none()) {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        let wait = shared.patience(&settings);
        tokio::select! {
            accepted = accept => match accepted {
                Ok((stream, _address)) => {
                    tasks.spawn_local(control::converse(Rc::clone(&shared), stream));
                }
                Err(_) => rest().await,
            },
            () = shared.changed.notified() => {}
            // Also ends the wait for the last connections of a companion that was replaced.
            () = elapsed(wait) => {
                if shared.is_idle() || is_removed(&settings) {
                    break;
                }
            }
        }
        if shared.leaving.get() {
            listener = None;
        }
        while tasks.try_join_next().is_some() {}
    }
    if !shared.leaving.get() {
        // First the name, then the socket: whoever cannot connect may make a new one in its place.
        unlinkat(&settings.directory, SOCKET, AtFlags::empty()).ok();
    }
}

fn is_removed(settings: &Settings) -> bool {
    fstat(&settings.directory).is_ok_and(|found| found.st_nlink == 0)
}

/// A pause after a failure that would only repeat itself.
async fn rest() {
    elapsed(Some(REST)).await;
}

async fn elapsed(wait: Option<Duration>) {
    match wait {
        Some(wait) => drop(timeout(wait, pending::<()>()).await),
        None => pending().await,
    }
}

/// What all tasks of the one thread share. No borrow lasts across an await.
struct Shared {
    table: RefCell<Table>,
    containers: RefCell<HashMap<String, Rc<Container>>>,
    relays: RefCell<HashMap<String, Rc<relay::Relay>>>,
    /// Relays that were given back, whose connections go on.
    retired: RefCell<Vec<Rc<relay::Relay>>>,
    /// The servers of the host's resolv.conf.
    upstreams: RefCell<Vec<SocketAddr>>,
    batch: RefCell<Datagrams>,
    /// For what other name servers say.
    scratch: RefCell<Vec<u8>>,
    ledger: forward::Ledger,
    turn: Cell<usize>,
    engines: Cell<usize>,
    /// The sockets were given back; only what is under way is brought to its end.
    leaving: Cell<bool>,
    /// Connections through relays.
    connections: Rc<Cell<usize>>,
    changed: Notify,
    home: OwnedFd,
}

impl Shared {
    fn new(home: OwnedFd) -> Self {
        Self {
            table: RefCell::default(),
            containers: RefCell::default(),
            relays: RefCell::default(),
            retired: RefCell::default(),
            upstreams: RefCell::default(),
            batch: RefCell::default(),
            scratch: RefCell::new(vec![0; u16::MAX.into()]),
            ledger: forward::Ledger::default(),
            turn: Cell::new(0),
            engines: Cell::new(0),
            leaving: Cell::new(false),
            connections: Rc::default(),
            changed: Notify::new(),
            home,
        }
    }

    fn is_idle(&self) -> bool {
        self.engines.get() == 0
            && self.containers.borrow().is_empty()
            && self.relays.borrow().is_empty()
    }

    fn is_done(&self, left: bool) -> bool {
        left && self.connections.get() == 0 && self.ledger.is_empty()
    }

    fn patience(&self, settings: &Settings) -> Option<Duration> {
        if self.leaving.get() {
            return Some(LOOK);
        }
        match (self.engines.get(), self.is_idle()) {
            (_, true) => Some(settings.linger),
            (0, false) => Some(LOOK),
            (_, false) => None,
        }
    }

    /// Runs `open` in another network namespace, on this one thread.
    fn within<T>(&self, other: BorrowedFd<'_>, open: impl FnOnce() -> T) -> io::Result<T> {
        let kind = Some(LinkNameSpaceType::Network);
        havre_sys::namespace::enter(other, kind)?;
        let opened = open();
        if havre_sys::namespace::enter(self.home.as_fd(), kind).is_err() {
            // In a container's namespace nothing may be done for others. The engine starts a new companion.
            std::process::abort();
        }
        Ok(opened)
    }
}

/// A container that is served.
struct Container {
    zone: RefCell<Zone>,
    udp: UdpSocket,
    tcp: TcpListener,
    own: IpAddr,
    namespace: OnceCell<OwnedFd>,
    load: forward::Load,
    /// The loops that take queries in.
    listening: Tasks,
    /// Queries that wait for somebody else, and TCP clients.
    work: Tasks,
}

impl Container {
    /// Takes over the two sockets, if they are what they should be.
    fn new(zone: Zone, fds: Vec<OwnedFd>) -> io::Result<Self> {
        let [udp, tcp] = <[OwnedFd; 2]>::try_from(fds)
            .map_err(|_fds| io::Error::other("two sockets are needed"))?;
        let udp = udp_socket(udp)?;
        let own = udp.local_addr()?.ip();
        Ok(Self {
            zone: RefCell::new(zone),
            udp,
            tcp: tcp_listener(tcp)?,
            own,
            namespace: OnceCell::new(),
            load: forward::Load::default(),
            listening: Tasks::default(),
            work: Tasks::default(),
        })
    }

    fn start(self: &Rc<Self>, shared: &Rc<Shared>) {
        self.listening
            .spawn(udp::serve(Rc::clone(shared), Rc::clone(self)));
        self.listening
            .spawn(tcp::serve(Rc::clone(shared), Rc::clone(self)));
    }

    /// Ends all tasks, which are what else keeps the sockets open.
    fn stop(&self) {
        self.listening.stop();
        self.work.stop();
    }

    /// The namespace of the sockets, kept from the first need on.
    fn namespace(&self) -> io::Result<BorrowedFd<'_>> {
        if self.namespace.get().is_none() {
            let found = havre_sys::net::namespace_of(self.udp.as_fd())?;
            // Single-threaded, so nobody was faster.
            drop(self.namespace.set(found));
        }
        let kept = self.namespace.get().map(OwnedFd::as_fd);
        kept.ok_or_else(|| io::Error::other("the namespace was not kept"))
    }
}

/// Tasks with an owner that ends them.
#[derive(Debug, Default)]
struct Tasks(RefCell<JoinSet<()>>);

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut set = self.0.borrow_mut();
        while set.try_join_next().is_some() {}
        set.spawn_local(task);
    }

    fn stop(&self) {
        self.0.borrow_mut().abort_all();
    }
}

/// Names as one container sees them.
struct View<'a> {
    shared: &'a Shared,
    container: &'a Container,
}

impl Names for View<'_> {
    fn addresses(&self, name: &[u8]) -> Option<Vec<IpAddr>> {
        let zone = self.container.zone.borrow();
        let table = self.shared.table.borrow();
        let mut found = table.addresses(&zone.networks, name)?.to_vec();
        if found.len() > 1 {
            found.sort_unstable();
            found.dedup();
            let turn = self.shared.turn.get();
            self.shared.turn.set(turn.wrapping_add(1));
            let first = turn % found.len();
            found.rotate_left(first);
        }
        Some(found)
    }

    fn pointer(&self, address: IpAddr) -> Option<String> {
        let zone = self.container.zone.borrow();
        let table = self.shared.table.borrow();
        table.pointer(&zone.networks, address)
    }

    fn keeps_short_names(&self) -> bool {
        self.container.zone.borrow().ndots_set
    }
}

fn udp_socket(fd: OwnedFd) -> io::Result<UdpSocket> {
    if sockopt::socket_type(&fd)? != SocketType::DGRAM {
        return Err(io::Error::other("not a datagram socket"));
    }
    let socket = std::net::UdpSocket::from(fd);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn tcp_listener(fd: OwnedFd) -> io::Result<TcpListener> {
    if sockopt::socket_type(&fd)? != SocketType::STREAM || !sockopt::socket_acceptconn(&fd)? {
        return Err(io::Error::other("not a listening socket"));
    }
    let socket = std::net::TcpListener::from(fd);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}
