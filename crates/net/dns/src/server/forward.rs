//! Names that are not ours: other name servers are asked, one after the other, each query from a port and under an id of its
//! own. What waits is bounded, for each container and for all, so that a dead server costs those who ask it and nobody else.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;

use super::tcp::framed;
use super::{Container, Shared};
use crate::answer::{Carrier, fail, limit, truncate};
use crate::message::{HEADER, Query, code};
use crate::reply::{Verdict, accept, adopt};
use crate::zone::Upstreams;

/// Servers that are asked for one query, as resolv.conf allows (man 5 resolv.conf, MAXNS).
const SERVERS: usize = 3;
/// For the last server; clients usually wait five seconds.
const WAIT: Duration = Duration::from_secs(4);
/// For a server after which there is another.
const WAIT_FIRST: Duration = Duration::from_secs(2);
/// How long a server that did not answer is asked last.
const DISTRUST: Duration = Duration::from_secs(30);
const DISTRUSTED: usize = 1024;
/// Queries that wait at a time, of one container.
const OF_ONE: usize = 512;
/// Of all containers together; beyond, only those that have nearly none may add one.
const OF_ALL: usize = 4096;
const ALWAYS: usize = 8;

/// A query that goes on its way.
pub(super) struct Asked {
    packet: Vec<u8>,
    carrier: Carrier,
    client: SocketAddr,
}

impl Asked {
    pub(super) fn new(query: &Query<'_>, carrier: Carrier, client: SocketAddr) -> Self {
        Self {
            packet: query.packet.to_vec(),
            carrier,
            client,
        }
    }

    pub(super) const fn client(&self) -> SocketAddr {
        self.client
    }
}

/// What one container has under way.
#[derive(Debug, Default)]
pub(super) struct Load {
    waiting: Rc<Cell<usize>>,
    clients: Rc<Cell<usize>>,
    /// Questions that others have been asked already. Asking twice would only help whoever guesses answers (RFC 5452, 5),
    /// and let a loop through other servers turn for ever.
    questions: RefCell<HashMap<Vec<u8>, watch::Receiver<Vec<u8>>>>,
}

impl Load {
    /// A place for a TCP client, if there is one.
    pub(super) fn client(&self, most: usize) -> Option<Place> {
        (self.clients.get() < most).then(|| Place::take(&self.clients))
    }
}

/// One of a bounded number.
#[derive(Debug)]
pub(super) struct Place(Rc<Cell<usize>>);

impl Place {
    pub(super) fn take(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What is under way, for all containers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    waiting: Rc<Cell<usize>>,
    /// Queries as they would look if they came back to us.
    sent: RefCell<HashSet<Mark>>,
    silent: RefCell<HashMap<SocketAddr, Instant>>,
}

/// The id, the port it was sent from, and the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mark(u16, u16, u64);

impl Mark {
    fn of(query: &Query<'_>, id: u16, port: u16) -> Self {
        let mut hasher = DefaultHasher::new();
        query.name.to_ascii_lowercase().hash(&mut hasher);
        (query.kind, query.class).hash(&mut hasher);
        Self(id, port, hasher.finish())
    }
}

/// Takes its mark out of the ledger when the wait ends, however it ends.
struct Sent<'a>(&'a Ledger, Mark);

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.0.sent.borrow_mut().remove(&self.1);
    }
}

impl Ledger {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.get() == 0
    }

    fn admit(&self, load: &Load) -> Option<(Place, Place)> {
        let own = load.waiting.get();
        let admitted = own < ALWAYS || own < OF_ONE && self.waiting.get() < OF_ALL;
        admitted.then(|| (Place::take(&load.waiting), Place::take(&self.waiting)))
    }

    fn send(&self, mark: Mark) -> Sent<'_> {
        self.sent.borrow_mut().insert(mark);
        Sent(self, mark)
    }

    fn distrust(&self, server: SocketAddr) {
        let mut silent = self.silent.borrow_mut();
        if silent.len() >= DISTRUSTED {
            silent.clear();
        }
        silent.insert(server, Instant::now() + DISTRUST);
    }

    fn trusts(&self, server: SocketAddr) -> bool {
        let silent = self.silent.borrow();
        silent
            .get(&server)
            .is_none_or(|until| *until < Instant::now())
    }
}

