//! Interfaces.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use havre_types::MacAddress;

use crate::error::NetlinkError;
use crate::message::{Attributes, CREATE, EXCLUSIVE, Message, u32_at};
use crate::route::Route;

const NEW: u16 = 16;
const DELETE: u16 = 17;
const GET: u16 = 18;
/// `struct ifinfomsg`
const FIXED: usize = 16;
const UP: u32 = 0x1;

// linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const BRPORT_MODE: u16 = 4;
const BRPORT_ISOLATED: u16 = 33;
const VETH_PEER: u16 = 1;
const MACVLAN_MODE: u16 = 1;
const MACVLAN_FLAGS: u16 = 2;
const MACVLAN_FLAG_NOPROMISC: u16 = 1;
const IPVLAN_MODE: u16 = 1;
const IPVLAN_FLAGS: u16 = 2;
const VLAN_ID: u16 = 1;

/// How the interfaces of one parent see each other (`MACVLAN_MODE_…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Through the switch that the parent is plugged into.
    Vepa,
    /// Directly.
    Bridge,
    /// Not at all.
    Private,
    /// There is only one, and it takes the parent over; with `nopromisc` without promiscuous mode.
    Passthru {
        /// `MACVLAN_FLAG_NOPROMISC`
        nopromisc: bool,
    },
}

/// Where the interfaces of one parent meet (`IPVLAN_MODE_…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    /// As on one switch.
    L2,
    /// By routes; no broadcast.
    L3,
    /// By routes, through netfilter of the host.
    L3S,
}

/// What an interface is.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// A switch.
    Bridge,
    /// One end of a cable; the other is made with it: name, address, mtu and namespace of it count. It is down: the
    /// kernel makes it before it is connected.
    Veth(&'a NewLink<'a>),
    /// An own hardware address on a parent.
    Macvlan {
        /// Index of the parent.
        parent: u32,
        /// How it sees the others.
        mode: MacvlanMode,
    },
    /// The parent's hardware address, own addresses.
    Ipvlan {
        /// Index of the parent.
        parent: u32,
        /// Where it meets the others.
        mode: IpvlanMode,
        /// `IPVLAN_F_…`: 0 bridge, 1 private, 2 vepa.
        flags: u16,
    },
    /// A tag on a parent (802.1Q).
    Vlan {
        /// Index of the parent.
        parent: u32,
        /// 1 to 4094.
        id: u16,
    },
    /// Any other kind that needs no parameters (`dummy`, `ifb`).
    Other(&'a str),
}

/// An interface to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewLink<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind<'a>,
    /// Largest packet in bytes; None for the kernel's choice.
    pub mtu: Option<u32>,
    /// Its hardware address; None for a random one.
    pub address: Option<MacAddress>,
    /// The network namespace in which it appears; None for the socket's.
    pub namespace: Option<BorrowedFd<'a>>,
    /// Index of the bridge that it is a port of.
    pub master: Option<u32>,
    /// Whether it is up at once.
    pub up: bool,
}

impl<'a> NewLink<'a> {
    /// An interface that is down and has nothing of its own.
    #[must_use]
    pub fn new(name: &'a str, kind: Kind<'a>) -> Self {
        Self {
            name,
            kind,
            mtu: None,
            address: None,
            namespace: None,
            master: None,
            up: false,
        }
    }

    /// The attributes; those of the kind come last.
    fn write(&self, message: &mut Message) {
        message.put_text(IFLA_IFNAME, self.name);
        if let Some(mtu) = self.mtu {
            message.put_u32(IFLA_MTU, mtu);
        }
        if let Some(address) = self.address {
            message.put(IFLA_ADDRESS, &address.0);
        }
        if let Some(namespace) = self.namespace {
            message.put_u32(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
        }
        if let Some(master) = self.master {
            message.put_u32(IFLA_MASTER, master);
        }
        if let Some(parent) = self.kind.parent() {
            message.put_u32(IFLA_LINK, parent);
        }
        message.nest(IFLA_LINKINFO, |info| {
            info.put_text(INFO_KIND, self.kind.name());
            info.nest(INFO_DATA, |data| self.kind.write(data));
        });
    }
}

impl Kind<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Bridge => "bridge",
            Self::Veth(_) => "veth",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Vlan { .. } => "vlan",
            Self::Other(name) => name,
        }
    }

    fn parent(&self) -> Option<u32> {
        match self {
            Self::Macvlan { parent, .. }
            | Self::Ipvlan { parent, .. }
            | Self::Vlan { parent, .. } => Some(*parent),
            Self::Bridge | Self::Veth(_) | Self::Other(_) => None,
        }
    }

    fn write(&self, data: &mut Message) {
        match self {
            Self::Veth(peer) => data.nest(VETH_PEER, |inner| {
                inner.raw(&fixed(0, 0, false));
                peer.write_peer(inner);
            }),
            Self::Macvlan { mode, .. } => {
                let (number, flags) = match mode {
                    MacvlanMode::Private => (1, 0),
                    MacvlanMode::Vepa => (2, 0),
                    MacvlanMode::Bridge => (4, 0),
                    MacvlanMode::Passthru { nopromisc: true } => (8, MACVLAN_FLAG_NOPROMISC),
                    MacvlanMode::Passthru { nopromisc: false } => (8, 0),
                };
                data.put_u32(MACVLAN_MODE, number);
                data.put_u16(MACVLAN_FLAGS, flags);
            }
            Self::Ipvlan { mode, flags, .. } => {
                let number = match mode {
                    IpvlanMode::L2 => 0,
                    IpvlanMode::L3 => 1,
                    IpvlanMode::L3S => 2,
                };
                data.put_u16(IPVLAN_MODE, number);
                data.put_u16(IPVLAN_FLAGS, *flags);
            }
            Self::Vlan { id, .. } => data.put_u16(VLAN_ID, *id),
            Self::Bridge | Self::Other(_) => {}
        }
    }
}

