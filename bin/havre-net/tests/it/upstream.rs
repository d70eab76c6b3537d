//! A name server of the outside, which does what a test tells it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

const BEAT: Duration = Duration::from_millis(20);

/// What comes in, and by which protocol; what is returned is sent back, one packet after the other.
pub(crate) type Behaviour = Box<dyn FnMut(&Seen) -> Vec<Vec<u8>> + Send>;

/// A query as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) packet: Vec<u8>,
    pub(crate) from: SocketAddr,
    pub(crate) tcp: bool,
}

impl Seen {
    /// An answer without records and with this code.
    pub(crate) fn empty(&self, code: u8) -> Vec<u8> {
        let mut reply = self.packet.clone();
        reply[2] = 0x81;
        reply[3] = 0x80 | code;
        // What follows the question, an OPT record, is not repeated.
        let end = self.packet[12..].iter().position(|byte| *byte == 0);
        reply.truncate(12 + end.expect("a name has an end") + 5);
        reply[10..12].fill(0);
        reply
    }

    /// An answer with `count` addresses, the last bytes of which count upwards.
    pub(crate) fn addresses(&self, count: u8) -> Vec<u8> {
        let mut reply = self.empty(0);
        reply[7] = count;
        for last in 1..=count {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]);
        }
        reply
    }
}

/// The server; ends when dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Upstream {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        let (udp, tcp) = sockets();
        Self::on(udp, tcp, behaviour)
    }

    /// A server on these sockets, which may be of any namespace.
    pub(crate) fn on(udp: UdpSocket, tcp: TcpListener, behaviour: Behaviour) -> Self {
        let address = udp.local_addr().expect("an address");
        udp.set_read_timeout(Some(BEAT)).expect("a limit");
        tcp.set_nonblocking(true).expect("not blocking");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let act = {
            let seen = Arc::clone(&seen);
            let behaviour = Mutex::new(behaviour);
            Arc::new(move |one: Seen| {
                let replies = behaviour.lock().expect("no panic")(&one);
                seen.lock().expect("no panic").push(one);
                replies
            })
        };
        let (by_udp, udp_ended) = (Arc::clone(&act), Arc::clone(&ended));
        let (by_tcp, tcp_ended) = (act, Arc::clone(&ended));
        let threads = vec![
            spawn(move || serve_udp(&udp, &*by_udp, &udp_ended)),
            spawn(move || serve_tcp(&tcp, &*by_tcp, &tcp_ended)),
        ];
        Self {
            address,
            seen,
            ended,
            threads,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("the server does not panic");
        }
    }
}

/// Both protocols on one port.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("an address")) {
            return (udp, tcp);
        }
    }
}

fn serve_udp(socket: &UdpSocket, act: &dyn Fn(Seen) -> Vec<Vec<u8>>, ended: &AtomicBool) {
    let mut buffer = [0; 65535];
    while !ended.load(Ordering::SeqCst) {
        let Ok((count, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let packet = buffer[..count].to_vec();
        for reply in act(Seen {
            packet,
            from,
            tcp: false,
        }) {
            socket.send_to(&reply, from).expect("sent");
        }
    }
}

fn serve_tcp(listener: &TcpListener, act: &dyn Fn(Seen) -> Vec<Vec<u8>>, ended: &AtomicBool) {
    while !ended.load(Ordering::SeqCst) {
        let (mut stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                std::thread::park_timeout(BEAT);
                continue;
            }
        };
        stream.set_nonblocking(false).expect("blocking");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("a length");
        let mut packet = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut packet).expect("a query");
        for reply in act(Seen {
            packet,
            from,
            tcp: true,
        }) {
            let length = u16::try_from(reply.len()).expect("short");
            let framed = [&length.to_be_bytes()[..], &reply].concat();
            stream.write_all(&framed).expect("sent");
        }
    }
}
