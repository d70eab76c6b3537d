//! DNS messages as bytes: the strict reader of queries. It never panics, never follows a pointer, and refuses what RFC 9267
//! warns of: lengths and counts that promise more than there is, compression where none belongs, bytes left over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the header (RFC 1035, 4.1.1).
pub const HEADER: usize = 12;
/// Longest name on the wire, its last zero byte included (RFC 1035, 2.3.4).
pub const MAX_NAME: usize = 255;
const MAX_LABEL: u8 = 63;

/// Flags in the third and fourth byte of the header.
pub(crate) mod flag {
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const RECURSION_AVAILABLE: u16 = 0x0080;
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
    pub(crate) const CODE: u16 = 0x000f;
}

/// Response codes (RFC 1035, RFC 6891).
pub(crate) mod code {
    pub(crate) const NO_ERROR: u16 = 0;
    pub(crate) const FORMAT: u16 = 1;
    pub(crate) const SERVER_FAILURE: u16 = 2;
    pub(crate) const NOT_IMPLEMENTED: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
}

/// Types of records (IANA, DNS parameters).
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const MX: u16 = 15;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
}

/// The class of the Internet.
pub(crate) const CLASS_IN: u16 = 1;

/// Why a packet is no query that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too short to be answered, or itself an answer: silence, or two servers would talk for ever.
    Ignore,
    /// Not well-formed.
    Format,
    /// An operation other than a query.
    NotImplemented,
}

/// What a client says in its OPT record (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP answer that it takes.
    pub size: u16,
    /// The version of EDNS; only 0 exists.
    pub version: u8,
    /// It wants DNSSEC records.
    pub dnssec: bool,
}

/// A well-formed query with exactly one question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The whole packet.
    pub packet: &'a [u8],
    /// The client's id.
    pub id: u16,
    /// The client's flags.
    pub flags: u16,
    /// The name as on the wire, uncompressed, as the client wrote it.
    pub name: &'a [u8],
    /// The type of record asked for.
    pub kind: u16,
    /// The class, nearly always IN.
    pub class: u16,
    /// The client's OPT record.
    pub edns: Option<Edns>,
}

impl<'a> Query<'a> {
    /// Reads a packet. Everything in it is checked, up to its last byte.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Refusal> {
        let mut reader = Reader::new(packet);
        let head = reader.header().ok_or(Refusal::Ignore)?;
        if head.flags & flag::RESPONSE != 0 {
            return Err(Refusal::Ignore);
        }
        if head.flags & flag::OPCODE != 0 {
            return Err(Refusal::NotImplemented);
        }
        let [questions, answers, authorities, additional] = head.counts;
        if questions != 1 || answers != 0 || authorities != 0 || additional > 2 {
            return Err(Refusal::Format);
        }
        let name = reader.plain_name().ok_or(Refusal::Format)?;
        let kind = reader.u16().ok_or(Refusal::Format)?;
        let class = reader.u16().ok_or(Refusal::Format)?;
        let mut edns = None;
        for _ in 0..additional {
            let found = read_additional(&mut reader).ok_or(Refusal::Format)?;
            if found.is_some() && edns.is_some() {
                return Err(Refusal::Format);
            }
            edns = edns.or(found);
        }
        if reader.position != packet.len() {
            return Err(Refusal::Format);
        }
        Ok(Self {
            packet,
            id: head.id,
            flags: head.flags,
            name,
            kind,
            class,
            edns,
        })
    }

    /// The question as on the wire.
    #[must_use]
    pub fn question(&self) -> &'a [u8] {
        let end = HEADER + self.name.len() + 4;
        self.packet.get(HEADER..end).unwrap_or_default()
    }
}

fn read_additional(reader: &mut Reader<'_>) -> Option<Option<Edns>> {
    let name = reader.plain_name()?;
    let kind = reader.u16()?;
    let size = reader.u16()?;
    let [_, version, flags, _] = reader.array()?;
    let length = reader.u16()?;
    let data = reader.take(length.into())?;
    if kind != self::kind::OPT {
        return Some(None);
    }
    if name != [0] || !options_are_whole(data) {
        return None;
    }
    Some(Some(Edns {
        size,
        version,
        dnssec: flags & 0x80 != 0,
    }))
}

