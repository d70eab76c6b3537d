//! The little of MessagePack that the forward protocol needs (<https://github.com/msgpack/msgpack/blob/master/spec.md>).

/// The head of an array of up to 15 items.
pub(crate) fn array(length: u8, out: &mut Vec<u8>) {
    out.push(0x90 | length & 0x0f);
}

/// The head of a map.
pub(crate) fn map(length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(length @ 0..=15) => out.push(0x80 | length),
        _ => {
            out.push(0xde);
            out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
}

pub(crate) fn string(bytes: &[u8], out: &mut Vec<u8>) {
    let length = bytes.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=31), _) => out.push(0xa0 | short),
        (Ok(length), _) => out.extend_from_slice(&[0xd9, length]),
        (_, Ok(length)) => {
            out.push(0xda);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// A number of seconds.
pub(crate) fn integer(value: i64, out: &mut Vec<u8>) {
    out.push(0xd3);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Fluentd's own time: extension 0 with seconds and nanoseconds.
pub(crate) fn event_time(secs: i64, nanos: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xd7, 0x00]);
    out.extend_from_slice(&u32::try_from(secs).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&nanos.to_be_bytes());
}

/// The value of key `ack` in a map of short strings, which is what a server answers.
pub(crate) fn ack(bytes: &[u8]) -> Option<&str> {
    let (head, mut rest) = bytes.split_first()?;
    if head & 0xf0 != 0x80 {
        return None;
    }
    for _ in 0..head & 0x0f {
        let (key, after) = read_string(rest)?;
        let (value, after) = read_string(after)?;
        if key == "ack" {
            return Some(value);
        }
        rest = after;
    }
    None
}

fn read_string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (head, rest) = bytes.split_first()?;
    let (length, rest) = match head {
        0xa0..=0xbf => (usize::from(head & 0x1f), rest),
        0xd9 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        _ => return None,
    };
    let (text, rest) = rest.split_at_checked(length)?;
    Some((str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_bytes_of_the_specification() {
        let mut out = Vec::new();
        array(4, &mut out);
        map(1, &mut out);
        string(b"a", &mut out);
        string(&[b'x'; 40], &mut out);
        assert_eq!(out.get(..6), Some(&[0x94, 0x81, 0xa1, b'a', 0xd9, 40][..]));
        out.clear();
        integer(1, &mut out);
        event_time(2, 3, &mut out);
        assert_eq!(
            out,
            [
                0xd3, 0, 0, 0, 0, 0, 0, 0, 1, 0xd7, 0, 0, 0, 0, 2, 0, 0, 0, 3
            ]
        );
        assert_eq!(ack(b"\x81\xa3ack\xa2id"), Some("id"));
        for wrong in [
            &b""[..],
            b"\x81",
            b"\x81\xa3ack",
            b"\x81\xa3ack\xbfid",
            b"\xc0",
        ] {
            assert_eq!(ack(wrong), None);
        }
    }
}
