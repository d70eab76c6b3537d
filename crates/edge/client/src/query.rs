//! Paths and query strings, percent-encoded.

use std::fmt::Write as _;

/// A query string under construction. Empty and default values are simply not added.
#[derive(Debug, Clone, Default)]
pub struct Query(String);

impl Query {
    /// An empty query.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `name=value` unless the value is empty.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.push(name, value);
        }
        self
    }

    /// Adds `name=1` when the flag is set.
    #[must_use]
    pub fn flag(mut self, name: &str, on: bool) -> Self {
        if on {
            self.push(name, "1");
        }
        self
    }

    /// Adds `name=number` when there is one.
    #[must_use]
    pub fn number(mut self, name: &str, value: Option<i64>) -> Self {
        if let Some(value) = value {
            self.push(name, &value.to_string());
        }
        self
    }

    /// The path with the query behind it.
    #[must_use]
    pub fn on(&self, path: &str) -> String {
        if self.0.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", self.0)
        }
    }

    fn push(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        encode(&mut self.0, value, |b| matches!(b, b'/' | b':' | b','));
    }
}

/// Encodes what is to be one segment of a path; slashes of image names stay.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    encode(&mut out, text, |b| matches!(b, b'/' | b':' | b'@'));
    out
}

fn encode(out: &mut String, text: &str, also_plain: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        // Unreserved characters, RFC 3986 section 2.3.
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || also_plain(byte)
        {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_unusual_is_encoded() {
        let query = Query::new()
            .text("name", "a b&c=d/é")
            .text("none", "")
            .flag("all", true)
            .flag("no", false);
        assert_eq!(
            query.number("n", Some(-1)).on("/x"),
            "/x?name=a%20b%26c%3Dd/%C3%A9&all=1&n=-1"
        );
        assert_eq!(Query::new().on("/x"), "/x");
        assert_eq!(
            segment("docker.io/a:b@sha256:c?d#e\n"),
            "docker.io/a:b@sha256:c%3Fd%23e%0A"
        );
    }
}
