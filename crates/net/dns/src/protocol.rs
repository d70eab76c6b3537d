//! What engine and companion say to each other: frames of JSON on a unix socket, with descriptors beside them.
//!
//! A frame is the length of its text and the number of its descriptors, four bytes each, then the text. The frame, `hello`,
//! `take_back`, `socket` and `done` never change: by them an engine takes the sockets back from a companion of any other
//! version.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::zone::{Endpoint, Held, Network, State, Transport, Zone};

/// Both sides are of one release, or the companion gives its sockets back.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+2");
/// The control socket in the engine's directory of running things.
pub(crate) const SOCKET: &str = "net.sock";

const MAX_TEXT: usize = 64 << 20;
const MAX_FDS: usize = 4;
const HEAD: usize = 8;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Hello,
    /// The companion gives all sockets back and ends when the last connection through it has ended.
    TakeBack,
    Sync(State),
    Network {
        id: String,
        network: Network,
    },
    RemoveNetwork {
        id: String,
    },
    Endpoint {
        network: String,
        id: String,
        endpoint: Endpoint,
    },
    /// The same, on a network that comes into being with its first endpoint.
    Join {
        network: String,
        name: String,
        id: String,
        endpoint: Endpoint,
    },
    /// The network of that kind ends with its last one.
    Leave {
        network: String,
        id: String,
    },
    RemoveEndpoint {
        network: String,
        id: String,
    },
    /// With a bound UDP socket and a listening TCP socket.
    Serve {
        container: String,
        zone: Zone,
    },
    Update {
        container: String,
        zone: Zone,
    },
    Stop {
        container: String,
    },
    /// With a listening or bound socket.
    Relay {
        id: String,
        transport: Transport,
        target: SocketAddr,
    },
    StopRelay {
        id: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Hello {
        version: String,
        /// Who to end when it no longer answers.
        pid: i32,
    },
    Held(Held),
    /// A socket that is given back; more answers follow.
    Socket(Owner),
    Done,
    Refused {
        message: String,
    },
}

/// Whose sockets come with an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Owner {
    Container(String),
    Relay { id: String, transport: Transport },
}

/// Sends one frame. The descriptors go with its first byte.
pub(crate) async fn send(
    stream: &UnixStream,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut frame = vec![0; HEAD];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - HEAD).map_err(io::Error::other)?;
    let count = u32::try_from(fds.len()).map_err(io::Error::other)?;
    let words = [length.to_be_bytes(), count.to_be_bytes()].concat();
    if let Some(head) = frame.get_mut(..HEAD) {
        head.copy_from_slice(&words);
    }
    let mut sent = 0;
    while let Some(rest) = frame.get(sent..).filter(|rest| !rest.is_empty()) {
        let with = if sent == 0 { fds } else { &[] };
        sent += stream
            .async_io(Interest::WRITABLE, || {
                havre_sys::net::send_fds(stream.as_fd(), rest, with)
            })
            .await?;
    }
    Ok(())
}

/// Receives one frame, or nothing when the other side has closed between two frames.
pub(crate) async fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut head = [0; HEAD];
    let mut fds = Vec::new();
    if !fill(stream, &mut head, &mut fds).await? {
        return Ok(None);
    }
    let [a, b, c, d, e, f, g, h] = head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(io::Error::other)?;
    let count = usize::try_from(u32::from_be_bytes([e, f, g, h])).map_err(io::Error::other)?;
    if length > MAX_TEXT || count != fds.len() {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    if !fill(stream, &mut text, &mut fds).await? || count != fds.len() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((serde_json::from_slice(&text)?, fds)))
}

/// Fills the buffer; false when the stream ends before its first byte.
async fn fill(stream: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<bool> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let (count, more) = stream
            .async_io(Interest::READABLE, || {
                havre_sys::net::recv_fds(stream.as_fd(), rest, MAX_FDS)
            })
            .await?;
        fds.extend(more);
        if count == 0 && filled == 0 {
            return Ok(false);
        }
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        filled += count;
    }
    Ok(true)
}
