//! Which of all ports of an address answer.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use havre_network::Sandbox;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, sendto,
    socket_with, sockopt,
};

use crate::support::{LIMIT, SILENCE, at, inside};

/// Answers are taken in after so many questions.
const BURST: usize = 64;
/// The port that asks.
const OWN: u16 = 40_000;
const SYN: u8 = 0x02;
const SYN_AND_ACK: u8 = 0x12;

/// Asks at each of the ports, by TCP and by UDP, from an address of this namespace; those that answer.
pub(crate) fn sweep(
    from: &str,
    to: &str,
    ports: impl IntoIterator<Item = u16> + Clone,
) -> BTreeSet<(&'static str, u16)> {
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    let mut found = tcp(from, to, ports.clone());
    found.extend(udp(from, to, ports));
    found
}

fn tcp(
    from: Ipv4Addr,
    to: Ipv4Addr,
    ports: impl IntoIterator<Item = u16>,
) -> BTreeSet<(&'static str, u16)> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(ipproto::TCP),
    )
    .unwrap();
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(SILENCE)).unwrap();
    let mut found = BTreeSet::new();
    let mut take_in = |flags| {
        let mut packet = [0; 128];
        while let Ok((count, _)) = recv(&socket, &mut packet[..], flags) {
            // Behind the IP header of 20 bytes: both ports, two numbers, the length, the flags.
            let packet = &packet[..count];
            if packet.len() >= 40 && packet[12..16] == to.octets() && packet[33] == SYN_AND_ACK {
                let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
                if port(22) == OWN {
                    found.insert(("tcp", port(20)));
                }
            }
        }
    };
    for (number, port) in ports.into_iter().enumerate() {
        let address = SocketAddr::new(to.into(), 0);
        sendto(&socket, &syn(from, to, port), SendFlags::empty(), &address).unwrap();
        if number % BURST == 0 {
            take_in(RecvFlags::DONTWAIT);
        }
    }
    take_in(RecvFlags::empty());
    found
}

/// The first segment of a connection.
fn syn(from: Ipv4Addr, to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut segment = [OWN.to_be_bytes(), port.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 7, 0, 0, 0, 0, 5 << 4, SYN, 16, 0, 0, 0, 0, 0]);
    // The checksum is also of the addresses, the protocol and the length (RFC 9293, 3.1).
    let mut words = [&from.octets()[..], &to.octets(), &[0, 6, 0, 20]].concat();
    words.extend(&segment);
    let pairs = words.chunks_exact(2);
    let sum: u32 = pairs
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    segment[16..18].copy_from_slice(&(!folded).to_be_bytes());
    segment
}

fn udp(
    from: Ipv4Addr,
    to: Ipv4Addr,
    ports: impl IntoIterator<Item = u16>,
) -> BTreeSet<(&'static str, u16)> {
    let socket = UdpSocket::bind((from, OWN)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let mut found = BTreeSet::new();
    let mut take_in = |wait: bool| {
        socket.set_nonblocking(!wait).unwrap();
        while let Ok((_, answered)) = socket.recv_from(&mut [0; 8]) {
            if answered.ip() == to {
                found.insert(("udp", answered.port()));
            }
        }
    };
    for (number, port) in ports.into_iter().enumerate() {
        // That a port before was refused is told to the next who sends.
        if socket.send_to(b"?", (to, port)).is_err() {
            socket.send_to(b"?", (to, port)).unwrap();
        }
        if number % BURST == 0 {
            take_in(false);
        }
    }
    take_in(true);
    found
}

/// A server in a namespace that sends every datagram back.
pub(crate) struct Echo {
    socket: UdpSocket,
    worker: Option<thread::JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn start(sandbox: &Sandbox, address: &str) -> Self {
        let socket = inside(sandbox.fd(), || UdpSocket::bind(at(address)).unwrap());
        let own = socket.try_clone().unwrap();
        let worker = thread::spawn(move || {
            let mut bytes = [0; 8];
            while let Ok((count, from)) = own.recv_from(&mut bytes) {
                if count == 0 {
                    return;
                }
                // A client that is gone need not hear.
                drop(own.send_to(&bytes[..count], from));
            }
        });
        Self {
            socket,
            worker: Some(worker),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let own = self.socket.local_addr().unwrap();
        self.socket.set_read_timeout(Some(LIMIT)).unwrap();
        // From itself to itself: nothing in it is the end.
        drop(self.socket.send_to(b"", ("127.0.0.1", own.port())));
        if let Some(worker) = self.worker.take() {
            drop(worker.join());
        }
    }
}
