//! Rules, written from left to right as man 8 nft writes them.

use std::net::IpAddr;

use havre_types::Cidr;

use super::expression::{Expression, VERDICT_REGISTER};
use super::set::{Type, interface};
use super::{LIST_ELEM, Verdict};
use crate::message::Message;

/// The first of the registers of four bytes (`NFT_REG32_00`).
const FIRST: u32 = 8;
/// libnftnl's mark of a comment in the free part of a rule (`NFTNL_UDATA_RULE_COMMENT`).
const COMMENT: u8 = 0;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// What of a packet is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The transport protocol.
    Protocol,
    /// The port that it goes to.
    DestinationPort,
    /// The port that it comes from.
    SourcePort,
    /// The IPv4 address that it goes to.
    Destination4,
    /// The IPv4 address that it comes from.
    Source4,
    /// The IPv6 address that it goes to.
    Destination6,
    /// The IPv6 address that it comes from.
    Source6,
    /// The interface by which it came.
    InputInterface,
    /// The interface by which it leaves.
    OutputInterface,
    /// Its mark.
    Mark,
    /// What kind of interface it came by (`bridge`, `veth`; empty for hardware).
    InputKind,
    /// What kind of interface it leaves by.
    OutputKind,
    /// What a frame carries (the EtherType).
    EtherType,
    /// The hardware address that a frame comes from.
    SourceHardware,
    /// What addresses an ARP message is about: types and lengths of both kinds.
    ArpForm,
    /// The hardware address that the sender of an ARP message says is its own.
    ArpHardware,
    /// The IPv4 address that the sender of an ARP message says is its own.
    ArpAddress,
    /// The type of an ICMPv6 message. To stand behind [`Rule::protocol`].
    Icmp6Type,
    /// The address that an ICMPv6 message about neighbours is about.
    NeighbourTarget,
}

impl Field {
    fn words(self) -> u32 {
        let kind = match self {
            Self::Protocol => Type::Protocol,
            Self::DestinationPort | Self::SourcePort => Type::Port,
            Self::Destination4 | Self::Source4 => Type::Ipv4,
            Self::Destination6 | Self::Source6 => Type::Ipv6,
            Self::InputInterface | Self::OutputInterface | Self::InputKind | Self::OutputKind => {
                Type::Interface
            }
            Self::Mark => Type::Mark,
            Self::EtherType | Self::Icmp6Type => return 1,
            Self::SourceHardware | Self::ArpHardware => Type::Hardware,
            Self::ArpForm => return 2,
            Self::ArpAddress => Type::Ipv4,
            Self::NeighbourTarget => Type::Ipv6,
        };
        kind.words()
    }
}

/// The states of a connection (`NF_CT_STATE_BIT`), to be added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State(u32);

impl State {
    /// Belongs to no connection that could be.
    pub const INVALID: Self = Self(0x1);
    /// Packets have gone both ways.
    pub const ESTABLISHED: Self = Self(0x2);
    /// Belongs to another connection: an error message, a data channel.
    pub const RELATED: Self = Self(0x4);
    /// The first packet of one.
    pub const NEW: Self = Self(0x8);

    /// Either of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A rule: conditions, then what is done when all hold.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    expressions: Vec<Expression>,
    comment: String,
}

// linux/netfilter/nf_tables.h: enum nft_meta_keys
const META_FAMILY: u32 = 15;
const CONNECTION_STATE: u32 = 0;
const CONNECTION_STATUS: u32 = 2;
/// The destination was changed (`IPS_DST_NAT`).
const DESTINATION_CHANGED: u32 = 1 << 5;
/// linux/rtnetlink.h: an address of this host (`RTN_LOCAL`).
const LOCAL: u32 = 2;

