//! A companion in a directory of its own, sockets such as the engine opens, and a small client.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use havre_dns::{Companion, Endpoint, Membership, Network, Upstreams, Zone};
use rustix::process::{Pid, Signal, kill_process};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const NETWORK: &str = "n1";

/// The companion under test.
pub(crate) struct World {
    pub(crate) companion: Companion,
    pub(crate) dir: TempDir,
    pub(crate) killer: Killer,
}

/// Ends a companion when the test ends.
pub(crate) struct Killer(pub(crate) i32);

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let companion = start(dir.path()).await;
        let killer = Killer(companion.pid());
        Self {
            companion,
            dir,
            killer,
        }
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        // It may have ended by itself; nobody waits for it, so its number is not another's yet.
        if let Some(pid) = Pid::from_raw(self.0) {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

pub(crate) async fn start(dir: &Path) -> Companion {
    let program = Path::new(env!("CARGO_BIN_EXE_havre-net"));
    Companion::connect_or_start(dir, program)
        .await
        .expect("a companion")
}

/// The sockets of a container, here on the host's loopback.
pub(crate) struct Sockets {
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
}

impl Sockets {
    pub(crate) fn open() -> Self {
        Self {
            udp: UdpSocket::bind("127.0.0.1:0").expect("a UDP socket"),
            tcp: TcpListener::bind("127.0.0.1:0").expect("a TCP socket"),
        }
    }

    pub(crate) fn client(&self) -> Client {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a client's socket");
        udp.connect(self.udp.local_addr().expect("an address"))
            .expect("a connected socket");
        udp.set_read_timeout(Some(PATIENCE)).expect("a limit");
        Client {
            udp,
            tcp: self.tcp.local_addr().expect("an address"),
        }
    }

    pub(crate) async fn serve(self, companion: &Companion, container: &str, zone: &Zone) -> Client {
        let client = self.client();
        companion
            .serve(container, zone, self.udp.into(), self.tcp.into())
            .await
            .expect("served");
        client
    }
}

/// Asks one container's server.
pub(crate) struct Client {
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: SocketAddr,
}

/// What a test looks at in an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u8,
    pub(crate) truncated: bool,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) pointers: Vec<String>,
}

impl Client {
    pub(crate) fn ask(&self, name: &str, kind: TYPE) -> Reply {
        self.raw(&query(name, kind, 7))
    }

    /// Asks for a name of the outside, again when a loaded machine lets the companion's patience with a server end.
    pub(crate) fn ask_outside(&self, name: &str, kind: TYPE) -> Reply {
        let end = Instant::now() + PATIENCE;
        loop {
            let reply = self.ask(name, kind);
            if reply.code != 2 || Instant::now() > end {
                return reply;
            }
        }
    }

    pub(crate) fn raw(&self, query: &[u8]) -> Reply {
        self.udp.send(query).expect("sent");
        let mut buffer = [0; 65535];
        let (count, _from) = receive(&self.udp, &mut buffer);
        read(&buffer[..count])
    }

    pub(crate) fn ask_tcp(&self, name: &str, kind: TYPE) -> Reply {
        let mut stream = TcpStream::connect(self.tcp).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        read(&by_tcp(&mut stream, &query(name, kind, 7)))
    }
}

/// One datagram. A signal that concerns nobody here, such as of a child's end, is no reason to fail.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received.expect("a datagram"),
        }
    }
}

pub(crate) fn by_tcp(stream: &mut TcpStream, query: &[u8]) -> Vec<u8> {
    let length = u16::try_from(query.len()).expect("a short query");
    stream
        .write_all(&[&length.to_be_bytes(), query].concat())
        .expect("sent");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).expect("an answer");
    answer
}

pub(crate) fn query(name: &str, kind: TYPE, id: u16) -> Vec<u8> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).expect("a name"),
        QTYPE::TYPE(kind),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().expect("a packet")
}

pub(crate) fn read(answer: &[u8]) -> Reply {
    let packet = Packet::parse(answer).expect("a well-formed answer");
    let data = || packet.answers.iter().map(|record| &record.rdata);
    Reply {
        code: answer[3] & 15,
        truncated: answer[2] & 2 != 0,
        addresses: data()
            .filter_map(|data| match data {
                RData::A(found) => Some(IpAddr::from(found.address.to_be_bytes())),
                RData::AAAA(found) => Some(IpAddr::from(found.address.to_be_bytes())),
                _ => None,
            })
            .collect(),
        pointers: data()
            .filter_map(|data| match data {
                RData::PTR(found) => Some(found.0.to_string()),
                _ => None,
            })
            .collect(),
    }
}

/// A network `shop` with these containers.
pub(crate) fn network(containers: &[(&[&str], &[&str])]) -> Network {
    let endpoint = |(names, addresses): &(&[&str], &[&str])| Endpoint {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: addresses.iter().map(|text| address(text)).collect(),
    };
    let all = containers.iter().enumerate();
    Network {
        name: "shop".to_owned(),
        endpoints: all
            .map(|(at, container)| (format!("e{at}"), endpoint(container)))
            .collect(),
    }
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// On the network, with no servers but these.
pub(crate) fn zone(upstreams: Vec<SocketAddr>) -> Zone {
    Zone {
        networks: vec![Membership::of(NETWORK)],
        upstreams: Upstreams::FromHost(upstreams),
        forward: true,
        ndots_set: false,
    }
}

/// Waits until `done` says so.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    while !done() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        beat.tick().await;
    }
}
