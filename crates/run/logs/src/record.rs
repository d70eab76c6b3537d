//! One record of a json-file log: encoding byte for byte as Docker does, decoding without trust.
//!
//! Format: <https://github.com/moby/moby/blob/master/daemon/logger/jsonfilelog/jsonlog/jsonlogbytes.go>. Output that
//! is not UTF-8 gets a `base64` member besides the lossy text, so that it is read back byte for byte.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use havre_types::Timestamp;
use serde::Deserialize;

/// Which output a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output, and everything that a terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// One record as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the process wrote it.
    pub stream: Stream,
    /// When the shim read it.
    pub timestamp: Timestamp,
    /// The line with its newline, or a piece without one.
    pub bytes: Vec<u8>,
    /// The line goes on in the next record of the same stream, or the process ended without a newline.
    pub partial: bool,
    /// Attributes that the log options ask for.
    pub attrs: BTreeMap<String, String>,
}

/// Renders the attributes once; every record repeats them.
pub(crate) fn attrs_member(attrs: &BTreeMap<String, String>) -> Vec<u8> {
    if attrs.is_empty() {
        return Vec::new();
    }
    let mut out = b",\"attrs\":{".to_vec();
    for (index, (key, value)) in attrs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'"');
        escape(key, &mut out);
        out.extend_from_slice(b"\":\"");
        escape(value, &mut out);
        out.push(b'"');
    }
    out.push(b'}');
    out
}

/// Appends one record to `out`. `line` comes with its newline, or without for a partial one.
pub(crate) fn encode(line: &[u8], stream: Stream, attrs: &[u8], time: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"log\":\"");
    let exact = match str::from_utf8(line) {
        Ok(text) => {
            escape(text, out);
            true
        }
        Err(_) => {
            escape(&String::from_utf8_lossy(line), out);
            false
        }
    };
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.push(b'"');
    out.extend_from_slice(attrs);
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    if !exact {
        out.extend_from_slice(b"\",\"base64\":\"");
        out.extend_from_slice(STANDARD.encode(line).as_bytes());
    }
    out.extend_from_slice(b"\"}\n");
}

/// Escapes as Go's encoder does, HTML characters and line separators included.
fn escape(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (index, byte) in bytes.iter().copied().enumerate() {
        // U+2028 and U+2029 are E2 80 A8 and E2 80 A9; only the last byte of each differs.
        let separator = matches!(byte, 0xa8 | 0xa9)
            && index >= 2
            && bytes.get(index - 2..index) == Some(&[0xe2, 0x80]);
        if !separator && byte >= 0x20 && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&') {
            continue;
        }
        let end = if separator { index - 2 } else { index };
        out.extend_from_slice(bytes.get(plain..end).unwrap_or_default());
        plain = index + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0xa8 => out.extend_from_slice(b"\\u2028"),
            0xa9 => out.extend_from_slice(b"\\u2029"),
            _ => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
            }
        }
    }
    out.extend_from_slice(bytes.get(plain..).unwrap_or_default());
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    base64: Option<Cow<'a, str>>,
}

/// Decodes one line of the file; `None` when it is damaged.
pub(crate) fn decode(line: &[u8]) -> Option<Entry> {
    let raw: Raw<'_> = serde_json::from_slice(line).ok()?;
    let bytes = match raw.base64 {
        Some(encoded) => STANDARD.decode(encoded.as_bytes()).ok()?,
        None => raw.log.into_owned().into_bytes(),
    };
    Some(Entry {
        stream: Stream::parse(&raw.stream)?,
        timestamp: Timestamp::parse_rfc3339(&raw.time).ok()?,
        partial: bytes.last() != Some(&b'\n'),
        bytes,
        attrs: raw.attrs.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: &str = "2026-11-21T06:00:00.5Z";

    fn encoded(line: &[u8], attrs: &BTreeMap<String, String>) -> String {
        let mut out = Vec::new();
        encode(line, Stream::Stderr, &attrs_member(attrs), TIME, &mut out);
        String::from_utf8(out).expect("the file is text")
    }

    #[test]
    fn is_docker_s_line() {
        let attrs = BTreeMap::from([("a\"".to_owned(), "<b>".to_owned())]);
        assert_eq!(
            encoded("x \"\\\t\u{1}\u{2028}<&é\n".as_bytes(), &attrs),
            "{\"log\":\"x \\\"\\\\\\t\\u0001\\u2028\\u003c\\u0026é\\n\",\"stream\":\"stderr\",\
             \"attrs\":{\"a\\\"\":\"\\u003cb\\u003e\"},\"time\":\"2026-11-21T06:00:00.5Z\"}\n"
        );
    }

    #[test]
    fn damaged_lines_are_nothing() {
        let good = encoded(b"x\n", &BTreeMap::new());
        for cut in 0..good.len() - 2 {
            assert_eq!(decode(&good.as_bytes()[..cut]), None, "cut at {cut}");
        }
        assert_eq!(
            decode(br#"{"log":"x","stream":"other","time":"2026-11-21T06:00:00Z"}"#),
            None
        );
        assert_eq!(
            decode(br#"{"log":"x","stream":"stdout","time":"yesterday"}"#),
            None
        );
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(line in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,40}") {
            for bytes in [line.as_slice(), text.as_bytes()] {
                let attrs = BTreeMap::from([("k".to_owned(), text.clone())]);
                let record = encoded(bytes, &attrs);
                prop_assert_eq!(record.matches('\n').count(), 1);
                let entry = decode(record.trim_end().as_bytes()).expect("own record");
                prop_assert_eq!(entry.bytes.as_slice(), bytes);
                prop_assert_eq!(entry.stream, Stream::Stderr);
                prop_assert_eq!(entry.attrs, attrs);
            }
        }
    }
}
