//! Records of Docker's `local` driver: a protobuf message between two copies of its length, four bytes each, big-endian.
//! Written as dockerd writes them and read without trust; also what the helper gets from the shim.
//!
//! Format: <https://github.com/moby/moby/blob/master/daemon/logger/internal/logdriver/entry.proto> and
//! <https://github.com/moby/moby/blob/master/daemon/logger/local/local.go>.

use std::collections::BTreeMap;
use std::str;

use havre_types::Timestamp;

use crate::record::{Entry, Stream};
use crate::split::Piece;

/// Bytes of a length.
pub(crate) const LENGTH: usize = 4;
/// A longer record is none of ours: 16 KiB and the attributes stay far below.
pub const FRAME_LIMIT: usize = 1 << 20;

// Keys of the fields: number << 3 | wire type (0 varint, 2 bytes).
const SOURCE: u8 = 0x0a;
const TIME: u8 = 0x10;
const LINE: u8 = 0x1a;
const PARTIAL: u8 = 0x20;
const PART: u8 = 0x2a;
const ATTR: u8 = 0x32;
const PART_LAST: u8 = 0x08;
const PART_ID: u8 = 0x12;
const PART_ORDINAL: u8 = 0x18;
const KEY: u8 = 0x0a;
const VALUE: u8 = 0x12;

/// Renders the attributes once; every record repeats them.
pub(crate) fn attrs_fields(attrs: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in attrs {
        let mut pair = Vec::new();
        bytes_field(KEY, key.as_bytes(), &mut pair);
        bytes_field(VALUE, value.as_bytes(), &mut pair);
        bytes_field(ATTR, &pair, &mut out);
    }
    out
}

/// Appends one record to `out`.
pub fn encode_frame(piece: Piece<'_>, attrs: &[u8], time: Timestamp, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    bytes_field(SOURCE, piece.stream.name().as_bytes(), out);
    varint_field(TIME, time.unix_nanos().cast_unsigned(), out);
    let line = piece.bytes.strip_suffix(b"\n").unwrap_or(piece.bytes);
    bytes_field(LINE, line, out);
    // A line without newline at the very end has no other piece, but no newline either.
    if let Some(part) = piece.part {
        varint_field(PARTIAL, 1, out);
        let mut place = Vec::new();
        if part.last {
            varint_field(PART_LAST, 1, &mut place);
        }
        bytes_field(PART_ID, part.line.to_string().as_bytes(), &mut place);
        varint_field(PART_ORDINAL, part.ordinal.into(), &mut place);
        bytes_field(PART, &place, out);
    }
    out.extend_from_slice(attrs);
    let length = u32::try_from(out.len() - begin - LENGTH).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    if let Some(head) = out.get_mut(begin..begin + LENGTH) {
        head.copy_from_slice(&length.to_be_bytes());
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn varint_field(key: u8, value: u64, out: &mut Vec<u8>) {
    out.push(key);
    varint(value, out);
}

fn bytes_field(key: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(key);
    varint(u64::try_from(bytes.len()).unwrap_or(0), out);
    out.extend_from_slice(bytes);
}

/// A record as it was framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// The record.
    pub entry: Entry,
    /// Of a line that came in pieces: its number, the piece's number, whether it is the last.
    pub part: Option<(u64, u32, bool)>,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A record and how many bytes it takes.
    Record(Box<Framed>, usize),
    /// Nothing that can be read for so many bytes; then it may go on.
    Damage(usize),
    /// The bytes end before it can be said.
    More,
}

/// Looks for a record at the beginning of `bytes`. With `at_end` no more bytes are to come for now.
#[must_use]
pub fn find_frame(bytes: &[u8], at_end: bool) -> Found {
    match frame_at(bytes) {
        Ok((framed, length)) => return Found::Record(Box::new(framed), length),
        Err(Misfit::Short) if !at_end => return Found::More,
        Err(Misfit::Short | Misfit::Wrong) => {}
    }
    let mut undecided = None;
    for at in 1..bytes.len() {
        match frame_at(bytes.get(at..).unwrap_or_default()) {
            Ok(_) => return Found::Damage(at),
            Err(Misfit::Short) if undecided.is_none() => undecided = Some(at),
            Err(Misfit::Short | Misfit::Wrong) => {}
        }
    }
    // What is written next may complete what stands here.
    match undecided {
        _ if at_end => Found::More,
        Some(at) => Found::Damage(at),
        None => Found::Damage(bytes.len()),
    }
}

enum Misfit {
    Short,
    Wrong,
}

/// The length of the record that `bytes` begin with, if they do.
pub(crate) fn frame_length(head: [u8; LENGTH]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(head)).ok()?;
    (1..=FRAME_LIMIT).contains(&length).then_some(length)
}

fn frame_at(bytes: &[u8]) -> Result<(Framed, usize), Misfit> {
    let head = bytes.first_chunk::<LENGTH>().ok_or(Misfit::Short)?;
    let length = frame_length(*head).ok_or(Misfit::Wrong)?;
    // No record begins otherwise, which spares waiting for the end of what is none.
    if bytes.get(LENGTH).is_some_and(|first| *first != SOURCE) {
        return Err(Misfit::Wrong);
    }
    let whole = LENGTH + length + LENGTH;
    let frame = bytes.get(..whole).ok_or(Misfit::Short)?;
    if frame.last_chunk::<LENGTH>() != Some(head) {
        return Err(Misfit::Wrong);
    }
    let body = frame.get(LENGTH..LENGTH + length).unwrap_or_default();
    let framed = decode(body).ok_or(Misfit::Wrong)?;
    Ok((framed, whole))
}