impl Rule {
    /// A rule that holds for every packet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, expression: Expression) -> Self {
        self.expressions.push(expression);
        self
    }

    fn compared(self, operation: u32, value: Vec<u8>) -> Self {
        self.with(Expression::Compare {
            register: FIRST,
            operation,
            value,
        })
    }

    fn field(self, field: Field) -> Self {
        self.with(Expression::Load { field, to: FIRST })
    }

    fn meta(self, key: u32) -> Self {
        self.with(Expression::LoadMeta { key, to: FIRST })
    }

    /// Only IPv4. To stand before conditions on IPv4 addresses.
    #[must_use]
    pub fn ipv4(self) -> Self {
        self.meta(META_FAMILY).compared(EQUAL, vec![2])
    }

    /// Only IPv6. To stand before conditions on IPv6 addresses.
    #[must_use]
    pub fn ipv6(self) -> Self {
        self.meta(META_FAMILY).compared(EQUAL, vec![10])
    }

    /// Came by this interface.
    #[must_use]
    pub fn from_interface(self, name: &str) -> Self {
        self.field(Field::InputInterface)
            .compared(EQUAL, interface(name).to_vec())
    }

    /// Came by another interface.
    #[must_use]
    pub fn not_from_interface(self, name: &str) -> Self {
        self.field(Field::InputInterface)
            .compared(NOT_EQUAL, interface(name).to_vec())
    }

    /// Leaves by this interface.
    #[must_use]
    pub fn to_interface(self, name: &str) -> Self {
        self.field(Field::OutputInterface)
            .compared(EQUAL, interface(name).to_vec())
    }

    /// Leaves by another interface.
    #[must_use]
    pub fn not_to_interface(self, name: &str) -> Self {
        self.field(Field::OutputInterface)
            .compared(NOT_EQUAL, interface(name).to_vec())
    }

    /// Came by an interface of this kind (`bridge`, `veth`), or of another.
    #[must_use]
    pub fn from_kind(self, kind: &str, equal: bool) -> Self {
        let operation = if equal { EQUAL } else { NOT_EQUAL };
        self.field(Field::InputKind)
            .compared(operation, interface(kind).to_vec())
    }

    /// Leaves by an interface of this kind, or of another.
    #[must_use]
    pub fn to_kind(self, kind: &str, equal: bool) -> Self {
        let operation = if equal { EQUAL } else { NOT_EQUAL };
        self.field(Field::OutputKind)
            .compared(operation, interface(kind).to_vec())
    }

    /// A field has this value, or another: its bytes as in the packet.
    #[must_use]
    pub fn is(self, field: Field, bytes: &[u8], equal: bool) -> Self {
        let operation = if equal { EQUAL } else { NOT_EQUAL };
        self.field(field).compared(operation, bytes.to_vec())
    }

    /// Of this transport protocol.
    #[must_use]
    pub fn protocol(self, number: u8) -> Self {
        self.field(Field::Protocol).compared(EQUAL, vec![number])
    }

    /// Goes to this port. To stand behind [`Rule::protocol`].
    #[must_use]
    pub fn to_port(self, port: u16) -> Self {
        self.field(Field::DestinationPort)
            .compared(EQUAL, port.to_be_bytes().to_vec())
    }

    /// Comes from an address of this network, or from none of it.
    #[must_use]
    pub fn from_network(self, network: Cidr, inside: bool) -> Self {
        self.network(network, inside, Field::Source4, Field::Source6)
    }

    /// Goes to an address of this network, or to none of it.
    #[must_use]
    pub fn to_network(self, network: Cidr, inside: bool) -> Self {
        self.network(network, inside, Field::Destination4, Field::Destination6)
    }

    fn network(self, network: Cidr, inside: bool, v4: Field, v6: Field) -> Self {
        let network = network.network();
        let ones = if network.prefix() == 0 { 0 } else { u128::MAX };
        let (rule, value, mask) = match network.address() {
            IpAddr::V4(address) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(network.prefix()))
                    .unwrap_or(0);
                (
                    self.ipv4().field(v4),
                    address.octets().to_vec(),
                    mask.to_be_bytes().to_vec(),
                )
            }
            IpAddr::V6(address) => {
                let mask = ones
                    .checked_shl(128 - u32::from(network.prefix()))
                    .unwrap_or(0);
                (
                    self.ipv6().field(v6),
                    address.octets().to_vec(),
                    mask.to_be_bytes().to_vec(),
                )
            }
        };
        let masked = rule.with(Expression::Mask {
            register: FIRST,
            mask,
        });
        masked.compared(if inside { EQUAL } else { NOT_EQUAL }, value)
    }

    /// Goes to an address of this host.
    #[must_use]
    pub fn to_this_host(self) -> Self {
        let loaded = self.with(Expression::LoadAddressType { to: FIRST });
        loaded.compared(EQUAL, LOCAL.to_ne_bytes().to_vec())
    }

    /// Of a connection in one of these states.
    #[must_use]
    pub fn state(self, states: State) -> Self {
        self.connection(CONNECTION_STATE, states.0)
    }

    /// Of a connection whose destination was changed on the way.
    #[must_use]
    pub fn destination_changed(self) -> Self {
        self.connection(CONNECTION_STATUS, DESTINATION_CHANGED)
    }

    fn connection(self, key: u32, bits: u32) -> Self {
        self.with(Expression::LoadConnection { key, to: FIRST })
            .with(Expression::Mask {
                register: FIRST,
                mask: bits.to_ne_bytes().to_vec(),
            })
            .compared(NOT_EQUAL, vec![0; 4])
    }

    /// Has this mark.
    #[must_use]
    pub fn marked(self, mark: u32) -> Self {
        self.field(Field::Mark)
            .compared(EQUAL, mark.to_ne_bytes().to_vec())
    }

    /// The fields together are in a set, or with `inside` false are not.
    #[must_use]
    pub fn in_set(self, set: &str, fields: &[Field], inside: bool) -> Self {
        self.loaded(fields).with(Expression::Lookup {
            set: set.to_owned(),
            from: FIRST,
            to: None,
            invert: !inside,
        })
    }

    /// What a map of verdicts says of the fields; a rule goes on where it says nothing.
    #[must_use]
    pub fn verdict_of(self, map: &str, fields: &[Field]) -> Self {
        self.loaded(fields).with(Expression::Lookup {
            set: map.to_owned(),
            from: FIRST,
            to: Some(VERDICT_REGISTER),
            invert: false,
        })
    }

    /// The destination becomes what a map says of the fields: an address and a port. The rule ends where it says nothing.
    #[must_use]
    pub fn destination_of(self, map: &str, fields: &[Field], ipv6: bool) -> Self {
        let words = if ipv6 {
            Type::Ipv6.words()
        } else {
            Type::Ipv4.words()
        };
        let nat = Expression::Nat {
            destination: true,
            ipv6,
            address: Some(FIRST),
            port: Some(FIRST + words),
        };
        self.translated(map, fields, nat)
    }

    /// As [`Rule::destination_of`] of a map that gives addresses alone: the port stays.
    #[must_use]
    pub fn address_of(self, map: &str, fields: &[Field], ipv6: bool) -> Self {
        let nat = Expression::Nat {
            destination: true,
            ipv6,
            address: Some(FIRST),
            port: None,
        };
        self.translated(map, fields, nat)
    }

    /// The source becomes what a map of addresses says of the fields. The rule ends where it says nothing.
    #[must_use]
    pub fn source_of(self, map: &str, fields: &[Field], ipv6: bool) -> Self {
        let nat = Expression::Nat {
            destination: false,
            ipv6,
            address: Some(FIRST),
            port: None,
        };
        self.translated(map, fields, nat)
    }

    fn translated(self, map: &str, fields: &[Field], nat: Expression) -> Self {
        self.loaded(fields)
            .with(Expression::Lookup {
                set: map.to_owned(),
                from: FIRST,
                to: Some(FIRST),
                invert: false,
            })
            .with(nat)
    }

    /// The destination becomes an address and a port.
    #[must_use]
    pub fn destination_becomes(self, address: IpAddr, port: u16) -> Self {
        let (value, ipv6) = match address {
            IpAddr::V4(v4) => (v4.octets().to_vec(), false),
            IpAddr::V6(v6) => (v6.octets().to_vec(), true),
        };
        // A port has a register of its own behind those of the longest address.
        let second = FIRST + Type::Ipv6.words();
        self.with(Expression::Immediate { to: FIRST, value })
            .with(Expression::Immediate {
                to: second,
                value: port.to_be_bytes().to_vec(),
            })
            .with(Expression::Nat {
                destination: true,
                ipv6,
                address: Some(FIRST),
                port: Some(second),
            })
    }

    /// The source becomes an address.
    #[must_use]
    pub fn source_becomes(self, address: IpAddr) -> Self {
        let (value, ipv6) = match address {
            IpAddr::V4(v4) => (v4.octets().to_vec(), false),
            IpAddr::V6(v6) => (v6.octets().to_vec(), true),
        };
        self.with(Expression::Immediate { to: FIRST, value })
            .with(Expression::Nat {
                destination: false,
                ipv6,
                address: Some(FIRST),
                port: None,
            })
    }

    fn loaded(mut self, fields: &[Field]) -> Self {
        let mut to = FIRST;
        for field in fields {
            self = self.with(Expression::Load { field: *field, to });
            to += field.words();
        }
        self
    }

    /// The source becomes the address of the interface by which it leaves.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.with(Expression::Masquerade)
    }

    /// Gives it a mark.
    #[must_use]
    pub fn mark(self, mark: u32) -> Self {
        self.with(Expression::Immediate {
            to: FIRST,
            value: mark.to_ne_bytes().to_vec(),
        })
        .with(Expression::SetMark { from: FIRST })
    }

    /// Counts packets and bytes.
    #[must_use]
    pub fn count(self) -> Self {
        self.with(Expression::Counter)
    }

    /// Refuses it with an ICMP message: administratively prohibited.
    #[must_use]
    pub fn reject(self) -> Self {
        self.with(Expression::Reject)
    }

    /// Decides.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.with(Expression::Verdict(verdict))
    }

    /// A text for those who list the rules, at most 120 bytes.
    #[must_use]
    pub fn comment(mut self, text: &str) -> Self {
        text.clone_into(&mut self.comment);
        self
    }

    /// Type, length, text, zero.
    pub(super) fn comment_bytes(&self) -> Option<Vec<u8>> {
        let length = u8::try_from(self.comment.len() + 1).ok()?;
        if self.comment.is_empty() {
            return None;
        }
        let mut bytes = vec![COMMENT, length];
        bytes.extend(self.comment.bytes());
        bytes.push(0);
        Some(bytes)
    }

    pub(super) fn write(&self, list: &mut Message) {
        for expression in &self.expressions {
            list.nest(LIST_ELEM, |element| {
                element.put_text(1, expression.name());
                element.nest(2, |data| expression.write(data));
            });
        }
    }
}
