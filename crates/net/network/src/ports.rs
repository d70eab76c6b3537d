//! Ports of the host: taken for containers, and kept by sockets as long as they are, so that other programs hear that they
//! are taken.
//!
//! The sockets are deaf: what arrives is translated by the rules before it would reach them, and what is not (link-local
//! addresses, ::1) is a relay's work, which gets its socket from [`Claim::listener`].

mod socket;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_types::{Classify, ErrorKind};

use crate::spec::Protocol;

/// Ports that are handed out when none is asked for, where the kernel does not say otherwise
/// (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;
/// Longer blocks are not kept by sockets, of which a process may have only so many.
const SOCKETS: u16 = 64;
/// How many ports of a range are tried that other programs have.
const TRIES: usize = 10;

/// Why a port cannot be had. The texts are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Another container has it.
    #[error("Bind for {0} failed: port is already allocated")]
    Allocated(SocketAddr),
    /// Containers have all of the range.
    #[error("all ports are allocated")]
    AllAllocated,
    /// Another program has it, or the host has no such address.
    #[error(
        "failed to bind host port for {host}:{container}/{protocol}: {}",
        havre_types::os_text(source)
    )]
    Bind {
        /// What was asked for.
        host: SocketAddr,
        /// Where it was to lead.
        container: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

impl Classify for PortError {
    fn kind(&self) -> ErrorKind {
        match self {
            // As dockerd answers: 500.
            Self::Allocated(_) | Self::AllAllocated | Self::Bind { .. } => ErrorKind::Internal,
        }
    }
}

/// A port that is wanted.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The protocol.
    pub protocol: Protocol,
    /// The addresses of the host, all with the same port.
    pub hosts: &'a [IpAddr],
    /// One of these ports; None for any.
    pub ports: Option<RangeInclusive<u16>>,
    /// Where it will lead; errors tell it.
    pub container: SocketAddr,
}

/// The ports that the containers of an engine have.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    taken: Vec<Taken>,
    /// The last one that was handed out unasked.
    last: u16,
    number: u64,
}

#[derive(Debug)]
struct Taken {
    number: u64,
    protocol: Protocol,
    host: IpAddr,
    ports: RangeInclusive<u16>,
}

/// Ports of the host, taken until this is dropped.
#[derive(Debug)]
pub struct Claim {
    ports: RangeInclusive<u16>,
    sockets: Vec<(SocketAddr, OwnedFd)>,
    table: Arc<Mutex<Table>>,
    number: u64,
}

fn locked(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// The first address for which one of the ports is taken.
    fn conflict(
        &self,
        protocol: Protocol,
        hosts: &[IpAddr],
        ports: &RangeInclusive<u16>,
    ) -> Option<IpAddr> {
        let meets = |host: &IpAddr| {
            self.taken.iter().any(|taken| {
                taken.protocol == protocol
                    && taken.host.is_ipv4() == host.is_ipv4()
                    && (taken.host == *host || taken.host.is_unspecified() || host.is_unspecified())
                    && taken.ports.start() <= ports.end()
                    && ports.start() <= taken.ports.end()
            })
        };
        hosts.iter().copied().find(meets)
    }

    fn take(&mut self, protocol: Protocol, hosts: &[IpAddr], ports: &RangeInclusive<u16>) -> u64 {
        self.number += 1;
        let number = self.number;
        self.taken.extend(hosts.iter().map(|host| Taken {
            number,
            protocol,
            host: *host,
            ports: ports.clone(),
        }));
        number
    }
}

impl Ports {
    /// No port is taken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one port.
    pub fn claim(&self, request: &Request<'_>) -> Result<Claim, PortError> {
        let Some(ports) = &request.ports else {
            return self.any(request, ephemeral(), true);
        };
        if ports.start() == ports.end() {
            return self.block(request, ports.clone());
        }
        self.any(request, ports.clone(), false)
    }

