//! Relays of published ports that NAT cannot serve, such as those of `[::1]`: connections and datagrams go on to the
//! container. Memory is bounded: bytes of TCP stay in the kernel's pipes, senders of UDP are counted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{SendFlags, send, sockopt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::forward::Place;
use super::{Shared, Tasks, rest, splice, tcp_listener, udp_socket};
use crate::zone::Transport;

/// For a container that does not accept.
const CONNECT: Duration = Duration::from_secs(30);
/// Connections through one relay at a time.
const CONNECTIONS: usize = 4096;
/// Senders of datagrams through one relay at a time.
const SENDERS: usize = 1024;
/// A sender is forgotten when its container has been silent for so long (as docker-proxy's, udp_proxy_linux.go).
const FORGET: Duration = Duration::from_secs(90);

/// One published port.
pub(super) struct Relay {
    pub(super) target: SocketAddr,
    socket: Socket,
    accepting: Tasks,
    work: Tasks,
    places: Rc<std::cell::Cell<usize>>,
    senders: RefCell<HashMap<SocketAddr, Rc<UdpSocket>>>,
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Relay {
    /// Takes over the socket, if it is what it should be.
    pub(super) fn new(
        transport: Transport,
        target: SocketAddr,
        fds: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        let [fd] = <[OwnedFd; 1]>::try_from(fds)
            .map_err(|_fds| io::Error::other("one socket is needed"))?;
        let socket = match transport {
            Transport::Tcp => Socket::Tcp(tcp_listener(fd)?),
            Transport::Udp => Socket::Udp(udp_socket(fd)?),
        };
        Ok(Self {
            target,
            socket,
            accepting: Tasks::default(),
            work: Tasks::default(),
            places: Rc::default(),
            senders: RefCell::default(),
        })
    }

    pub(super) fn start(self: &Rc<Self>, shared: &Rc<Shared>) {
        let (relay, shared) = (Rc::clone(self), Rc::clone(shared));
        match &self.socket {
            Socket::Tcp(_) => self.accepting.spawn(relay.accept(shared)),
            Socket::Udp(_) => self.accepting.spawn(relay.receive()),
        }
    }

    /// Takes nothing in any more; connections go on.
    pub(super) fn pause(&self) {
        self.accepting.stop();
    }

    pub(super) fn stop(&self) {
        self.accepting.stop();
        self.work.stop();
    }

    pub(super) const fn is_tcp(&self) -> bool {
        matches!(self.socket, Socket::Tcp(_))
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
        }
    }

    async fn accept(self: Rc<Self>, shared: Rc<Shared>) {
        let Socket::Tcp(listener) = &self.socket else {
            return;
        };
        loop {
            let Ok((client, _address)) = listener.accept().await else {
                rest().await;
                continue;
            };
            if self.places.get() >= CONNECTIONS {
                continue;
            }
            let target = self.target;
            let places = (Place::take(&self.places), Place::take(&shared.connections));
            let shared = Rc::clone(&shared);
            self.work.spawn(async move {
                // How a connection ends, its two ends know.
                drop(carry(client, target).await);
                drop(places);
                shared.changed.notify_one();
            });
        }
    }

    async fn receive(self: Rc<Self>) {
        let mut buffer = vec![0; u16::MAX.into()];
        let Socket::Udp(socket) = &self.socket else {
            return;
        };
        loop {
            let Ok((count, client)) = socket.recv_from(&mut buffer).await else {
                // The error of an earlier answer that could not be delivered.
                rest().await;
                continue;
            };
            let Ok(way) = self.way_of(client).await else {
                continue;
            };
            // What the container's socket has no room for is lost, as on any network.
            send(
                &way,
                buffer.get(..count).unwrap_or_default(),
                SendFlags::DONTWAIT,
            )
            .ok();
        }
    }

    /// The socket by which a sender's datagrams reach the container, and its answers come back.
    async fn way_of(self: &Rc<Self>, client: SocketAddr) -> io::Result<Rc<UdpSocket>> {
        if let Some(way) = self.senders.borrow().get(&client) {
            return Ok(Rc::clone(way));
        }
        if self.senders.borrow().len() >= SENDERS {
            return Err(ErrorKind::QuotaExceeded.into());
        }
        let any: SocketAddr = match self.target {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let way = Rc::new(UdpSocket::bind(any).await?);
        way.connect(self.target).await?;
        self.senders.borrow_mut().insert(client, Rc::clone(&way));
        let (relay, back) = (Rc::clone(self), Rc::clone(&way));
        self.work.spawn(async move {
            relay.carry_back(&back, client).await;
            relay.senders.borrow_mut().remove(&client);
        });
        Ok(way)
    }

    async fn carry_back(&self, way: &UdpSocket, client: SocketAddr) {
        let Socket::Udp(socket) = &self.socket else {
            return;
        };
        let mut buffer = Vec::with_capacity(2048);
        while let Ok(Ok(())) = timeout(FORGET, way.readable()).await {
            buffer.clear();
            buffer.reserve(u16::MAX.into());
            let received = way.try_recv_buf(&mut buffer);
            match received {
                Ok(_) => drop(socket.send_to(&buffer, client).await),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The container has nobody at this port now; it may have in a moment.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
            // Between answers a sender costs no buffer.
            buffer = Vec::new();
        }
    }
}

/// Carries a connection both ways until both directions have ended, each for itself.
async fn carry(client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = timeout(CONNECT, TcpStream::connect(target)).await??;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        // Peers that vanish do not keep the connection for ever.
        sockopt::set_socket_keepalive(stream, true)?;
    }
    let there = splice::pump(&client, &server);
    let back = splice::pump(&server, &client);
    tokio::try_join!(there, back).map(drop)
}