#[derive(Clone, Copy, Debug)]
struct Server {
    address: SocketAddr,
    /// Asked from the container's namespace.
    inside: bool,
}

/// Asks others and gives the answer for the client; there always is one.
pub(super) async fn forward(
    shared: &Rc<Shared>,
    container: &Rc<Container>,
    asked: Asked,
) -> Vec<u8> {
    let mut answer = Vec::new();
    let Ok(query) = Query::parse(&asked.packet) else {
        return answer;
    };
    let mark = Mark::of(&query, query.id, asked.client.port());
    if shared.ledger.sent.borrow().contains(&mark) {
        // We are our own name server: one of those that we asked leads back here.
        fail(&query, code::SERVER_FAILURE, &mut answer);
        return answer;
    }
    let Some(_places) = shared.ledger.admit(&container.load) else {
        fail(&query, code::REFUSED, &mut answer);
        return answer;
    };
    let key = question_key(&query, asked.carrier);
    let other = container.load.questions.borrow().get(&key).cloned();
    if let Some(mut other) = other {
        if let Ok(found) = other.wait_for(|answer| !answer.is_empty()).await {
            answer.clone_from(&found);
            adopt(&mut answer, &query);
            return answer;
        }
        // Whoever asked was ended before there was an answer.
        container.load.questions.borrow_mut().remove(&key);
        fail(&query, code::SERVER_FAILURE, &mut answer);
        return answer;
    }
    let (found, others) = watch::channel(Vec::new());
    let questions = &container.load.questions;
    questions.borrow_mut().insert(key.clone(), others);
    let answer = ask_all(shared, container, &query, asked.carrier).await;
    questions.borrow_mut().remove(&key);
    if found.receiver_count() > 0 {
        found.send_replace(answer.clone());
    }
    answer
}

/// What makes two questions the same: everything but the id and the case of letters.
fn question_key(query: &Query<'_>, carrier: Carrier) -> Vec<u8> {
    let mut key = query.packet.to_vec();
    if let Some(place) = key.get_mut(..2) {
        place.fill(0);
    }
    if let Some(name) = key.get_mut(HEADER..HEADER + query.name.len()) {
        name.make_ascii_lowercase();
    }
    key.push(u8::from(carrier == Carrier::Tcp));
    key
}

async fn ask_all(
    shared: &Shared,
    container: &Container,
    query: &Query<'_>,
    carrier: Carrier,
) -> Vec<u8> {
    let mut answer = Vec::new();
    let servers = servers(shared, container);
    for (at, server) in servers.iter().enumerate() {
        let wait = if at + 1 == servers.len() {
            WAIT
        } else {
            WAIT_FIRST
        };
        let exchange = exchange(shared, container, *server, query, carrier);
        match timeout(wait, exchange).await {
            Ok(Ok(Said::Answer(answer))) => {
                shared.ledger.silent.borrow_mut().remove(&server.address);
                return answer;
            }
            Ok(Ok(Said::Unable(code))) => {
                fail(query, code, &mut answer);
                return answer;
            }
            Ok(Ok(Said::Failed)) => {}
            Ok(Err(_)) | Err(_) => shared.ledger.distrust(server.address),
        }
    }
    fail(query, code::SERVER_FAILURE, &mut answer);
    answer
}

/// Whom to ask, in this order: those that lately did not answer come last.
fn servers(shared: &Shared, container: &Container) -> Vec<Server> {
    let zone = container.zone.borrow();
    let (addresses, inside) = match &zone.upstreams {
        Upstreams::Host => (shared.upstreams.borrow().clone(), false),
        Upstreams::FromHost(addresses) => (addresses.clone(), false),
        Upstreams::FromContainer(addresses) => (addresses.clone(), true),
    };
    // From the container's own namespace asking does no harm even on an internal network: there is no way out of it
    // (moby, daemon/libnetwork/resolver.go, forwardExtDNS).
    if !inside && !zone.forward {
        return Vec::new();
    }
    let others = addresses
        .into_iter()
        .filter(|address| !(inside && address.ip() == container.own));
    let mut servers: Vec<_> = others
        .take(SERVERS)
        .map(|address| Server { address, inside })
        .collect();
    servers.sort_by_key(|server| !shared.ledger.trusts(server.address));
    servers
}

