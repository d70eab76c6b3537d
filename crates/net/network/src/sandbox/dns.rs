//! The sockets of the embedded resolver: 127.0.0.11 inside a namespace.
//!
//! As with Docker they listen on ports that nobody chose, so that a container may have port 53 of all its addresses; rules
//! inside lead port 53 of 127.0.0.11 there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use havre_netlink::nft::{Base, Batch, ChainKind, Family, Hook, Nft, Policy, Rule};
use havre_types::Cidr;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with,
};

use super::Sandbox;
use crate::error::NetworkError;
use crate::inside::within;

/// Where a container asks (<https://docs.docker.com/engine/network/#dns-services>).
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const DNS: u16 = 53;
const TABLE: &str = "havre-dns";
const BACKLOG: i32 = 128;

impl Sandbox {
    /// Sockets, UDP and TCP, that receive what programs inside ask 127.0.0.11 on port 53. Called again, it makes new ones,
    /// to which the port leads from then on.
    pub fn dns_sockets(&self) -> Result<(OwnedFd, OwnedFd), NetworkError> {
        within(self.fd(), || {
            let (udp, udp_port) = open(SocketType::DGRAM)?;
            let (tcp, tcp_port) = open(SocketType::STREAM)?;
            redirect(udp_port, tcp_port)?;
            Ok((udp, tcp))
        })
    }
}

fn open(kind: SocketType) -> Result<(OwnedFd, u16), NetworkError> {
    let stream = kind == SocketType::STREAM;
    let protocol = if stream { ipproto::TCP } else { ipproto::UDP };
    let made = || -> io::Result<(OwnedFd, u16)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, kind, flags, Some(protocol))?;
        bind(&socket, &SocketAddr::new(RESOLVER.into(), 0))?;
        if stream {
            listen(&socket, BACKLOG)?;
        }
        let bound = SocketAddr::try_from(getsockname(&socket)?)?;
        Ok((socket, bound.port()))
    };
    made().map_err(NetworkError::system(format!(
        "open a socket at {RESOLVER} in a namespace"
    )))
}

fn redirect(udp: u16, tcp: u16) -> Result<(), NetworkError> {
    let mut batch = Batch::new(Family::Inet, TABLE);
    batch.remove_table();
    batch.add_table();
    batch.add_chain(
        "output",
        Some(Base {
            kind: ChainKind::Nat,
            hook: Hook::Output,
            priority: -100,
            policy: Policy::Accept,
        }),
    );
    let resolver = Cidr::host(IpAddr::V4(RESOLVER));
    for (protocol, port) in [(17, udp), (6, tcp)] {
        let rule = Rule::new()
            .to_network(resolver, true)
            .protocol(protocol)
            .to_port(DNS)
            .destination_becomes(RESOLVER.into(), port);
        batch.add_rule("output", &rule);
    }
    Ok(Nft::open()?.commit(batch)?)
}
