//! What rules are made of: registers are loaded, compared, looked up, and something is done.

use super::rule::Field;
use super::{DATA_VALUE, Verdict};
use crate::message::Message;

/// The register that holds a verdict.
pub(super) const VERDICT_REGISTER: u32 = 0;

// linux/netfilter/nf_tables.h: enum nft_meta_keys
const META_ETHER_TYPE: u32 = 1;
const META_MARK: u32 = 3;
const META_INPUT: u32 = 6;
const META_OUTPUT: u32 = 7;
const META_PROTOCOL: u32 = 16;
const META_INPUT_KIND: u32 = 26;
const META_OUTPUT_KIND: u32 = 27;
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// A step of a rule, as the kernel runs it.
#[derive(Debug, Clone)]
pub(super) enum Expression {
    Load {
        field: Field,
        to: u32,
    },
    LoadMeta {
        key: u32,
        to: u32,
    },
    LoadPayload {
        base: u32,
        offset: u32,
        length: u32,
        to: u32,
    },
    LoadConnection {
        key: u32,
        to: u32,
    },
    LoadAddressType {
        to: u32,
    },
    Compare {
        register: u32,
        operation: u32,
        value: Vec<u8>,
    },
    Mask {
        register: u32,
        mask: Vec<u8>,
    },
    Lookup {
        set: String,
        from: u32,
        to: Option<u32>,
        invert: bool,
    },
    Immediate {
        to: u32,
        value: Vec<u8>,
    },
    SetMark {
        from: u32,
    },
    Verdict(Verdict),
    Nat {
        destination: bool,
        ipv6: bool,
        address: Option<u32>,
        port: Option<u32>,
    },
    Masquerade,
    Reject,
    Counter,
}

impl Expression {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Load { field, .. } => match field {
                Field::Protocol
                | Field::InputInterface
                | Field::OutputInterface
                | Field::InputKind
                | Field::OutputKind
                | Field::EtherType
                | Field::Mark => "meta",
                _ => "payload",
            },
            Self::LoadMeta { .. } | Self::SetMark { .. } => "meta",
            Self::LoadPayload { .. } => "payload",
            Self::LoadConnection { .. } => "ct",
            Self::LoadAddressType { .. } => "fib",
            Self::Compare { .. } => "cmp",
            Self::Mask { .. } => "bitwise",
            Self::Lookup { .. } => "lookup",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Nat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Reject => "reject",
            Self::Counter => "counter",
        }
    }

    pub(super) fn write(&self, data: &mut Message) {
        match self {
            Self::Load { field, to } => field.load(*to).write(data),
            Self::LoadMeta { key, to } | Self::LoadConnection { key, to } => {
                data.put_be32(1, *to);
                data.put_be32(2, *key);
            }
            Self::LoadPayload {
                base,
                offset,
                length,
                to,
            } => {
                data.put_be32(1, *to);
                data.put_be32(2, *base);
                data.put_be32(3, *offset);
                data.put_be32(4, *length);
            }
            Self::LoadAddressType { to } => {
                data.put_be32(1, *to);
                // Result: the type of the address; of the destination.
                data.put_be32(2, 3);
                data.put_be32(3, 2);
            }
            Self::Compare {
                register,
                operation,
                value,
            } => {
                data.put_be32(1, *register);
                data.put_be32(2, *operation);
                data.nest(3, |inner| inner.put(DATA_VALUE, value));
            }
            Self::Mask { register, mask } => {
                data.put_be32(1, *register);
                data.put_be32(2, *register);
                data.put_be32(3, u32::try_from(mask.len()).unwrap_or(0));
                data.nest(4, |inner| inner.put(DATA_VALUE, mask));
                data.nest(5, |inner| inner.put(DATA_VALUE, &vec![0; mask.len()]));
            }
            Self::Lookup {
                set,
                from,
                to,
                invert,
            } => {
                data.put_text(1, set);
                data.put_be32(2, *from);
                put_register(data, 3, *to);
                if *invert {
                    data.put_be32(5, 1);
                }
            }
            Self::Immediate { to, value } => {
                data.put_be32(1, *to);
                data.nest(2, |inner| inner.put(DATA_VALUE, value));
            }
            Self::SetMark { from } => {
                data.put_be32(2, META_MARK);
                data.put_be32(3, *from);
            }
            Self::Verdict(verdict) => {
                data.put_be32(1, VERDICT_REGISTER);
                data.nest(2, |inner| verdict.write(inner));
            }
            Self::Nat {
                destination,
                ipv6,
                address,
                port,
            } => {
                data.put_be32(1, u32::from(*destination));
                data.put_be32(2, if *ipv6 { 10 } else { 2 });
                put_register(data, 3, *address);
                put_register(data, 5, *port);
            }
            Self::Reject => {
                // For either family: administratively prohibited.
                data.put_be32(1, 2);
                data.put_u8(2, 3);
            }
            Self::Masquerade | Self::Counter => {}
        }
    }
}

fn put_register(data: &mut Message, kind: u16, register: Option<u32>) {
    if let Some(number) = register {
        data.put_be32(kind, number);
    }
}

impl Field {
    /// The expression that loads it.
    pub(super) fn load(self, to: u32) -> Expression {
        let meta = |key| Expression::LoadMeta { key, to };
        let payload = |base, offset, length| Expression::LoadPayload {
            base,
            offset,
            length,
            to,
        };
        match self {
            Self::Protocol => meta(META_PROTOCOL),
            Self::InputInterface => meta(META_INPUT),
            Self::OutputInterface => meta(META_OUTPUT),
            Self::Mark => meta(META_MARK),
            Self::InputKind => meta(META_INPUT_KIND),
            Self::OutputKind => meta(META_OUTPUT_KIND),
            Self::SourcePort => payload(TRANSPORT_HEADER, 0, 2),
            Self::DestinationPort => payload(TRANSPORT_HEADER, 2, 2),
            Self::Source4 => payload(NETWORK_HEADER, 12, 4),
            Self::Destination4 => payload(NETWORK_HEADER, 16, 4),
            Self::Source6 => payload(NETWORK_HEADER, 8, 16),
            Self::Destination6 => payload(NETWORK_HEADER, 24, 16),
            Self::EtherType => meta(META_ETHER_TYPE),
            Self::SourceHardware => payload(LINK_HEADER, 6, 6),
            // RFC 826: types, lengths, the operation, then the sender's addresses.
            Self::ArpForm => payload(NETWORK_HEADER, 0, 6),
            Self::ArpHardware => payload(NETWORK_HEADER, 8, 6),
            Self::ArpAddress => payload(NETWORK_HEADER, 14, 4),
            Self::Icmp6Type => payload(TRANSPORT_HEADER, 0, 1),
            // RFC 4861, 4.3 and 4.4.
            Self::NeighbourTarget => payload(TRANSPORT_HEADER, 8, 16),
        }
    }
}
