//! Answers of other name servers: taken only when they answer exactly what was asked, checked to the last record, their times
//! to live bounded. Names are checked, never expanded.

use crate::message::{HEADER, MAX_NAME, Query, Reader, code, flag, kind};

/// Nothing is kept longer than a day: that a wrong answer lasts for weeks helps nobody (RFC 8767, 4).
const MAX_TTL: u32 = 86_400;
/// A time to live with its highest bit set is none (RFC 2181, 8).
const TTL_SIGN: u32 = 1 << 31;
const POINTER: u8 = 0xc0;
const MAX_LABEL: u8 = 63;

/// Why a packet is not the answer that is waited for; the wait goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Not an answer at all, or not well-formed.
    Malformed,
    /// An answer to something else.
    Mismatch,
}

/// What the other server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An answer for the client: that many bytes of the buffer.
    Answer(usize),
    /// The same, but cut off.
    Truncated(usize),
    /// The server could not, with this code; another may.
    Failed(u16),
}

/// Checks the answer in `reply` to `query` that was sent under the id `asked`, and makes it the client's: its id, its way to
/// write the name.
pub fn accept(reply: &mut [u8], query: &Query<'_>, asked: u16) -> Result<Verdict, Rejected> {
    let mut reader = Reader::new(reply);
    let head = reader.header().ok_or(Rejected::Malformed)?;
    if head.flags & flag::RESPONSE == 0 || head.flags & flag::OPCODE != 0 {
        return Err(Rejected::Malformed);
    }
    if head.id != asked {
        return Err(Rejected::Mismatch);
    }
    let answered = head.flags & flag::CODE;
    let [questions, records @ ..] = head.counts;
    if questions == 0 && unable(answered) && reply.len() == HEADER {
        // Servers that cannot read a query may repeat none of it.
        return Ok(Verdict::Failed(answered));
    }
    if questions != 1 {
        return Err(Rejected::Malformed);
    }
    let name = reader.plain_name().ok_or(Rejected::Malformed)?;
    let same = name.eq_ignore_ascii_case(query.name);
    if !same || reader.u16() != Some(query.kind) || reader.u16() != Some(query.class) {
        return Err(Rejected::Mismatch);
    }
    let truncated = head.flags & flag::TRUNCATED != 0;
    let count = records.iter().map(|count| u32::from(*count)).sum();
    let behind = reader.position;
    let end = match check_records(reply, behind, count) {
        Some(end) => end,
        // What is cut off may be cut anywhere; the question alone is passed on.
        None if truncated => {
            clear_counts(reply);
            behind
        }
        None => return Err(Rejected::Malformed),
    };
    if matches!(answered, code::SERVER_FAILURE | code::REFUSED) {
        return Ok(Verdict::Failed(answered));
    }
    adopt(reply, query);
    Ok(if truncated {
        Verdict::Truncated(end)
    } else {
        Verdict::Answer(end)
    })
}

const fn unable(answered: u16) -> bool {
    matches!(
        answered,
        code::FORMAT | code::SERVER_FAILURE | code::NOT_IMPLEMENTED | code::REFUSED
    )
}

/// Makes an answer to the same question that of this client: its id, its way to write the name.
pub(crate) fn adopt(reply: &mut [u8], query: &Query<'_>) {
    if let Some(place) = reply.get_mut(..2) {
        place.copy_from_slice(&query.id.to_be_bytes());
    }
    let end = HEADER + query.name.len();
    if let Some(place) = reply.get_mut(HEADER..end) {
        place.copy_from_slice(query.name);
    }
}

fn clear_counts(reply: &mut [u8]) {
    if let Some(place) = reply.get_mut(6..HEADER) {
        place.fill(0);
    }
}

/// Walks over all records from `start` and bounds their times to live; gives the end of the last one.
fn check_records(reply: &mut [u8], start: usize, count: u32) -> Option<usize> {
    let mut position = start;
    for _ in 0..count {
        position = check_record(reply, position)?;
    }
    Some(position)
}

fn check_record(reply: &mut [u8], start: usize) -> Option<usize> {
    let mut reader = Reader::new(reply);
    reader.position = check_name(reply, start)?;
    let kind = reader.u16()?;
    let _class = reader.u16()?;
    let place = reader.position;
    let ttl = reader.array().map(u32::from_be_bytes)?;
    let length = usize::from(reader.u16()?);
    let data = reader.position;
    reader.take(length)?;
    let end = reader.position;
    if !data_is_whole(reply, kind, data, end) {
        return None;
    }
    // The OPT record keeps flags where others have their time to live.
    if kind != kind::OPT {
        let bounded = if ttl & TTL_SIGN == 0 {
            ttl.min(MAX_TTL)
        } else {
            0
        };
        let field = reply.get_mut(place..place + 4)?;
        field.copy_from_slice(&bounded.to_be_bytes());
    }
    Some(end)
}

/// The data of the types that clients read blindly has the form that it must have.
fn data_is_whole(reply: &[u8], kind: u16, start: usize, end: usize) -> bool {
    let names_fill = |from: usize, count: usize, rest: usize| {
        let mut position = Some(from);
        for _ in 0..count {
            position = position.and_then(|at| check_name(reply, at));
        }
        position.and_then(|at| at.checked_add(rest)) == Some(end)
    };
    match kind {
        kind::A => end - start == 4,
        kind::AAAA => end - start == 16,
        kind::CNAME | kind::NS | kind::PTR => names_fill(start, 1, 0),
        kind::MX => names_fill(start + 2, 1, 0),
        kind::SRV => names_fill(start + 6, 1, 0),
        kind::SOA => names_fill(start, 2, 20),
        _ => true,
    }
}

/// The end of the name at `start`. A pointer must lead to before the part it ends, so that every name has an end, and what it
/// leads to must be a name no longer than allowed (RFC 9267, 2).
fn check_name(packet: &[u8], start: usize) -> Option<usize> {
    let mut position = start;
    let mut part = start;
    let mut end = None;
    let mut length = 0;
    loop {
        let byte = *packet.get(position)?;
        if byte & POINTER == POINTER {
            let low = *packet.get(position + 1)?;
            let target = usize::from(u16::from_be_bytes([byte & !POINTER, low]));
            end = end.or(Some(position + 2));
            if target >= part || target < HEADER {
                return None;
            }
            part = target;
            position = target;
            continue;
        }
        if byte > MAX_LABEL {
            return None;
        }
        let step = usize::from(byte) + 1;
        length += step;
        position += step;
        if length > MAX_NAME || position > packet.len() {
            return None;
        }
        if byte == 0 {
            return end.or(Some(position));
        }
    }
}

#[cfg(test)]
mod tests;
