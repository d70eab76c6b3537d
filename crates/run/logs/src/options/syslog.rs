//! Options of the syslog driver.

use std::path::{Path, PathBuf};

use super::address::{Address, Endpoint};
use super::value::count;
use super::{LogOptionError, OptionMap, known};

/// Where to, and in which words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogOptions {
    /// Where messages go.
    pub target: SyslogTarget,
    /// Number of the facility, 0 to 23.
    pub facility: u8,
    /// Form of a message.
    pub format: SyslogFormat,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogTarget {
    /// The first of the host's usual sockets.
    Local,
    /// A stream socket.
    Unix(PathBuf),
    /// A datagram socket.
    UnixDatagram(PathBuf),
    /// Datagrams over the network.
    Udp(Endpoint),
    /// A connection.
    Tcp(Endpoint),
    /// An encrypted connection.
    Tls(Endpoint, SyslogTls),
}

/// Who is trusted, and who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyslogTls {
    /// Further authorities.
    pub authorities: Option<PathBuf>,
    /// Our certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The server may be anybody.
    pub skip_verify: bool,
}

/// Form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogFormat {
    /// What the host's own socket expects: no host name.
    Unix,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, seconds.
    Rfc5424,
    /// RFC 5424, microseconds.
    Rfc5424Micro,
}

const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
const DAEMON: u8 = 3;
const OWN: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];

impl SyslogOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// Fails in Docker's words when one is unknown or wrong.
    pub fn parse(options: &OptionMap) -> Result<Self, LogOptionError> {
        known(options, &OWN, |key| {
            format!("unknown log opt '{key}' for syslog log driver")
        })?;
        let text = |name: &str| options.get(name).map_or("", String::as_str);
        Ok(Self {
            target: target(text("syslog-address"), options)?,
            facility: facility(text("syslog-facility"))?,
            format: format(text("syslog-format"))?,
        })
    }
}

fn target(text: &str, options: &OptionMap) -> Result<SyslogTarget, LogOptionError> {
    if text.is_empty() {
        return Ok(SyslogTarget::Local);
    }
    let address = Address::parse(text)?;
    match address.scheme {
        "unix" => Ok(SyslogTarget::Unix(address.path.into())),
        "unixgram" => Ok(SyslogTarget::UnixDatagram(address.path.into())),
        "udp" => Ok(SyslogTarget::Udp(endpoint(address)?)),
        "tcp" => Ok(SyslogTarget::Tcp(endpoint(address)?)),
        "tcp+tls" => {
            let path = |name: &str| {
                let path = options.get(name).filter(|path| !path.is_empty());
                path.map(PathBuf::from)
            };
            let tls = SyslogTls {
                authorities: path("syslog-tls-ca-cert"),
                certificate: path("syslog-tls-cert"),
                key: path("syslog-tls-key"),
                skip_verify: options.contains_key("syslog-tls-skip-verify"),
            };
            Ok(SyslogTarget::Tls(endpoint(address)?, tls))
        }
        scheme => Err(LogOptionError::new(format!(
            "unsupported scheme: '{scheme}'"
        ))),
    }
}

fn endpoint(address: Address<'_>) -> Result<Endpoint, LogOptionError> {
    let (host, port) = address.host_port();
    let port = port.filter(|port| !port.is_empty()).unwrap_or("514");
    let port = port
        .parse()
        .ok()
        .ok_or_else(|| LogOptionError::new(format!("address {port}: invalid port")))?;
    Ok(Endpoint {
        host: if host.is_empty() { "localhost" } else { host }.to_owned(),
        port,
    })
}

impl SyslogTarget {
    /// The socket that must exist when the container is made.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) | Self::UnixDatagram(path) => Some(path),
            Self::Local | Self::Udp(_) | Self::Tcp(_) | Self::Tls(..) => None,
        }
    }
}

fn facility(text: &str) -> Result<u8, LogOptionError> {
    if text.is_empty() {
        return Ok(DAEMON);
    }
    let named = FACILITIES.iter().find(|(name, _)| *name == text);
    let numbered = || {
        let number = count(text)
            .ok()
            .filter(|number| (0..=23).contains(number))?;
        u8::try_from(number).ok()
    };
    named
        .map(|(_, number)| *number)
        .or_else(numbered)
        .ok_or_else(|| LogOptionError::new("invalid syslog facility"))
}

fn format(text: &str) -> Result<SyslogFormat, LogOptionError> {
    match text {
        "" => Ok(SyslogFormat::Unix),
        "rfc3164" => Ok(SyslogFormat::Rfc3164),
        "rfc5424" => Ok(SyslogFormat::Rfc5424),
        "rfc5424micro" => Ok(SyslogFormat::Rfc5424Micro),
        _ => Err(LogOptionError::new("Invalid syslog format")),
    }
}
