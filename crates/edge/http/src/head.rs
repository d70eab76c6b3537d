//! Looks at the head of a request before hyper does, for one reason: clients of before Docker 1.8's
//! `Upgrade` take over the connection after an ordinary 200, which hyper does only with an upgrade.
//! So such a request gets an `Upgrade` header here. Nothing else is changed, and no error is found
//! here: what is malformed goes to hyper as it came.

use bytes::{BufMut as _, BytesMut};

use crate::route::hijacks;

/// Longest head that is looked at; hyper refuses longer ones.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// What the beginning of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any request that does not take over the connection.
    Ordinary,
    /// Takes over the connection and says so by `Upgrade`.
    Upgrade,
    /// Takes over the connection without saying so.
    Silent,
}

/// The length of the head at the start of `bytes`, with its empty line; None while that is missing.
/// `from` is how much was searched before.
pub(crate) fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let start = from.saturating_sub(3);
    let tail = bytes.get(start..)?;
    for (at, &byte) in tail.iter().enumerate() {
        if byte != b'\n' {
            continue;
        }
        let position = start + at;
        let rest = bytes.get(position + 1..)?;
        if rest.starts_with(b"\n") {
            return Some(position + 2);
        }
        if rest.starts_with(b"\r\n") {
            return Some(position + 3);
        }
    }
    None
}

/// What a complete head is.
pub(crate) fn kind(head: &[u8]) -> Kind {
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(|&byte| byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let text = |word: Option<&[u8]>| {
        word.and_then(|w| std::str::from_utf8(w).ok())
            .unwrap_or("")
            .to_owned()
    };
    if version != Some(b"HTTP/1.1") || !hijacks(&text(method), &text(target)) {
        return Kind::Ordinary;
    }
    let upgrades = lines.any(|line| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        name.eq_ignore_ascii_case(b"upgrade")
    });
    if upgrades {
        Kind::Upgrade
    } else {
        Kind::Silent
    }
}

/// Adds the `Upgrade` header after the request line.
pub(crate) fn with_upgrade(bytes: &BytesMut) -> BytesMut {
    let line = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    let mut out = BytesMut::with_capacity(bytes.len() + 16);
    out.put_slice(bytes.get(..line).unwrap_or_default());
    out.put_slice(b"Upgrade: tcp\r\n");
    out.put_slice(bytes.get(line..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_wherever_reads_were_cut() {
        let bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody";
        for from in 0..=27 {
            assert_eq!(end(bytes, from), Some(27), "{from}");
        }
        for cut in 0..27 {
            assert_eq!(end(&bytes[..cut], 0), None, "{cut}");
        }
        assert_eq!(end(b"GET / HTTP/1.1\nHost: x\n\n", 0), Some(24));
    }

    #[test]
    fn kinds_are_told_apart() {
        let kind_of = |text: &str| kind(text.as_bytes());
        assert_eq!(
            kind_of("POST /v1.24/containers/a/attach?stdin=1 HTTP/1.1\r\nHost: x\r\n\r\n"),
            Kind::Silent
        );
        assert_eq!(
            kind_of("POST /exec/a/start HTTP/1.1\r\nuPGRADE: tcp\r\n\r\n"),
            Kind::Upgrade
        );
        assert_eq!(
            kind_of("POST /exec/a/start HTTP/1.0\r\n\r\n"),
            Kind::Ordinary
        );
        assert_eq!(
            kind_of("GET /exec/a/start HTTP/1.1\r\n\r\n"),
            Kind::Ordinary
        );
        assert_eq!(
            kind_of("POST /images/load HTTP/1.1\r\n\r\nPOST /exec/a/start HTTP/1.1\r\n\r\n"),
            Kind::Ordinary
        );
        assert_eq!(kind_of("\r\n\r\n"), Kind::Ordinary);
    }

    #[test]
    fn the_header_is_added_once_and_in_place() {
        let head = BytesMut::from(&b"POST /exec/a/start HTTP/1.1\r\nHost: x\r\n\r\n{}"[..]);
        let out = with_upgrade(&head);
        assert_eq!(
            &out[..],
            b"POST /exec/a/start HTTP/1.1\r\nUpgrade: tcp\r\nHost: x\r\n\r\n{}"
        );
        assert_eq!(kind(&out), Kind::Upgrade);
    }
}
