//! Addresses of log servers, as Go's `url.Parse` and `net.SplitHostPort` read them.

use super::LogOptionError;

/// The parts of `scheme://host:port/path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    pub(super) scheme: &'a str,
    /// Host and port as written.
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
}

/// A host that answers at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<'a> Address<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, LogOptionError> {
        let refuse = |why: String| LogOptionError::new(format!("parse {text:?}: {why}"));
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(refuse("net/url: invalid control character in URL".into()));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
            return Ok(Self {
                scheme,
                authority: "",
                path: text,
            });
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // What stands before `@` is no part of where to go.
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let after_brackets = authority.rfind(']').unwrap_or(0);
        let tail = authority.get(after_brackets..).unwrap_or_default();
        if let Some(at) = tail.rfind(':') {
            let port = tail.get(at..).unwrap_or_default();
            if !port.bytes().skip(1).all(|byte| byte.is_ascii_digit()) {
                return Err(refuse(format!("invalid port {port:?} after host")));
            }
        }
        Ok(Self {
            scheme,
            authority,
            path,
        })
    }

    /// Host and port; the port is none when it is not given.
    pub(super) fn host_port(&self) -> (&'a str, Option<&'a str>) {
        let after_brackets = self.authority.rfind(']').unwrap_or(0);
        let tail = self.authority.get(after_brackets..).unwrap_or_default();
        let (host, port) = match tail.rfind(':') {
            Some(at) => (
                self.authority
                    .get(..after_brackets + at)
                    .unwrap_or_default(),
                self.authority.get(after_brackets + at + 1..),
            ),
            None => (self.authority, None),
        };
        let host = host.strip_prefix('[').unwrap_or(host);
        (host.strip_suffix(']').unwrap_or(host), port)
    }
}
