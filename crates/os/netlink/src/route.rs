//! Routes, and the socket that all of rtnetlink goes through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use havre_types::Cidr;

use crate::error::NetlinkError;
use crate::message::{Attributes, CREATE, Message, REPLACE};
use crate::socket::Socket;

const NEW: u16 = 24;
const DELETE: u16 = 25;
const GET: u16 = 26;
/// `struct rtmsg`
const FIXED: usize = 12;

// linux/rtnetlink.h
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;

const INET: u8 = 2;
const INET6: u8 = 10;

/// A socket for interfaces, addresses, routes and queues of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Route {
    pub(crate) socket: Socket,
}

/// A route to be made, in the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRoute {
    /// Where to; a prefix of 0 is the default route.
    pub destination: Cidr,
    /// Through whom; None for what is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The interface.
    pub index: u32,
    /// The source address of what the host itself sends.
    pub source: Option<IpAddr>,
    /// Lower wins; 0 for the kernel's choice.
    pub metric: u32,
}

/// A route as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteEntry {
    /// Where to.
    pub destination: Cidr,
    /// Through whom.
    pub gateway: Option<IpAddr>,
    /// The interface, where there is one.
    pub index: Option<u32>,
    /// Lower wins.
    pub metric: u32,
}

impl RouteEntry {
    /// None for what is not a plain route of the main table.
    fn read(body: &[u8]) -> Option<Self> {
        let fixed: &[u8; FIXED] = body.first_chunk()?;
        let (family, prefix, table, kind) = (fixed[0], fixed[1], fixed[4], fixed[7]);
        if table != TABLE_MAIN || kind != UNICAST {
            return None;
        }
        let attributes = Attributes::after(body, FIXED);
        let destination = match attributes.get(RTA_DST) {
            Some(bytes) => ip(family, bytes)?,
            None => unspecified(family)?,
        };
        Some(Self {
            destination: Cidr::new(destination, prefix)?,
            gateway: attributes
                .get(RTA_GATEWAY)
                .and_then(|bytes| ip(family, bytes)),
            index: attributes.u32(RTA_OIF),
            metric: attributes.u32(RTA_PRIORITY).unwrap_or_default(),
        })
    }
}

impl Route {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            // NETLINK_ROUTE is number 0, which `None` is.
            socket: Socket::open(None)?,
        })
    }

    /// Makes a route, or changes the one that is there.
    pub fn add_route(&mut self, route: &NewRoute) -> Result<(), NetlinkError> {
        let message = written(NEW, CREATE | REPLACE, route);
        self.socket
            .change(&format!("add route to {}", route.destination), message)
    }

    /// Removes a route.
    pub fn delete_route(&mut self, route: &NewRoute) -> Result<(), NetlinkError> {
        let message = written(DELETE, 0, route);
        self.socket
            .change(&format!("delete route to {}", route.destination), message)
    }

    /// The unicast routes of the main table, of both families.
    pub fn routes(&mut self) -> Result<Vec<RouteEntry>, NetlinkError> {
        let message = Message::new(GET, 0, &[0; FIXED]);
        self.socket.dump("list routes", &message, RouteEntry::read)
    }
}

fn written(kind: u16, flags: u16, route: &NewRoute) -> Message {
    let destination = route.destination.network();
    let mut fixed = [0; FIXED];
    fixed[0] = family(destination.address());
    fixed[1] = destination.prefix();
    fixed[4] = TABLE_MAIN;
    fixed[5] = PROTOCOL_BOOT;
    fixed[6] = if route.gateway.is_some() || fixed[0] == INET6 {
        SCOPE_UNIVERSE
    } else {
        SCOPE_LINK
    };
    fixed[7] = UNICAST;
    let mut message = Message::new(kind, flags, &fixed);
    if destination.prefix() > 0 {
        message.put(RTA_DST, &octets(destination.address()));
    }
    if let Some(gateway) = route.gateway {
        message.put(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(source) = route.source {
        message.put(RTA_PREFSRC, &octets(source));
    }
    if route.metric > 0 {
        message.put_u32(RTA_PRIORITY, route.metric);
    }
    message.put_u32(RTA_OIF, route.index);
    message
}

/// `AF_INET` or `AF_INET6`.
pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { INET } else { INET6 }
}

/// An address as bytes in network order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An address of a family from its bytes.
pub(crate) fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

fn unspecified(family: u8) -> Option<IpAddr> {
    match family {
        INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}
