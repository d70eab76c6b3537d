//! Sets and maps, and what is in them.

use std::net::IpAddr;

use havre_types::MacAddress;

use super::{DATA_VALUE, LIST_ELEM, Verdict};
use crate::message::Message;

const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
/// Ranges of several fields each (`NFT_SET_CONCAT`).
const CONCATENATED: u32 = 0x80;
/// `NFT_DATA_VERDICT`
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// `NFT_SET_ELEM_INTERVAL_END`
const INTERVAL_END: u32 = 0x1;
/// How the user-space tool tells in which order a key's bytes stand (libnftnl's `NFTNL_UDATA_SET_KEYBYTEORDER`).
const KEY_BYTE_ORDER: u8 = 0;
/// nft's number for the order of this machine.
const HOST_ORDER: u32 = 1;
/// nft packs the types of concatenated keys by six bits each.
const TYPE_BITS: u32 = 6;

/// What a key or value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// The number of a transport protocol.
    Protocol,
    /// A port.
    Port,
    /// The name of an interface.
    Interface,
    /// A packet's mark.
    Mark,
    /// A hardware address.
    Hardware,
}

impl Type {
    /// nft's number of the type, and its bytes.
    fn facts(self) -> (u32, usize) {
        match self {
            Self::Ipv4 => (7, 4),
            Self::Ipv6 => (8, 16),
            Self::Protocol => (12, 1),
            Self::Port => (13, 2),
            Self::Mark => (19, 4),
            Self::Hardware => (9, 6),
            Self::Interface => (41, 16),
        }
    }

    /// Words of four bytes that it takes in registers and concatenations.
    pub(super) fn words(self) -> u32 {
        let (_, bytes) = self.facts();
        u32::try_from(bytes.div_ceil(4)).unwrap_or(0)
    }
}

/// One field of a key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// An address of either family.
    Address(IpAddr),
    /// The number of a transport protocol.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// The name of an interface, at most 15 bytes.
    Interface(String),
    /// A packet's mark.
    Mark(u32),
    /// A hardware address.
    Hardware(MacAddress),
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Address(IpAddr::V4(v4)) => v4.octets().to_vec(),
            Self::Address(IpAddr::V6(v6)) => v6.octets().to_vec(),
            Self::Protocol(number) => vec![*number],
            Self::Port(port) => port.to_be_bytes().to_vec(),
            Self::Interface(name) => interface(name).to_vec(),
            Self::Mark(mark) => mark.to_ne_bytes().to_vec(),
            Self::Hardware(MacAddress(bytes)) => bytes.to_vec(),
        }
    }
}

/// The name of an interface as the kernel compares it: 16 bytes, zeros behind.
pub(super) fn interface(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bytes
}

/// The bytes of one field, or of several each filled up to words.
fn encoded(parts: &[Part]) -> Vec<u8> {
    if let [single] = parts {
        return single.bytes();
    }
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(part.bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// What a map gives for its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Verdicts.
    Verdict,
    /// Data.
    Data(&'a [Type]),
}

/// A set, or with values a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its keys are made of.
    pub key: &'a [Type],
    /// What it maps to; None for a set.
    pub value: Option<Value<'a>>,
    /// Keys are ranges: of one field written as two elements ([`Element::network`]), of several as one
    /// ([`Element::range`]).
    pub interval: bool,
}

fn type_and_length(types: &[Type]) -> (u32, u32) {
    let number = types
        .iter()
        .fold(0, |packed, part| packed << TYPE_BITS | part.facts().0);
    let length = match types {
        [single] => u32::try_from(single.facts().1).unwrap_or(0),
        several => several.iter().map(|part| part.words() * 4).sum(),
    };
    (number, length)
}

impl Set<'_> {
    pub(super) fn write(&self, message: &mut Message, id: u32) {
        let mut flags = 0;
        let concatenated = self.interval && self.key.len() > 1;
        if self.interval {
            flags |= INTERVAL;
        }
        if concatenated {
            flags |= CONCATENATED;
        }
        if self.value.is_some() {
            flags |= MAP;
        }
        let (key_type, key_length) = type_and_length(self.key);
        message.put_text(2, self.name);
        message.put_be32(3, flags);
        message.put_be32(4, key_type);
        message.put_be32(5, key_length);
        match self.value {
            None => {}
            Some(Value::Verdict) => message.put_be32(6, VERDICT_TYPE),
            Some(Value::Data(types)) => {
                let (number, length) = type_and_length(types);
                message.put_be32(6, number);
                message.put_be32(7, length);
            }
        }
        if concatenated {
            message.nest(9, |description| {
                description.nest(2, |fields| {
                    for part in self.key {
                        let (_, bytes) = part.facts();
                        fields.nest(LIST_ELEM, |field| {
                            field.put_be32(1, u32::try_from(bytes).unwrap_or(0));
                        });
                    }
                });
            });
        }
        message.put_be32(10, id);
        if self.key == [Type::Interface] {
            // Without it `nft list` prints names reversed.
            let mut data = vec![KEY_BYTE_ORDER, 4];
            data.extend(HOST_ORDER.to_ne_bytes());
            message.put(13, &data);
        }
    }
}

