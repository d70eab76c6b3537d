//! Where an engine listens: `unix:///run/havre/havre.sock`, `tcp://host:2375`.

use std::fmt;
use std::path::PathBuf;

use havre_types::{Classify, ErrorKind};

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address, without TLS.
    Tcp {
        /// name or address, an IPv6 one without brackets
        host: String,
        /// port
        port: u16,
    },
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not of the form `scheme://address`, or the address is empty.
    #[error("unable to parse docker host `{0}`")]
    Form(String),
    /// A scheme that this client does not speak.
    #[error("unsupported scheme in docker host `{0}`: this client speaks unix:// and tcp://")]
    Scheme(String),
}

impl Classify for EndpointError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

impl Endpoint {
    /// The port of an engine on TCP without TLS when none is named (IANA: `docker`).
    const DEFAULT_PORT: u16 = 2375;

    /// Parses `unix:///path`, `tcp://host[:port]` and `http://host[:port]`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let form = || EndpointError::Form(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        match scheme {
            "unix" if !rest.is_empty() => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" | "http" => Self::parse_tcp(rest.trim_end_matches('/')).ok_or_else(form),
            "unix" => Err(form()),
            _ => Err(EndpointError::Scheme(text.to_owned())),
        }
    }

    fn parse_tcp(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, tail) = rest.split_once(']')?;
                (
                    host,
                    if tail.is_empty() {
                        None
                    } else {
                        Some(tail.strip_prefix(':')?)
                    },
                )
            }
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Some(Self::DEFAULT_PORT), |port| port.parse().ok())?;
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Some(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    /// The value of the `Host` header.
    pub(crate) fn host_header(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { .. } => write!(f, "tcp://{}", self.host_header()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        for (text, expected) in [
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("tcp://1.2.3.4:5", "tcp://1.2.3.4:5"),
            ("tcp://host", "tcp://host:2375"),
            ("http://[::1]:80/", "tcp://[::1]:80"),
            ("tcp://:2375", "tcp://127.0.0.1:2375"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), expected);
        }
        for text in [
            "",
            "x",
            "unix://",
            "tcp://a:b",
            "ssh://host",
            "tcp://[::1",
            "tcp://h:99999",
        ] {
            Endpoint::parse(text).unwrap_err();
        }
    }
}
