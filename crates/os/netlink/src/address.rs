//! Addresses of interfaces.

use std::net::IpAddr;

use havre_types::Cidr;

use crate::error::NetlinkError;
use crate::message::{Attributes, CREATE, Message, REPLACE, u32_at};
use crate::route::{Route, family, ip, octets};

const NEW: u16 = 20;
const DELETE: u16 = 21;
const GET: u16 = 22;
/// `struct ifaddrmsg`
const FIXED: usize = 8;

// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection: the address is usable at once.
const NODAD: u32 = 0x02;
const SCOPE_LINK: u8 = 253;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub index: u32,
    /// The address and the length of its network's prefix.
    pub cidr: Cidr,
    /// Valid only on this link (fe80::/10, 169.254.0.0/16).
    pub link_local: bool,
}

impl Address {
    fn read(body: &[u8]) -> Option<Self> {
        let attributes = Attributes::after(body, FIXED);
        let family = *body.first()?;
        // On a point-to-point interface IFA_ADDRESS is the other end's.
        let bytes = attributes
            .get(IFA_LOCAL)
            .or_else(|| attributes.get(IFA_ADDRESS))?;
        Some(Self {
            index: u32_at(body, 4)?,
            cidr: Cidr::new(ip(family, bytes)?, *body.get(1)?)?,
            link_local: *body.get(3)? == SCOPE_LINK,
        })
    }
}

fn fixed(index: u32, cidr: Cidr, scope: u8) -> [u8; FIXED] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family(cidr.address()), cidr.prefix(), 0, scope, a, b, c, d]
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Addresses.
impl Route {
    /// Gives an interface an address, or confirms the one it has.
    pub fn add_address(&mut self, index: u32, cidr: Cidr) -> Result<(), NetlinkError> {
        let address = cidr.address();
        let scope = if is_link_local(address) {
            SCOPE_LINK
        } else {
            0
        };
        let mut message = Message::new(NEW, CREATE | REPLACE, &fixed(index, cidr, scope));
        message.put(IFA_LOCAL, &octets(address));
        message.put(IFA_ADDRESS, &octets(address));
        if address.is_ipv4() {
            if cidr.prefix() < 31 {
                message.put(IFA_BROADCAST, &octets(cidr.last()));
            }
        } else {
            message.put_u32(IFA_FLAGS, NODAD);
        }
        self.socket
            .change(&format!("add address {cidr} to interface {index}"), message)
    }

    /// Takes an address from an interface.
    pub fn delete_address(&mut self, index: u32, cidr: Cidr) -> Result<(), NetlinkError> {
        let mut message = Message::new(DELETE, 0, &fixed(index, cidr, 0));
        message.put(IFA_LOCAL, &octets(cidr.address()));
        self.socket.change(
            &format!("delete address {cidr} of interface {index}"),
            message,
        )
    }

    /// All addresses of the namespace, of both families.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let message = Message::new(GET, 0, &[0; FIXED]);
        self.socket.dump("list addresses", &message, Address::read)
    }
}
