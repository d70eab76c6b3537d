//! Sockets that keep a port, and who else has one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt,
};

use crate::spec::Protocol;

/// Connections that may wait once somebody listens; the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A socket that takes an address and hears nothing. None for a protocol that this kernel does not speak itself, whose
/// packets it translates all the same.
pub(super) fn hold(protocol: Protocol, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = match socket_with(family, kind, SocketFlags::CLOEXEC, Some(number)) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => {
            return Ok(None);
        }
        other => other?,
    };
    if protocol == Protocol::Tcp {
        // Connections of a container that ended do not keep the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    havre_sys::net::set_deaf(socket.as_fd(), true)?;
    bind(&socket, &address)?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG)?;
    }
    Ok(Some(socket))
}

/// Ends the deafness of a socket.
pub(super) fn hear(socket: &OwnedFd) -> io::Result<()> {
    match havre_sys::net::set_deaf(socket.as_fd(), false) {
        // It heard already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The first port of a range that some socket of the host has at an address, by the kernel's own list.
pub(super) fn holder(
    protocol: Protocol,
    host: IpAddr,
    ports: &RangeInclusive<u16>,
) -> io::Result<Option<u16>> {
    let name = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => return Ok(None),
    };
    let suffix = if host.is_ipv4() { "" } else { "6" };
    let text = match fs_err::read_to_string(format!("/proc/thread-self/net/{name}{suffix}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let listening = |state: &str| protocol == Protocol::Udp || state == "0A";
    let mut taken: Vec<u16> = text
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (address, port) = fields.nth(1)?.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            let address = parse(address)?;
            let state = fields.nth(1)?;
            let meets = address == host || address.is_unspecified() || host.is_unspecified();
            (listening(state) && meets && ports.contains(&port)).then_some(port)
        })
        .collect();
    taken.sort_unstable();
    Ok(taken.first().copied())
}

/// An address as `/proc/net/tcp` writes it: words of 32 bits in the order of this machine.
fn parse(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for place in (0..text.len()).step_by(8) {
        let word = u32::from_str_radix(text.get(place..place + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}
