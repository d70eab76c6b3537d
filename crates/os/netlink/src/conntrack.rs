//! Connections that the kernel tracks, to be forgotten when the address that they are of goes to somebody else.
//!
//! Numbers are those of `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::IpAddr;

use rustix::net::netlink::NETFILTER;

use crate::error::NetlinkError;
use crate::message::{ACK, Attributes, Message};
use crate::route::{family, octets};
use crate::socket::Socket;

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const STATISTICS: u16 = 5;
/// `CTA_STATS_GLOBAL_ENTRIES`
const ENTRIES: u16 = 1;
/// `struct nfgenmsg`
const FIXED: usize = 4;

const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const FILTER: u16 = 25;
const NESTED: u16 = 0x8000;

const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION: u16 = 3;
/// `CTA_FILTER_F_CTA_…`
const BY_SOURCE: u32 = 1 << 0;
const BY_PROTOCOL: u32 = 1 << 3;

/// A socket for the connections of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Connections {
    socket: Socket,
}

impl Connections {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: Socket::open(Some(NETFILTER))?,
        })
    }

    /// How many connections are tracked.
    pub fn count(&mut self) -> Result<u32, NetlinkError> {
        let read = |body: &[u8]| {
            let bytes = Attributes::after(body, FIXED).get(ENTRIES)?;
            Some(u32::from_be_bytes(*bytes.first_chunk()?))
        };
        self.socket
            .get("count the connections", message(STATISTICS, 0), read)
    }

    /// Forgets the connections that an address began, and those that were led to it; how many they were.
    pub fn forget_address(&mut self, address: IpAddr) -> Result<usize, NetlinkError> {
        let action = format!("forget the connections of {address}");
        // CTA_IP_V4_SRC, CTA_IP_V6_SRC
        let source = if address.is_ipv4() { 1 } else { 3 };
        let mut count = 0;
        for direction in [ORIGINAL, REPLY] {
            let mut message = message(GET, family(address));
            message.nest(direction, |tuple| {
                tuple.nest(TUPLE_IP, |ip| ip.put(source, &octets(address)));
            });
            message.nest(FILTER, |filter| {
                for kind in [ORIGINAL, REPLY] {
                    let by = if kind == direction { BY_SOURCE } else { 0 };
                    filter.put_u32(kind, by);
                }
            });
            count += self.forget(&action, &message, family(address), |_| true)?;
        }
        Ok(count)
    }

    /// Forgets the connections of a protocol to some ports, whatever the address; how many they were.
    pub fn forget_ports(
        &mut self,
        ipv6: bool,
        protocol: u8,
        ports: impl Fn(u16) -> bool,
    ) -> Result<usize, NetlinkError> {
        let family = if ipv6 { 10 } else { 2 };
        let mut message = message(GET, family);
        message.nest(ORIGINAL, |tuple| {
            tuple.nest(TUPLE_PROTOCOL, |inner| {
                inner.put_u8(PROTOCOL_NUMBER, protocol);
            });
        });
        message.nest(FILTER, |filter| {
            filter.put_u32(ORIGINAL, BY_PROTOCOL);
            filter.put_u32(REPLY, 0);
        });
        let wanted = |tuple: &[u8]| {
            let inner = Attributes::after(tuple, 0).nested(TUPLE_PROTOCOL);
            let port = inner.get(PROTOCOL_DESTINATION);
            port.and_then(|bytes| bytes.first_chunk())
                .is_some_and(|bytes| ports(u16::from_be_bytes(*bytes)))
        };
        self.forget("forget the connections to ports", &message, family, wanted)
    }

    /// Removes what is wanted of all that a dump finds.
    fn forget(
        &mut self,
        action: &str,
        asked: &Message,
        family: u8,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<usize, NetlinkError> {
        let read = |body: &[u8]| {
            let attributes = Attributes::after(body, FIXED);
            let tuple = attributes.get(ORIGINAL).filter(|tuple| wanted(tuple))?;
            Some((tuple.to_vec(), attributes.get(ID)?.to_vec()))
        };
        let found = self.socket.dump(action, asked, read)?;
        let mut count = 0;
        for (tuple, id) in found {
            let mut message = message(DELETE, family);
            message.add_flags(ACK);
            message.put(ORIGINAL | NESTED, &tuple);
            message.put(ID, &id);
            match self.socket.transact(action, vec![message], 1) {
                Ok(()) => count += 1,
                // It ended by itself.
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }
}

fn message(kind: u16, family: u8) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, 0, &[family, 0, 0, 0])
}
