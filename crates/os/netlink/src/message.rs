//! Messages and their attributes, as bytes.
//!
//! A message is a header of 16 bytes, a fixed part that depends on its type, and attributes: length and type of 16 bits
//! each, the value, and padding to a multiple of four (man 7 netlink, man 3 rtnetlink).

/// `struct nlmsghdr`
pub(crate) const HEADER: usize = 16;
/// `struct nlattr`
const ATTRIBUTE: usize = 4;
/// The value is itself a list of attributes.
const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that say what it is.
const TYPE_MASK: u16 = 0x3fff;

pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const DUMP: u16 = 0x300;
/// The dump was disturbed by a change and may not be whole.
pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

/// One message being written.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of a type, with flags beside `NLM_F_REQUEST`, and its fixed part.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    /// Attributes without a header, to be copied into another message.
    pub(crate) fn bare() -> Self {
        Self { bytes: Vec::new() }
    }

    /// All of it as it stands.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        let begin = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(begin);
    }

    pub(crate) fn put_u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    pub(crate) fn put_u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// In network order, as nftables wants all its numbers.
    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A text with its final zero.
    pub(crate) fn put_text(&mut self, kind: u16, text: &str) {
        let begin = self.open(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(begin);
    }

    /// Attributes within an attribute.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let begin = self.open(kind | NESTED);
        fill(self);
        self.close(begin);
    }

    /// Bytes that are no attribute: the fixed part of a nested message.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    fn open(&mut self, kind: u16) -> usize {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        begin
    }

    /// Writes the length of the attribute that began at `begin`. One that is too long for its 16 bits is written as
    /// length 0, which the kernel refuses: nothing is ever cut short.
    fn close(&mut self, begin: usize) {
        let length = u16::try_from(self.bytes.len() - begin).unwrap_or(0);
        self.bytes[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    /// How long it is.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn add_flags(&mut self, flags: u16) {
        let now = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        self.bytes[6..8].copy_from_slice(&(now | flags).to_ne_bytes());
    }

    /// The finished message with its sequence number.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(0);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// One message of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Who asked for what this tells of.
    pub(crate) port: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram. It ends before what is malformed.
#[derive(Debug, Clone)]
pub(crate) struct Answers<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let header = self.0.first_chunk::<HEADER>()?;
        let length = usize::try_from(u32_at(header, 0)?).ok()?;
        let message = self.0.get(..length)?;
        let body = message.get(HEADER..)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer {
            kind: u16_at(header, 4)?,
            flags: u16_at(header, 6)?,
            sequence: u32_at(header, 8)?,
            port: u32_at(header, 12)?,
            body,
        })
    }
}

/// The attributes in some bytes. It ends before what is malformed.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those behind a fixed part of some length.
    pub(crate) fn after(body: &'a [u8], fixed: usize) -> Self {
        Self(body.get(fixed.next_multiple_of(4)..).unwrap_or_default())
    }

    /// Those in some bytes, with the flags of their types, for copying.
    pub(crate) fn raw_of(mut bytes: &'a [u8]) -> impl Iterator<Item = (u16, &'a [u8])> {
        std::iter::from_fn(move || {
            let length = usize::from(u16_at(bytes, 0)?);
            let kind = u16_at(bytes, 2)?;
            let value = bytes.get(ATTRIBUTE..length)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, value))
        })
    }

    /// The value of the first attribute of a type.
    pub(crate) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }

    pub(crate) fn text(&self, kind: u16) -> Option<String> {
        let value = self.get(kind)?;
        let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(text).into_owned())
    }

    pub(crate) fn u32(&self, kind: u16) -> Option<u32> {
        u32_at(self.get(kind)?, 0)
    }

    pub(crate) fn nested(&self, kind: u16) -> Self {
        Self(self.get(kind).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(ATTRIBUTE..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*field))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::new(16, CREATE, &[7; 5]);
        message.put_text(3, "eth0");
        message.nest(18, |inner| {
            inner.put_u32(1, 1500);
            inner.put_u8(2, 1);
        });
        let bytes = message.finish(9);
        let answer = Answers(&bytes).next().unwrap();
        assert_eq!(
            (answer.kind, answer.flags, answer.sequence),
            (16, CREATE | REQUEST, 9)
        );
        assert_eq!(answer.body[..5], [7; 5]);
        let attributes = Attributes::after(answer.body, 5);
        assert_eq!(attributes.text(3).as_deref(), Some("eth0"));
        assert_eq!(attributes.nested(18).u32(1), Some(1500));
        assert_eq!(attributes.nested(18).get(2), Some(&[1][..]));
        assert_eq!(attributes.get(4), None);
    }

    #[test]
    fn an_attribute_that_is_too_long_is_marked_as_wrong() {
        let mut message = Message::new(0, 0, &[]);
        message.put(1, &vec![0; 70_000]);
        let bytes = message.finish(0);
        assert_eq!(u16_at(&bytes, HEADER), Some(0));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_readers(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let read: usize = Answers(&bytes).map(|answer| answer.body.len()).sum();
            prop_assert!(read <= bytes.len());
            let read: usize = Attributes::after(&bytes, 0).map(|(_, value)| value.len()).sum();
            prop_assert!(read <= bytes.len());
        }
    }
}
