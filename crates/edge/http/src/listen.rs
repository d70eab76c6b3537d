//! Addresses to listen on, in dockerd's spelling, and the sockets made of them.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::{Gid, chown};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use crate::stream::Stream;

/// The port of `tcp://` addresses that name none.
const DEFAULT_PORT: u16 = 2375;
/// Owner and group may use the socket, nobody else: it is as good as root.
const SOCKET_MODE: u32 = 0o660;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// `unix:///run/havre/havre.sock`.
    Unix(PathBuf),
    /// `tcp://127.0.0.1:2375`.
    Tcp(String),
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address has no `PROTO://`, or nothing after it.
    #[error("bad format {0}, expected PROTO://ADDR")]
    BadFormat(String),
    /// A protocol that is not served.
    #[error("invalid bind address ({0}): unsupported protocol {1}: only unix and tcp are served")]
    Protocol(String, String),
    /// The API without authentication would be open to the network.
    #[error(
        "tcp://{0} is not a loopback address: the API gives root access to everyone who reaches it, \
         and TLS is not supported yet"
    )]
    Exposed(String),
    /// Another process serves the socket.
    #[error("failed to listen on `{}`: another engine is serving it", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket has the socket's name.
    #[error("failed to listen on `{}`: the file exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("failed to listen on `{address}`")]
    Io {
        /// The address.
        address: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl FromStr for Host {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ListenError::BadFormat(text.to_owned());
        let (protocol, address) = text.split_once("://").ok_or_else(bad)?;
        match protocol {
            "unix" if address.starts_with('/') => Ok(Self::Unix(address.into())),
            "unix" => Err(bad()),
            "tcp" => {
                let address = address.strip_suffix('/').unwrap_or(address);
                let address = if address.is_empty() {
                    "127.0.0.1"
                } else {
                    address
                };
                let has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
                    !port.is_empty()
                        && port.bytes().all(|b| b.is_ascii_digit())
                        && (!host.contains(':') || host.ends_with(']'))
                });
                let address = if has_port {
                    address.to_owned()
                } else {
                    format!("{address}:{DEFAULT_PORT}")
                };
                Ok(Self::Tcp(address))
            }
            other => Err(ListenError::Protocol(text.to_owned(), other.to_owned())),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// A socket that is being listened on.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: String,
}

#[derive(Debug)]
enum Socket {
    Unix {
        listener: UnixListener,
        file: SocketFile,
    },
    Tcp(TcpListener),
}

/// The name of a unix socket; removed with the listener if it is still ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Listener {
    /// Listens on `host`. `group` may use a unix socket beside its owner.
    pub async fn bind(host: &Host, group: Option<u32>) -> Result<Self, ListenError> {
        match host {
            Host::Unix(path) => bind_unix(path, group).await,
            Host::Tcp(address) => bind_tcp(address).await,
        }
    }

    /// The address in the form of `-H`, with the real port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
            Socket::Tcp(listener) => {
                let (stream, _from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Socket::Unix { file, .. } = &self.socket else {
            return;
        };
        if identity(&file.path) == file.identity
            && let Err(error) = fs_err::remove_file(&file.path)
        {
            debug!(%error, "the socket's name stays");
        }
    }
}

async fn bind_unix(path: &Path, group: Option<u32>) -> Result<Listener, ListenError> {
    let address = format!("unix://{}", path.display());
    let fail = |source| ListenError::Io {
        address: address.clone(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent).map_err(fail)?;
    }
    remove_stale(path).await?;
    // Between bind and chmod the umask decides; havred sets one that closes the socket to others.
    let listener = UnixListener::bind(path).map_err(fail)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path),
    };
    let mode = std::fs::Permissions::from_mode(SOCKET_MODE);
    fs_err::set_permissions(path, mode).map_err(fail)?;
    if let Some(group) = group {
        chown(path, None, Some(Gid::from_raw(group))).map_err(|error| fail(error.into()))?;
    }
    Ok(Listener {
        socket: Socket::Unix { listener, file },
        address,
    })
}

/// Removes the name of a socket that nobody serves, and refuses everything else.
async fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let Ok(found) = fs_err::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    if is_served(path).await {
        return Err(ListenError::InUse(path.to_owned()));
    }
    fs_err::remove_file(path).map_err(|source| ListenError::Io {
        address: path.display().to_string(),
        source,
    })
}

/// Whether somebody listens, and goes on to: a child of a killed engine on its way to its exec holds the socket for
/// a moment.
async fn is_served(path: &Path) -> bool {
    for _ in 0..10 {
        if UnixStream::connect(path).await.is_err() {
            return false;
        }
        sleep_until(Instant::now() + Duration::from_millis(50)).await;
    }
    true
}

async fn bind_tcp(address: &str) -> Result<Listener, ListenError> {
    let fail = |source| ListenError::Io {
        address: format!("tcp://{address}"),
        source,
    };
    // No resolver is asked: only this machine's own names can be loopback.
    let literal = address
        .strip_prefix("localhost:")
        .map(|port| format!("127.0.0.1:{port}"));
    let parsed = literal.as_deref().unwrap_or(address).parse::<SocketAddr>();
    let Some(wanted) = parsed.ok().filter(|parsed| parsed.ip().is_loopback()) else {
        return Err(ListenError::Exposed(address.to_owned()));
    };
    warn!(host = %format!("tcp://{address}"), "Binding to an IP address, even on localhost, can also give access to scripts run in a browser. Be safe out there!");
    let listener = TcpListener::bind(wanted).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok(Listener {
        socket: Socket::Tcp(listener),
        address: format!("tcp://{bound}"),
    })
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs_err::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_dockerd_reads_them() {
        for (text, expected) in [
            ("unix:///run/x.sock", Host::Unix("/run/x.sock".into())),
            (
                "tcp://127.0.0.1:1234",
                Host::Tcp("127.0.0.1:1234".to_owned()),
            ),
            ("tcp://localhost", Host::Tcp("localhost:2375".to_owned())),
            ("tcp://", Host::Tcp("127.0.0.1:2375".to_owned())),
            ("tcp://[::1]:99/", Host::Tcp("[::1]:99".to_owned())),
            ("tcp://[::1]", Host::Tcp("[::1]:2375".to_owned())),
        ] {
            assert_eq!(text.parse::<Host>().unwrap(), expected, "{text}");
        }
        for (text, message) in [
            (
                "localhost:1",
                "bad format localhost:1, expected PROTO://ADDR",
            ),
            ("unix://x", "bad format unix://x, expected PROTO://ADDR"),
            (
                "fd://",
                "invalid bind address (fd://): unsupported protocol fd: only unix and tcp are served",
            ),
        ] {
            assert_eq!(text.parse::<Host>().unwrap_err().to_string(), message);
        }
    }
}