fn options_are_whole(data: &[u8]) -> bool {
    let mut reader = Reader::new(data);
    while reader.position < data.len() {
        let whole = reader.u16().and_then(|_code| reader.u16());
        if whole
            .and_then(|length| reader.take(length.into()))
            .is_none()
        {
            return false;
        }
    }
    true
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) counts: [u16; 4],
}

/// A position in a packet that only moves forward and never beyond the end.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) packet: &'a [u8],
    pub(crate) position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(packet: &'a [u8]) -> Self {
        Self {
            packet,
            position: 0,
        }
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.position.checked_add(count)?;
        let taken = self.packet.get(self.position..end)?;
        self.position = end;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn header(&mut self) -> Option<Header> {
        Some(Header {
            id: self.u16()?,
            flags: self.u16()?,
            counts: [self.u16()?, self.u16()?, self.u16()?, self.u16()?],
        })
    }

    /// A name without pointers: in the first question there is nothing that one could point at.
    pub(crate) fn plain_name(&mut self) -> Option<&'a [u8]> {
        let start = self.position;
        loop {
            let [length] = self.array()?;
            if length > MAX_LABEL {
                return None;
            }
            self.take(length.into())?;
            if self.position - start > MAX_NAME {
                return None;
            }
            if length == 0 {
                return self.packet.get(start..self.position);
            }
        }
    }
}

/// A name as people write it: lower case, without the last dot.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    bytes: [u8; MAX_NAME],
    length: usize,
}

impl Text {
    /// The text of a name on the wire, or nothing when a label has a dot in itself: no container has such a name, and
    /// written out it would look like another.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        let mut text = Self {
            bytes: [0; MAX_NAME],
            length: 0,
        };
        let mut reader = Reader::new(name);
        loop {
            let [length] = reader.array()?;
            if length == 0 {
                return Some(text);
            }
            let label = reader.take(length.into())?;
            if label.contains(&b'.') {
                return None;
            }
            if text.length > 0 {
                text.push(b".")?;
            }
            text.push(label)?;
        }
    }

    fn push(&mut self, more: &[u8]) -> Option<()> {
        let end = self.length + more.len();
        let place = self.bytes.get_mut(self.length..end)?;
        place.copy_from_slice(more);
        place.make_ascii_lowercase();
        self.length = end;
        Some(())
    }

    /// The bytes of the text; a client may put anything into a label.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035, 3.5; RFC 3596, 2.5).
    #[must_use]
    pub fn reverse_address(&self) -> Option<IpAddr> {
        let text = std::str::from_utf8(self.as_bytes()).ok()?;
        if let Some(digits) = text.strip_suffix(".in-addr.arpa") {
            let mut bytes = [0; 4];
            let mut words = digits.split('.');
            for byte in bytes.iter_mut().rev() {
                let word = words.next()?;
                let plain = word.len() == 1 || !word.starts_with('0');
                let digits = word.bytes().all(|byte| byte.is_ascii_digit());
                *byte = (plain && digits).then(|| word.parse().ok())??;
            }
            return words.next().is_none().then(|| Ipv4Addr::from(bytes).into());
        }
        let nibbles = text.strip_suffix(".ip6.arpa")?;
        let mut value: u128 = 0;
        let mut count = 0_u32;
        for word in nibbles.split('.') {
            let mut digits = word.chars();
            let digit = digits.next()?.to_digit(16)?;
            if digits.next().is_some() || count == 32 {
                return None;
            }
            value |= u128::from(digit) << (4 * count);
            count += 1;
        }
        (count == 32).then(|| Ipv6Addr::from(value).into())
    }
}

/// A dotted name in the form of the wire, or nothing when it has no such form.
#[must_use]
pub fn to_wire(name: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if length == 0 || length > MAX_LABEL {
            return None;
        }
        wire.push(length);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    (wire.len() <= MAX_NAME).then_some(wire)
}

#[cfg(test)]
mod tests;
