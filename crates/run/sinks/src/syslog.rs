//! Syslog: sockets of the host, datagrams, connections, encrypted ones; the forms that Docker's driver writes.
//!
//! Forms: <https://github.com/moby/moby/blob/master/daemon/logger/syslog/syslog.go> and the library
//! <https://github.com/RackSec/srslog>. Times are in UTC.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use havre_logs::Sink;
use havre_logs::options::{Endpoint, SyslogFormat, SyslogOptions, SyslogTarget};
use havre_types::Timestamp;
use rustls::ClientConfig;

use crate::connect::{CONNECT, Connection, dial_tcp, dial_unix, encrypt, waits};
use crate::deliver::{Deliver, Record};
use crate::dns::lookup;
use crate::error::{StartError, go_text};
use crate::patience::{Backoff, Patience, SLICE};
use crate::tls;

const ERROR: u8 = 3;
const INFO: u8 = 6;
/// Where the host's own syslog listens, in the order in which it is looked for.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// How messages leave.
enum Line {
    Stream(Connection),
    Datagram(UnixDatagram),
    Udp(UdpSocket),
}

pub(crate) struct Syslog {
    options: SyslogOptions,
    tls: Option<Arc<ClientConfig>>,
    hostname: String,
    tag: String,
    line: Option<Line>,
}

impl Syslog {
    pub(crate) fn open(options: SyslogOptions, sink: &Sink) -> Result<Self, StartError> {
        let tls = match &options.target {
            SyslogTarget::Tls(_, asked) => Some(tls::config(asked)?),
            _ => None,
        };
        let mut syslog = Self {
            options,
            tls,
            hostname: sink.hostname.clone(),
            tag: sink.tag.clone(),
            line: None,
        };
        syslog.line = Some(syslog.connect()?);
        Ok(syslog)
    }

    fn connect(&self) -> Result<Line, StartError> {
        match &self.options.target {
            SyslogTarget::Local => LOCAL
                .iter()
                .find_map(|path| {
                    let path = Path::new(path);
                    let datagram = datagram(path).map(Line::Datagram);
                    datagram.or_else(|_| stream(path)).ok()
                })
                .ok_or(StartError::NoSyslog),
            SyslogTarget::Unix(path) => stream(path),
            SyslogTarget::UnixDatagram(path) => datagram(path).map(Line::Datagram),
            SyslogTarget::Udp(endpoint) => udp(endpoint).map(Line::Udp),
            SyslogTarget::Tcp(endpoint) => {
                dial_tcp(endpoint, CONNECT).map(|stream| Line::Stream(Connection::Tcp(stream)))
            }
            SyslogTarget::Tls(endpoint, _) => {
                let stream = dial_tcp(endpoint, CONNECT)?;
                let config = self.tls.as_ref().ok_or(StartError::NoSyslog)?;
                encrypt(endpoint, stream, config).map(Line::Stream)
            }
        }
    }