/// Reads fields one after another.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn next(&mut self) -> Option<(u8, Value<'a>)> {
        let key = u8::try_from(self.varint()?).ok()?;
        match key & 7 {
            0 => Some((key, Value::Number(self.varint()?))),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Some((key, Value::Bytes(bytes)))
            }
            _ => None,
        }
    }

    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn decode(body: &[u8]) -> Option<Framed> {
    let mut fields = Fields(body);
    let (mut stream, mut nanos, mut line) = (None, 0, &[][..]);
    let (mut partial, mut place, mut attrs) = (false, (0, 0, false), BTreeMap::new());
    while !fields.is_empty() {
        match fields.next()? {
            (SOURCE, Value::Bytes(name)) => stream = Stream::parse(str::from_utf8(name).ok()?),
            (TIME, Value::Number(number)) => nanos = number.cast_signed(),
            (LINE, Value::Bytes(bytes)) => line = bytes,
            (PARTIAL, Value::Number(number)) => partial = number != 0,
            (PART, Value::Bytes(bytes)) => place = decode_part(bytes)?,
            (ATTR, Value::Bytes(bytes)) => {
                let (key, value) = decode_attr(bytes)?;
                attrs.insert(key, value);
            }
            _ => {}
        }
    }
    let unfinished = partial && !place.2;
    let mut bytes = line.to_vec();
    if !unfinished {
        bytes.push(b'\n');
    }
    Some(Framed {
        entry: Entry {
            stream: stream?,
            timestamp: Timestamp::from_unix_nanos(nanos),
            bytes,
            partial: unfinished,
            attrs,
        },
        part: partial.then_some(place),
    })
}

fn decode_part(bytes: &[u8]) -> Option<(u64, u32, bool)> {
    let mut fields = Fields(bytes);
    let mut place = (0, 0, false);
    while !fields.is_empty() {
        match fields.next()? {
            (PART_LAST, Value::Number(number)) => place.2 = number != 0,
            // dockerd writes a random text here.
            (PART_ID, Value::Bytes(id)) => {
                place.0 = str::from_utf8(id).ok()?.parse().unwrap_or(0);
            }
            (PART_ORDINAL, Value::Number(number)) => place.1 = u32::try_from(number).ok()?,
            _ => {}
        }
    }
    Some(place)
}

fn decode_attr(bytes: &[u8]) -> Option<(String, String)> {
    let mut fields = Fields(bytes);
    let mut pair = (String::new(), String::new());
    while !fields.is_empty() {
        match fields.next()? {
            (KEY, Value::Bytes(text)) => pair.0 = str::from_utf8(text).ok()?.to_owned(),
            (VALUE, Value::Bytes(text)) => pair.1 = str::from_utf8(text).ok()?.to_owned(),
            _ => {}
        }
    }
    Some(pair)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::split::Part;

    fn frame(text: &[u8], part: Option<Part>) -> Vec<u8> {
        let attrs = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let piece = Piece {
            stream: Stream::Stderr,
            bytes: text,
            part,
        };
        let mut out = Vec::new();
        let time = Timestamp { secs: 1, nanos: 2 };
        encode_frame(piece, &attrs_fields(&attrs), time, &mut out);
        out
    }

    #[test]
    fn bytes_are_those_of_dockerd() {
        // Message of Go's `LogEntry{Source: "stderr", TimeNano: 1000000002, Line: "hi", Attrs: {a: b}}`.
        let message = b"\x0a\x06stderr\x10\x82\x94\xeb\xdc\x03\x1a\x02hi\x32\x06\x0a\x01a\x12\x01b";
        let length = u32::try_from(message.len()).expect("small").to_be_bytes();
        let expected = [&length[..], message, &length[..]].concat();
        assert_eq!(frame(b"hi\n", None), expected);
    }

    #[test]
    fn pieces_come_back() {
        let part = Part {
            line: 7,
            ordinal: 2,
            last: false,
        };
        let bytes = frame(b"piece", Some(part));
        let Found::Record(framed, length) = find_frame(&bytes, false) else {
            panic!("no record");
        };
        assert_eq!(length, bytes.len());
        assert_eq!(
            (framed.entry.partial, framed.part),
            (true, Some((7, 2, false)))
        );
        assert_eq!(framed.entry.bytes, b"piece");
    }

    proptest! {
        #[test]
        fn reading_goes_on_behind_any_damage(
            junk in proptest::collection::vec(any::<u8>(), 1..200),
            lines in proptest::collection::vec("[a-z]{0,20}", 1..5),
        ) {
            let mut bytes = junk;
            let mut good = Vec::new();
            for line in &lines {
                let line = format!("{line}\n");
                bytes.extend(frame(line.as_bytes(), None));
                good.push(line.into_bytes());
            }
            let mut found = Vec::new();
            let mut rest = bytes.as_slice();
            loop {
                match find_frame(rest, true) {
                    Found::Record(framed, length) => {
                        found.push(framed.entry.bytes);
                        rest = &rest[length..];
                    }
                    Found::Damage(length) => rest = &rest[length..],
                    Found::More => break,
                }
            }
            prop_assert_eq!(found, good);
        }
    }
}
