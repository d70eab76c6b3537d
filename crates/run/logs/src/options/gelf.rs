//! Options of the gelf driver.

use std::time::Duration;

use super::address::{Address, Endpoint};
use super::value::count;
use super::{LogOptionError, OptionMap, known};

/// Where to and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GelfOptions {
    /// The server.
    pub endpoint: Endpoint,
    /// How it is reached.
    pub transport: Transport,
}

/// How the server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams, in chunks when they are long.
    Udp {
        /// What is done to each message.
        compression: Compression,
        /// 0 to 9; none is the library's own.
        level: Option<u32>,
    },
    /// A connection.
    Tcp {
        /// Attempts at a new connection before a message is given up.
        max_reconnect: u32,
        /// The pause before each.
        delay: Duration,
    },
}

/// Compression of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// The default.
    Gzip,
    /// Zlib.
    Zlib,
    /// As it is.
    None,
}

const OWN: [&str; 5] = [
    "gelf-address",
    "gelf-compression-level",
    "gelf-compression-type",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];
/// Docker's library: <https://github.com/Graylog2/go-gelf/blob/v2/gelf/tcpwriter.go>.
const RECONNECTS: u32 = 3;
const DELAY: Duration = Duration::from_secs(1);
const FASTEST: u32 = 1;

impl GelfOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// Fails in Docker's words when one is unknown or wrong.
    pub fn parse(options: &OptionMap) -> Result<Self, LogOptionError> {
        let (udp, endpoint) = address(options.get("gelf-address").map_or("", String::as_str))?;
        known(options, &OWN, |key| {
            format!("unknown log opt {key:?} for gelf log driver")
        })?;
        let transport = if udp {
            for key in ["gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"] {
                if options.contains_key(key) {
                    return Err(LogOptionError::new(format!(
                        "{key:?} is only valid for TCP"
                    )));
                }
            }
            datagrams(options)?
        } else {
            let compressed = ["gelf-compression-level", "gelf-compression-type"];
            if compressed.iter().any(|key| options.contains_key(*key)) {
                return Err(LogOptionError::new("compression is only supported on UDP"));
            }
            let reconnects = positive(options, "gelf-tcp-max-reconnect")?;
            let delay = positive(options, "gelf-tcp-reconnect-delay")?;
            Transport::Tcp {
                max_reconnect: reconnects.unwrap_or(RECONNECTS),
                delay: delay.map_or(DELAY, |secs| Duration::from_secs(secs.into())),
            }
        };
        Ok(Self {
            endpoint,
            transport,
        })
    }
}

fn address(text: &str) -> Result<(bool, Endpoint), LogOptionError> {
    if text.is_empty() {
        return Err(LogOptionError::new("gelf-address is a required parameter"));
    }
    let address = Address::parse(text)?;
    if !matches!(address.scheme, "udp" | "tcp") {
        return Err(LogOptionError::new("gelf: endpoint needs to be TCP or UDP"));
    }
    let (host, port) = address.host_port();
    let port = port.and_then(|port| port.parse().ok()).ok_or_else(|| {
        LogOptionError::new("gelf: please provide gelf-address as proto://host:port")
    })?;
    let endpoint = Endpoint {
        host: if host.is_empty() { "localhost" } else { host }.to_owned(),
        port,
    };
    Ok((address.scheme == "udp", endpoint))
}

fn datagrams(options: &OptionMap) -> Result<Transport, LogOptionError> {
    let unknown = |key: &str, value: &str| {
        LogOptionError::new(format!(
            "unknown value {value:?} for log opt {key:?} for gelf log driver"
        ))
    };
    let level = match options.get("gelf-compression-level") {
        None => Some(FASTEST),
        Some(text) => {
            let level = count(text).ok().filter(|level| (-1..=9).contains(level));
            let level = level.ok_or_else(|| unknown("gelf-compression-level", text))?;
            u32::try_from(level).ok()
        }
    };
    let compression = match options.get("gelf-compression-type").map(String::as_str) {
        None | Some("gzip") => Compression::Gzip,
        Some("zlib") => Compression::Zlib,
        Some("none") => Compression::None,
        Some(other) => return Err(unknown("gelf-compression-type", other)),
    };
    Ok(Transport::Udp { compression, level })
}

fn positive(options: &OptionMap, key: &str) -> Result<Option<u32>, LogOptionError> {
    let Some(text) = options.get(key) else {
        return Ok(None);
    };
    let value = count(text).ok().and_then(|value| u32::try_from(value).ok());
    value
        .map(Some)
        .ok_or_else(|| LogOptionError::new(format!("{key:?} must be a positive integer")))
}
