//! Answers to queries: a pure function from a packet and the names that its sender may know to the bytes of the answer, or to
//! the decision that somebody else has to be asked.

use std::net::IpAddr;

use crate::message::{CLASS_IN, HEADER, MAX_NAME, Query, Refusal, Text, code, flag, kind, to_wire};

/// How long clients may keep an answer, in seconds: that of Docker.
const TTL: u32 = 600;
/// The largest UDP answer for a client without EDNS (RFC 1035, 4.2.1).
const PLAIN_UDP: u16 = 512;
/// The largest UDP answer at all, and what our OPT record says we take.
const EDNS_UDP: u16 = 4096;
/// The pointer to the question's name, which always starts right behind the header.
const TO_QUESTION: [u8; 2] = [0xc0, 12];
const OPT_LENGTH: usize = 11;

/// What a container may know.
pub trait Names {
    /// All addresses of a lower-case name; nothing when the name is not ours.
    fn addresses(&self, name: &[u8]) -> Option<Vec<IpAddr>>;
    /// The name that belongs to an address.
    fn pointer(&self, address: IpAddr) -> Option<String>;
    /// Names without a dot are answered here or not at all.
    fn keeps_short_names(&self) -> bool;
}

/// How the query came, and so how long the answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// One datagram.
    Udp,
    /// A stream.
    Tcp,
}

/// What to do with a packet.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The answer is written.
    Answered,
    /// The name is not ours.
    Forward(Query<'a>),
    /// Nobody gets an answer.
    Silence,
}

/// Answers `packet` into `out` (which is cleared), from what `names` knows.
pub fn respond<'a>(
    packet: &'a [u8],
    names: &impl Names,
    carrier: Carrier,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    out.clear();
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(Refusal::Ignore) => return Outcome::Silence,
        Err(Refusal::Format) => return bare(packet, code::FORMAT, out),
        Err(Refusal::NotImplemented) => return bare(packet, code::NOT_IMPLEMENTED, out),
    };
    if query.edns.is_some_and(|edns| edns.version != 0) {
        // BADVERS is 16, whose upper bits stand in the OPT record (RFC 6891, 6.1.3).
        Writer::begin(&query, carrier, out).finish(code::NO_ERROR, 1);
        return Outcome::Answered;
    }
    if query.class != CLASS_IN {
        return Outcome::Forward(query);
    }
    match own_answer(&query, names) {
        Some(own) => {
            write_own(&query, own, carrier, out);
            Outcome::Answered
        }
        None => Outcome::Forward(query),
    }
}

/// An answer without records, for a query that could not be answered otherwise.
pub fn fail(query: &Query<'_>, code: u16, out: &mut Vec<u8>) {
    out.clear();
    Writer::begin(query, Carrier::Tcp, out).finish(code, 0);
}

/// The answer that asks the client to come again by TCP.
pub fn truncate(query: &Query<'_>, out: &mut Vec<u8>) {
    out.clear();
    let mut writer = Writer::begin(query, Carrier::Udp, out);
    writer.truncated = true;
    writer.finish(code::NO_ERROR, 0);
}

/// The largest answer that the client takes.
#[must_use]
pub fn limit(query: &Query<'_>, carrier: Carrier) -> usize {
    match (carrier, query.edns) {
        (Carrier::Tcp, _) => u16::MAX.into(),
        (Carrier::Udp, None) => PLAIN_UDP.into(),
        (Carrier::Udp, Some(edns)) => edns.size.clamp(PLAIN_UDP, EDNS_UDP).into(),
    }
}

enum Own {
    Addresses(Vec<IpAddr>),
    Pointer(String),
    /// The name is ours and has no record of this type. An error instead would make clients believe that there is no such
    /// name at all (RFC 2308, 2.2).
    Nothing,
}

fn own_answer(query: &Query<'_>, names: &impl Names) -> Option<Own> {
    let text = Text::of(query.name)?;
    if query.kind == kind::PTR
        && let Some(address) = text.reverse_address()
    {
        return names.pointer(address).map(Own::Pointer);
    }
    let asks_address = matches!(query.kind, kind::A | kind::AAAA);
    if let Some(mut addresses) = names.addresses(text.as_bytes()) {
        if !asks_address {
            return Some(Own::Nothing);
        }
        addresses.retain(|address| address.is_ipv4() == (query.kind == kind::A));
        return Some(Own::Addresses(addresses));
    }
    let short = !text.as_bytes().contains(&b'.') && !text.as_bytes().is_empty();
    (asks_address && short && names.keeps_short_names()).then_some(Own::Nothing)
}