enum Said {
    Answer(Vec<u8>),
    /// It cannot serve such a query at all, which the client should know.
    Unable(u16),
    /// It failed; another may not.
    Failed,
}

async fn exchange(
    shared: &Shared,
    container: &Container,
    server: Server,
    query: &Query<'_>,
    carrier: Carrier,
) -> io::Result<Said> {
    if carrier == Carrier::Tcp {
        return by_tcp(shared, container, server, query).await;
    }
    match by_udp(shared, container, server, query).await? {
        (said, false) => Ok(said),
        (cut, true) => {
            // Many clients never come again by TCP; if it fits, they get the whole answer so.
            match by_tcp(shared, container, server, query).await {
                Ok(Said::Answer(whole)) if whole.len() <= limit(query, carrier) => {
                    Ok(Said::Answer(whole))
                }
                _ => Ok(cut),
            }
        }
    }
}

/// The answer, and whether it is cut off.
async fn by_udp(
    shared: &Shared,
    container: &Container,
    server: Server,
    query: &Query<'_>,
) -> io::Result<(Said, bool)> {
    let socket = std::net::UdpSocket::from(open(shared, container, server, SocketType::DGRAM)?);
    // The kernel chooses a random port, and then lets nothing in but what comes from this server.
    socket.connect(server.address)?;
    let socket = UdpSocket::from_std(socket)?;
    let (packet, id) = with_new_id(query)?;
    let mark = Mark::of(query, id, socket.local_addr()?.port());
    let _sent = shared.ledger.send(mark);
    socket.send(&packet).await?;
    loop {
        socket.readable().await?;
        let mut scratch = shared.scratch.borrow_mut();
        let count = match socket.try_recv(&mut scratch) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let reply = scratch.get_mut(..count).unwrap_or_default();
        // What is not the answer may be from somebody who wants to be faster than it.
        if let Ok(verdict) = accept(reply, query, id) {
            let cut = matches!(verdict, Verdict::Truncated(_));
            return Ok((said(verdict, reply, query), cut));
        }
    }
}

async fn by_tcp(
    shared: &Shared,
    container: &Container,
    server: Server,
    query: &Query<'_>,
) -> io::Result<Said> {
    let socket = std::net::TcpStream::from(open(shared, container, server, SocketType::STREAM)?);
    let mut stream = TcpSocket::from_std_stream(socket)
        .connect(server.address)
        .await?;
    let (packet, id) = with_new_id(query)?;
    let mark = Mark::of(query, id, stream.local_addr()?.port());
    let _sent = shared.ledger.send(mark);
    stream.write_all(&framed(&packet)?).await?;
    let mut reply = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut reply).await?;
    match accept(&mut reply, query, id) {
        Ok(verdict) => Ok(said(verdict, &reply, query)),
        Err(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn said(verdict: Verdict, reply: &[u8], query: &Query<'_>) -> Said {
    let (Verdict::Answer(length) | Verdict::Truncated(length)) = verdict else {
        let Verdict::Failed(code) = verdict else {
            return Said::Failed;
        };
        return match code {
            code::FORMAT | code::NOT_IMPLEMENTED => Said::Unable(code),
            _ => Said::Failed,
        };
    };
    match reply.get(..length) {
        Some(answer) => Said::Answer(answer.to_vec()),
        None => {
            let mut answer = Vec::new();
            truncate(query, &mut answer);
            Said::Answer(answer)
        }
    }
}

fn open(
    shared: &Shared,
    container: &Container,
    server: Server,
    kind: SocketType,
) -> io::Result<OwnedFd> {
    let family = match server.address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let open = || socket_with(family, kind, flags, None);
    if server.inside {
        return Ok(shared.within(container.namespace()?, open)??);
    }
    Ok(open()?)
}

/// The client's packet under an id that nobody can know.
fn with_new_id(query: &Query<'_>) -> io::Result<(Vec<u8>, u16)> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut packet = query.packet.to_vec();
    if let Some(place) = packet.get_mut(..2) {
        place.copy_from_slice(&id);
    }
    Ok((packet, u16::from_be_bytes(id)))
}