    /// Takes all ports of a range.
    pub fn claim_all(
        &self,
        request: &Request<'_>,
        ports: RangeInclusive<u16>,
    ) -> Result<Claim, PortError> {
        self.block(request, ports)
    }

    /// The first free one, or the next after the one that was handed out last.
    fn any(
        &self,
        request: &Request<'_>,
        range: RangeInclusive<u16>,
        go_round: bool,
    ) -> Result<Claim, PortError> {
        let first = *range.start();
        let count = u32::from(*range.end()).saturating_sub(first.into()) + 1;
        let after = locked(&self.table).last.wrapping_add(1);
        let begin = if go_round && range.contains(&after) {
            u32::from(after - first)
        } else {
            0
        };
        let mut failure = PortError::AllAllocated;
        let mut tries = 0;
        for step in 0..count {
            let place = u16::try_from((begin + step) % count).unwrap_or_default();
            let port = first.saturating_add(place);
            match self.block(request, port..=port) {
                Ok(claim) => {
                    if go_round {
                        locked(&self.table).last = port;
                    }
                    return Ok(claim);
                }
                Err(PortError::Allocated(_)) => {}
                Err(error) => {
                    failure = error;
                    tries += 1;
                    if tries == TRIES {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    fn block(&self, request: &Request<'_>, ports: RangeInclusive<u16>) -> Result<Claim, PortError> {
        let Request {
            protocol, hosts, ..
        } = *request;
        let mut table = locked(&self.table);
        if let Some(host) = table.conflict(protocol, hosts, &ports) {
            let address = SocketAddr::new(host, *ports.start());
            return Err(PortError::Allocated(address));
        }
        let number = table.take(protocol, hosts, &ports);
        drop(table);
        // Dropped, it gives the ports back.
        let mut claim = Claim {
            ports: ports.clone(),
            sockets: Vec::new(),
            table: Arc::clone(&self.table),
            number,
        };
        let failed = |host: IpAddr, port: u16, source| PortError::Bind {
            host: SocketAddr::new(host, port),
            container: SocketAddr::new(
                request.container.ip(),
                request
                    .container
                    .port()
                    .saturating_add(port - ports.start()),
            ),
            protocol,
            source,
        };
        let length = ports.end().saturating_sub(*ports.start());
        for host in hosts {
            if length >= SOCKETS {
                let held = socket::holder(protocol, *host, &ports)
                    .map_err(|source| failed(*host, *ports.start(), source))?;
                if let Some(port) = held {
                    let taken = rustix::io::Errno::ADDRINUSE.into();
                    return Err(failed(*host, port, taken));
                }
                continue;
            }
            for port in ports.clone() {
                let address = SocketAddr::new(*host, port);
                let socket = socket::hold(protocol, address)
                    .map_err(|source| failed(*host, port, source))?;
                claim.sockets.extend(socket.map(|socket| (address, socket)));
            }
        }
        Ok(claim)
    }
}

/// The kernel's own range for what nobody chose.
fn ephemeral() -> RangeInclusive<u16> {
    let text = crate::inside::parameter("net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => first..=last,
        _ => EPHEMERAL,
    }
}

impl Claim {
    /// The port, or the first of a block.
    #[must_use]
    pub fn port(&self) -> u16 {
        *self.ports.start()
    }

    /// All ports.
    #[must_use]
    pub fn ports(&self) -> RangeInclusive<u16> {
        self.ports.clone()
    }

    /// The addresses that a socket keeps.
    pub fn held(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(|(address, _)| *address)
    }

    /// The socket of an address for somebody who serves it: it hears from now on.
    pub fn listener(&self, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
        let mut sockets = self.sockets.iter();
        let Some((_, socket)) = sockets.find(|(held, _)| *held == address) else {
            return Ok(None);
        };
        socket::hear(socket)?;
        Ok(Some(socket.try_clone()?))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.sockets.clear();
        let number = self.number;
        locked(&self.table)
            .taken
            .retain(|taken| taken.number != number);
    }
}