fn write_own(query: &Query<'_>, own: Own, carrier: Carrier, out: &mut Vec<u8>) {
    let mut writer = Writer::begin(query, carrier, out);
    match own {
        Own::Addresses(addresses) => {
            for address in addresses {
                match address {
                    IpAddr::V4(address) => writer.record(&address.octets()),
                    IpAddr::V6(address) => writer.record(&address.octets()),
                }
            }
        }
        Own::Pointer(name) => match to_wire(&name) {
            Some(wire) => writer.record(&wire),
            // A container's name that DNS cannot say.
            None => return writer.finish(code::SERVER_FAILURE, 0),
        },
        Own::Nothing => {}
    }
    writer.finish(code::NO_ERROR, 0);
}

/// A header alone: of a packet that is not well-formed nothing else is repeated.
fn bare<'a>(packet: &[u8], code: u16, out: &mut Vec<u8>) -> Outcome<'a> {
    let Some((id, flags)) = packet.first_chunk::<4>().map(|[a, b, c, d]| {
        (
            [*a, *b],
            u16::from_be_bytes([*c, *d]) & (flag::OPCODE | flag::RECURSION_DESIRED),
        )
    }) else {
        return Outcome::Silence;
    };
    out.extend_from_slice(&id);
    out.extend_from_slice(&(flags | flag::RESPONSE | code).to_be_bytes());
    out.resize(HEADER, 0);
    Outcome::Answered
}

/// Writes one answer within the client's limit.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    kind: u16,
    edns: bool,
    dnssec: bool,
    limit: usize,
    answers: u16,
    truncated: bool,
}

impl<'a> Writer<'a> {
    fn begin(query: &Query<'_>, carrier: Carrier, out: &'a mut Vec<u8>) -> Self {
        let kept = flag::RECURSION_DESIRED | flag::CHECKING_DISABLED;
        let flags = query.flags & kept | flag::RESPONSE | flag::RECURSION_AVAILABLE;
        out.extend_from_slice(&query.id.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(query.question());
        let reserved = if query.edns.is_some() { OPT_LENGTH } else { 0 };
        Self {
            out,
            kind: query.kind,
            edns: query.edns.is_some(),
            dnssec: query.edns.is_some_and(|edns| edns.dnssec),
            limit: limit(query, carrier) - reserved,
            answers: 0,
            truncated: false,
        }
    }

    /// One record of the name and type that were asked for, if it fits.
    fn record(&mut self, data: &[u8]) {
        let length = TO_QUESTION.len() + 10 + data.len();
        let Ok(size) = u16::try_from(data.len()) else {
            return;
        };
        if self.truncated || self.out.len() + length > self.limit {
            self.truncated = true;
            return;
        }
        self.out.extend_from_slice(&TO_QUESTION);
        self.out.extend_from_slice(&self.kind.to_be_bytes());
        self.out.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.out.extend_from_slice(&TTL.to_be_bytes());
        self.out.extend_from_slice(&size.to_be_bytes());
        self.out.extend_from_slice(data);
        self.answers += 1;
    }

    fn finish(self, code: u16, extended: u8) {
        if self.edns {
            self.out.push(0);
            self.out.extend_from_slice(&kind::OPT.to_be_bytes());
            self.out.extend_from_slice(&EDNS_UDP.to_be_bytes());
            let dnssec = if self.dnssec { 0x80 } else { 0 };
            self.out.extend_from_slice(&[extended, 0, dnssec, 0, 0, 0]);
        }
        if let Some([.., high, low]) = self.out.first_chunk_mut::<4>() {
            let mut flags = u16::from_be_bytes([*high, *low]) | code;
            if self.truncated {
                flags |= flag::TRUNCATED;
            }
            [*high, *low] = flags.to_be_bytes();
        }
        if let Some(place) = self.out.get_mut(6..8) {
            place.copy_from_slice(&self.answers.to_be_bytes());
        }
        if let Some(place) = self.out.get_mut(11) {
            *place = u8::from(self.edns);
        }
    }
}

/// A question with its OPT record always fits.
const _: () = assert!(HEADER + MAX_NAME + 4 + OPT_LENGTH <= PLAIN_UDP as usize);

#[cfg(test)]
mod tests;