impl NewLink<'_> {
    /// The end of a cable that is named by the other: it has no kind of its own to say.
    fn write_peer(&self, message: &mut Message) {
        message.put_text(IFLA_IFNAME, self.name);
        if let Some(mtu) = self.mtu {
            message.put_u32(IFLA_MTU, mtu);
        }
        if let Some(address) = self.address {
            message.put(IFLA_ADDRESS, &address.0);
        }
        if let Some(namespace) = self.namespace {
            message.put_u32(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
        }
    }
}

/// What to change of an interface; None leaves it.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkChange<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// A new name; the interface must be down (before Linux 6.2).
    pub name: Option<&'a str>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// The hardware address.
    pub address: Option<MacAddress>,
    /// The bridge that it is a port of; 0 for none.
    pub master: Option<u32>,
    /// A text for people, at most 255 bytes.
    pub alias: Option<&'a str>,
    /// The network namespace that it goes to.
    pub namespace: Option<BorrowedFd<'a>>,
}

/// What a port of a bridge may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Port {
    /// Packets may go back to where they came from.
    pub hairpin: bool,
    /// It does not reach other isolated ports.
    pub isolated: bool,
}

/// An interface as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number in this namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `bridge`, `veth`, …; empty for hardware.
    pub kind: String,
    /// Whether it is set up.
    pub up: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Its hardware address, where it has one of six bytes.
    pub address: Option<MacAddress>,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// Its parent, or the other end of the cable; perhaps in another namespace.
    pub parent: Option<u32>,
    /// A text for people.
    pub alias: String,
}

impl Link {
    fn read(body: &[u8]) -> Option<Self> {
        let attributes = Attributes::after(body, FIXED);
        let address = attributes.get(IFLA_ADDRESS);
        Some(Self {
            index: u32_at(body, 4)?,
            name: attributes.text(IFLA_IFNAME)?,
            kind: attributes
                .nested(IFLA_LINKINFO)
                .text(INFO_KIND)
                .unwrap_or_default(),
            up: u32_at(body, 8)? & UP != 0,
            mtu: attributes.u32(IFLA_MTU).unwrap_or_default(),
            address: address
                .and_then(|bytes| bytes.try_into().ok())
                .map(MacAddress),
            master: attributes.u32(IFLA_MASTER),
            parent: attributes.u32(IFLA_LINK),
            alias: attributes.text(IFLA_IFALIAS).unwrap_or_default(),
        })
    }
}

/// `struct ifinfomsg`; `up` also names the flag as one that is to be changed.
fn fixed(index: u32, flags: u32, change: bool) -> [u8; FIXED] {
    let mut bytes = [0; FIXED];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&(if change { UP } else { 0 }).to_ne_bytes());
    bytes
}

/// Interfaces.
impl Route {
    /// Makes an interface; one of that name must not be there.
    pub fn create_link(&mut self, link: &NewLink<'_>) -> Result<(), NetlinkError> {
        let flags = if link.up { UP } else { 0 };
        let mut message = Message::new(NEW, CREATE | EXCLUSIVE, &fixed(0, flags, link.up));
        link.write(&mut message);
        let action = format!("create interface {} ({})", link.name, link.kind.name());
        self.socket.change(&action, message)
    }

    /// Removes an interface; the other end of a cable goes with it.
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let message = Message::new(DELETE, 0, &fixed(index, 0, false));
        self.socket
            .change(&format!("delete interface {index}"), message)
    }

    /// Changes an interface.
    pub fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<(), NetlinkError> {
        let flags = if change.up == Some(true) { UP } else { 0 };
        let mut message = Message::new(NEW, 0, &fixed(index, flags, change.up.is_some()));
        if let Some(name) = change.name {
            message.put_text(IFLA_IFNAME, name);
        }
        if let Some(mtu) = change.mtu {
            message.put_u32(IFLA_MTU, mtu);
        }
        if let Some(address) = change.address {
            message.put(IFLA_ADDRESS, &address.0);
        }
        if let Some(master) = change.master {
            message.put_u32(IFLA_MASTER, master);
        }
        if let Some(alias) = change.alias {
            message.put(IFLA_IFALIAS, alias.as_bytes());
        }
        if let Some(namespace) = change.namespace {
            message.put_u32(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
        }
        self.socket
            .change(&format!("change interface {index}"), message)
    }

    /// Sets what a port of a bridge may.
    pub fn change_port(&mut self, index: u32, port: Port) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW, 0, &fixed(index, 0, false));
        message.nest(IFLA_LINKINFO, |info| {
            info.put_text(INFO_SLAVE_KIND, "bridge");
            info.nest(INFO_SLAVE_DATA, |data| {
                data.put_u8(BRPORT_MODE, port.hairpin.into());
                data.put_u8(BRPORT_ISOLATED, port.isolated.into());
            });
        });
        self.socket
            .change(&format!("change bridge port {index}"), message)
    }

    /// The interface of a name; an error of which `is_absent` is true when there is none.
    pub fn link(&mut self, name: &str) -> Result<Link, NetlinkError> {
        let mut message = Message::new(GET, 0, &fixed(0, 0, false));
        message.put_text(IFLA_IFNAME, name);
        self.socket
            .get(&format!("find interface {name}"), message, Link::read)
    }

    /// All interfaces of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let message = Message::new(GET, 0, &fixed(0, 0, false));
        self.socket.dump("list interfaces", &message, Link::read)
    }
}