/// An element: a key, and in a map what it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    key: Vec<u8>,
    /// The last key of a range of several fields.
    last: Option<Vec<u8>>,
    value: Option<ElementValue>,
    end: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ElementValue {
    Verdict(Verdict),
    Data(Vec<u8>),
}

impl Element {
    /// A member of a set. To remove an element of a map, its key is enough, too.
    #[must_use]
    pub fn key(parts: &[Part]) -> Self {
        Self {
            key: encoded(parts),
            last: None,
            value: None,
            end: false,
        }
    }

    /// All keys whose every field is between that of `first` and that of `last`, of a set of ranges of several fields.
    #[must_use]
    pub fn range(first: &[Part], last: &[Part]) -> Self {
        Self {
            last: Some(encoded(last)),
            ..Self::key(first)
        }
    }

    /// The two elements that make a range: its first key, and the first beyond it (none when the range goes to the end
    /// of all addresses).
    #[must_use]
    pub fn network(cidr: havre_types::Cidr) -> Vec<Self> {
        let network = cidr.network().address();
        let mut found = vec![Self::key(&[Part::Address(network)])];
        let last = match cidr.last() {
            IpAddr::V4(v4) => v4
                .to_bits()
                .checked_add(1)
                .map(|next| IpAddr::V4(next.into())),
            IpAddr::V6(v6) => v6
                .to_bits()
                .checked_add(1)
                .map(|next| IpAddr::V6(next.into())),
        };
        if let Some(beyond) = last {
            found.push(Self {
                end: true,
                ..Self::key(&[Part::Address(beyond)])
            });
        }
        found
    }

    /// With data.
    #[must_use]
    pub fn with_data(mut self, parts: &[Part]) -> Self {
        self.value = Some(ElementValue::Data(encoded(parts)));
        self
    }

    /// With a verdict.
    #[must_use]
    pub fn with_verdict(mut self, verdict: Verdict) -> Self {
        self.value = Some(ElementValue::Verdict(verdict));
        self
    }

    /// The key as [`super::Nft::keys`] tells it.
    #[must_use]
    pub fn key_bytes(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn write(&self, list: &mut Message) {
        list.nest(LIST_ELEM, |element| {
            element.nest(1, |key| key.put(DATA_VALUE, &self.key));
            if let Some(last) = &self.last {
                element.nest(10, |key| key.put(DATA_VALUE, last));
            }
            match &self.value {
                None => {}
                Some(ElementValue::Data(bytes)) => {
                    element.nest(2, |data| data.put(DATA_VALUE, bytes));
                }
                Some(ElementValue::Verdict(verdict)) => {
                    element.nest(2, |data| verdict.write(data));
                }
            }
            if self.end {
                element.put_be32(3, INTERVAL_END);
            }
        });
    }
}