    fn message(&self, record: &Record) -> Vec<u8> {
        let severity = if record.is_error() { ERROR } else { INFO };
        let priority = u32::from(self.options.facility) << 3 | u32::from(severity);
        let time = record.entry.timestamp;
        let (host, tag, pid) = (&self.hostname, &self.tag, std::process::id());
        let head = match self.options.format {
            SyslogFormat::Unix => format!("<{priority}>{} {tag}[{pid}]: ", stamp(time)),
            SyslogFormat::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", stamp(time)),
            SyslogFormat::Rfc5424 => {
                let time = iso(time, 0);
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
            SyslogFormat::Rfc5424Micro => {
                let time = iso(time, 6);
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
        };
        let mut message = head.into_bytes();
        message.extend_from_slice(record.line());
        message.push(b'\n');
        let counted = matches!(
            self.options.format,
            SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro
        );
        if counted && matches!(self.options.target, SyslogTarget::Tls(..)) {
            // RFC 5425: the length comes first.
            let mut framed = format!("{} ", message.len()).into_bytes();
            framed.append(&mut message);
            return framed;
        }
        message
    }
}

fn stream(path: &Path) -> Result<Line, StartError> {
    dial_unix(path).map(|stream| Line::Stream(Connection::Unix(stream)))
}

fn datagram(path: &Path) -> Result<UnixDatagram, StartError> {
    let connect = || {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_write_timeout(Some(SLICE))?;
        Ok(socket)
    };
    connect().map_err(|error: io::Error| StartError::Dial {
        network: "unixgram",
        address: path.display().to_string(),
        reason: format!("connect: {}", go_text(&error)),
    })
}

/// A socket for datagrams to one server.
pub(crate) fn udp(endpoint: &Endpoint) -> Result<UdpSocket, StartError> {
    let connect = || {
        let address = lookup(&endpoint.host)?.into_iter().next();
        let address = address.ok_or(io::ErrorKind::NotFound)?;
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(SocketAddr::new(address, endpoint.port))?;
        socket.set_write_timeout(Some(SLICE))?;
        Ok(socket)
    };
    connect().map_err(|error: io::Error| StartError::Dial {
        network: "udp",
        address: endpoint.to_string(),
        reason: go_text(&error),
    })
}

/// Sends one datagram. What the network says of an earlier one (nobody listens) is no reason not to send this one.
pub(crate) fn send_udp(socket: &UdpSocket, bytes: &[u8]) -> io::Result<()> {
    match socket.send(bytes) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send(bytes),
        other => other,
    }
    .map(drop)
}

impl Deliver for Syslog {
    fn deliver(&mut self, record: &Record, patience: &mut Patience) -> bool {
        if record.line().is_empty() {
            // Docker sends no empty messages.
            return true;
        }
        let message = self.message(record);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let sent = match self.line.as_mut() {
                None => Err(io::ErrorKind::NotConnected.into()),
                Some(Line::Stream(connection)) if connection.is_closed() => {
                    Err(io::ErrorKind::BrokenPipe.into())
                }
                Some(Line::Stream(connection)) => connection.send(&message, patience, None),
                Some(Line::Datagram(socket)) => socket.send(&message).map(drop),
                // Datagrams over a network promise nothing; one that is too long cannot be sent at all.
                Some(Line::Udp(socket)) => {
                    return send_udp(socket, &message).is_ok();
                }
            };
            match sent {
                Ok(()) => return true,
                Err(error) if waits(&error) && matches!(self.line, Some(Line::Datagram(_))) => {
                    if !patience.lasts() {
                        return false;
                    }
                    continue;
                }
                Err(_) => self.line = None,
            }
            match self.connect() {
                Ok(line) => self.line = Some(line),
                Err(_) => {
                    if !patience.pause(backoff.step()) {
                        return false;
                    }
                }
            }
        }
    }
}

/// `Nov 21 06:05:04`.
fn stamp(time: Timestamp) -> String {
    let (_, month, day, hour, minute, second) = time.civil();
    let month = usize::try_from(month).unwrap_or(1).saturating_sub(1);
    let month = MONTHS.get(month).copied().unwrap_or("Jan");
    format!("{month} {day:2} {hour:02}:{minute:02}:{second:02}")
}

/// `2026-11-21T06:05:04.123456Z` with so many digits.
fn iso(time: Timestamp, digits: usize) -> String {
    let fixed = time.rfc3339_fixed();
    let whole = fixed.get(..19).unwrap_or_default();
    let fraction = fixed.get(20..20 + digits).unwrap_or_default();
    let dot = if digits > 0 { "." } else { "" };
    format!("{whole}{dot}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_forms_of_the_standards() {
        let time = Timestamp::parse_rfc3339("2026-11-01T06:05:04.123456789Z").expect("a time");
        assert_eq!(stamp(time), "Nov  1 06:05:04");
        assert_eq!(iso(time, 0), "2026-11-01T06:05:04Z");
        assert_eq!(iso(time, 6), "2026-11-01T06:05:04.123456Z");
    }
}
