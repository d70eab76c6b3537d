//! Connections: made within a limit, written to with patience, known to be dead before a record is lost in them.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use havre_logs::options::Endpoint;
use rustix::net::{RecvFlags, recv};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::dns::lookup;
use crate::error::{StartError, go_text};
use crate::patience::{Patience, SLICE};

/// How long a server may take to accept.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// A connection of one kind.
#[derive(Debug)]
pub(crate) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Connects to the first address that accepts.
pub(crate) fn dial_tcp(endpoint: &Endpoint, limit: Duration) -> Result<TcpStream, StartError> {
    let failed = |address: String, reason: String| StartError::Dial {
        network: "tcp",
        address,
        reason,
    };
    let addresses =
        lookup(&endpoint.host).map_err(|error| failed(String::new(), error.to_string()))?;
    let mut failure = None;
    for address in addresses {
        let address = SocketAddr::new(address, endpoint.port);
        match TcpStream::connect_timeout(&address, limit).and_then(prepared) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::TimedOut => go_text(&error),
                    _ => format!("connect: {}", go_text(&error)),
                };
                // The first address is the one that people mean.
                failure.get_or_insert_with(|| failed(address.to_string(), reason));
            }
        }
    }
    Err(failure.unwrap_or_else(|| failed(endpoint.to_string(), "no address".to_owned())))
}

fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(SLICE))?;
    stream.set_read_timeout(Some(SLICE))?;
    Ok(stream)
}

pub(crate) fn dial_unix(path: &Path) -> Result<UnixStream, StartError> {
    let connect = || {
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(SLICE))?;
        stream.set_read_timeout(Some(SLICE))?;
        Ok(stream)
    };
    connect().map_err(|error: io::Error| StartError::Dial {
        network: "unix",
        address: path.display().to_string(),
        reason: format!("connect: {}", go_text(&error)),
    })
}

/// Encrypts a connection; the server has proven itself when this returns.
pub(crate) fn encrypt(
    endpoint: &Endpoint,
    mut stream: TcpStream,
    config: &Arc<ClientConfig>,
) -> Result<Connection, StartError> {
    let refused = |error: String| StartError::Tls(format!("tls: {error}"));
    let name = endpoint.host.clone();
    let name = name
        .try_into()
        .map_err(|_unnamed| refused(format!("`{}` is no name of a server", endpoint.host)))?;
    let mut session = ClientConnection::new(Arc::clone(config), name)
        .map_err(|error| refused(error.to_string()))?;
    let until = Instant::now() + CONNECT;
    while session.is_handshaking() {
        match session.complete_io(&mut stream) {
            Ok(_) => {}
            Err(error) if waits(&error) && Instant::now() < until => {}
            Err(error) => return Err(refused(go_text(&error))),
        }
    }
    Ok(Connection::Tls(Box::new(StreamOwned::new(session, stream))))
}

/// Whether an error only says that it is not time yet.
pub(crate) fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

impl Connection {
    /// Whether the server has closed it. What is written then would be lost without a word.
    pub(crate) fn is_closed(&self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = match self {
            Self::Tcp(stream) => recv(stream, &mut byte, flags),
            Self::Unix(stream) => recv(stream, &mut byte, flags),
            Self::Tls(stream) => recv(&stream.sock, &mut byte, flags),
        };
        match peeked {
            Ok((_, 0)) => true,
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Err(_) => true,
        }
    }

    /// Writes everything, for as long as there is patience and within `limit`.
    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        patience: &mut Patience,
        limit: Option<Duration>,
    ) -> io::Result<()> {
        let until = limit.map(|limit| Instant::now() + limit);
        let mut rest = bytes;
        loop {
            let outcome = if rest.is_empty() {
                self.flush().map(|()| None)
            } else {
                self.write(rest).map(Some)
            };
            match outcome {
                Ok(None) => return Ok(()),
                Ok(Some(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Some(count)) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if waits(&error) => {
                    let late = until.is_some_and(|until| until <= Instant::now());
                    if late || !patience.lasts() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what comes, for as long as there is patience and within `limit`.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        patience: &mut Patience,
        limit: Option<Duration>,
    ) -> io::Result<usize> {
        let until = limit.map(|limit| Instant::now() + limit);
        loop {
            let outcome = match self {
                Self::Tcp(stream) => stream.read(buffer),
                Self::Unix(stream) => stream.read(buffer),
                Self::Tls(stream) => stream.read(buffer),
            };
            match outcome {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => return Ok(count),
                Err(error) if waits(&error) => {
                    let late = until.is_some_and(|until| until <= Instant::now());
                    if late || !patience.lasts() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
