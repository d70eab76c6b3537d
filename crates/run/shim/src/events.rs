//! Task events for containerd: sent without waiting, kept until they are acknowledged, sent again on a new connection.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use havre_shim_proto::events::{ForwardRequest, METHOD_FORWARD, SERVICE, TaskEvent};
use havre_shim_proto::frame::{Frame, FrameDecoder, FrameType};
use havre_shim_proto::rpc::Request;
use havre_types::Timestamp;
use prost::Message as _;
use rustix::io::{self, Errno};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to, socket_with,
};

use crate::buffer::Outbox;
use crate::error::note;
use crate::poll::{Interest, Poll, READ, Token, WRITE};
use crate::server::Server;

/// Events kept for a containerd that does not answer; older ones are given up.
const PENDING: usize = 128;
/// Bytes that may lie unsent before the connection is given up.
const UNSENT: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Publisher {
    address: PathBuf,
    connection: Option<Connection>,
    last_stream: u32,
    /// Not acknowledged: stream number and frame.
    pending: VecDeque<(u32, Vec<u8>)>,
    /// Some were given up since containerd last took one: it is said once.
    gave_up: bool,
}

#[derive(Debug)]
struct Connection {
    fd: OwnedFd,
    decoder: FrameDecoder,
    outbox: Outbox,
    interest: Interest,
}

impl Server {
    /// Publishes an event if somebody wants events.
    pub(crate) fn publish(&mut self, event: &impl TaskEvent) {
        let Some(publisher) = &mut self.publisher else {
            return;
        };
        let envelope = event.envelope(&self.options.namespace, Timestamp::now().into());
        publisher.publish(
            &self.poll,
            &ForwardRequest {
                envelope: Some(envelope),
            },
        );
    }
}

/// Connects without waiting: a containerd that accepts nobody is refused, not waited for.
fn connect(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect_to(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(fd)
}

impl Publisher {
    pub(crate) const fn new(address: PathBuf) -> Self {
        Self {
            address,
            connection: None,
            last_stream: 0,
            pending: VecDeque::new(),
            gave_up: false,
        }
    }

    fn publish(&mut self, poll: &Poll, event: &ForwardRequest) {
        let request = Request {
            service: SERVICE.to_owned(),
            method: METHOD_FORWARD.to_owned(),
            payload: event.encode_to_vec(),
            timeout_nano: 0,
            metadata: Vec::new(),
        };
        let stream = self.last_stream.wrapping_add(2) | 1;
        self.last_stream = stream;
        let kind = FrameType::Request;
        let mut bytes = Vec::new();
        if (Frame {
            stream,
            kind,
            flags: 0,
            data: request.encode_to_vec(),
        })
        .encode(&mut bytes)
        .is_err()
        {
            return note("an event is too long to be published");
        }
        if self.pending.len() == PENDING {
            if !self.gave_up {
                note("containerd takes no events: the oldest are given up");
            }
            self.gave_up = true;
            self.pending.pop_front();
        }
        self.pending.push_back((stream, bytes.clone()));
        match &mut self.connection {
            Some(connection) if connection.outbox.len() < UNSENT => connection.outbox.push(&bytes),
            // It does not read: begins anew with what is worth keeping.
            Some(_) | None => self.connect(),
        }
        self.flush(poll);
    }

    /// A new connection gets everything that is pending.
    fn connect(&mut self) {
        match connect(&self.address) {
            Ok(fd) => {
                let mut outbox = Outbox::default();
                for (_, bytes) in &self.pending {
                    outbox.push(bytes);
                }
                self.connection = Some(Connection {
                    fd,
                    decoder: FrameDecoder::default(),
                    outbox,
                    interest: Interest::default(),
                });
            }
            Err(error) => {
                self.connection = None;
                note(&format!(
                    "failed to connect to containerd's events: {error}"
                ));
            }
        }
    }

    /// The connection is readable or writable.
    pub(crate) fn ready(&mut self, poll: &Poll) {
        let mut buffer = [0; 512];
        while let Some(connection) = &mut self.connection {
            match rustix::io::read(&connection.fd, &mut buffer) {
                Ok(0) => self.connection = None,
                Ok(count) => {
                    connection
                        .decoder
                        .push(buffer.get(..count).unwrap_or_default());
                    self.acknowledge();
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.connection = None,
            }
        }
        self.flush(poll);
    }

    fn acknowledge(&mut self) {
        while let Some(connection) = &mut self.connection {
            match connection.decoder.next_frame() {
                // Refused or accepted: containerd has had it.
                Ok(Some(frame)) => {
                    self.pending.retain(|(stream, _)| *stream != frame.stream);
                    self.gave_up = false;
                }
                Ok(None) => return,
                Err(_) => self.connection = None,
            }
        }
    }

    fn flush(&mut self, poll: &Poll) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if connection.outbox.flush(&connection.fd).is_err() {
            self.connection = None;
            return;
        }
        let wanted = if connection.outbox.is_empty() {
            READ
        } else {
            READ | WRITE
        };
        poll.watch(
            &connection.fd,
            Token::Events,
            &mut connection.interest,
            Some(wanted),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use havre_shim_proto::events::TaskPaused;

    use super::*;

    #[test]
    fn a_containerd_that_does_not_read_costs_bounded_memory_and_no_time() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("events");
        // Accepts nobody: connections fill the queue of the socket, and then are refused.
        let _listener = UnixListener::bind(&path).expect("a socket");
        let poll = Poll::new().expect("epoll");
        let mut publisher = Publisher::new(path);
        let long = "x".repeat(4 << 10);
        for _ in 0..100_000 {
            let event = TaskPaused {
                container_id: long.clone(),
            };
            let envelope = event.envelope("test", Timestamp::now().into());
            let request = ForwardRequest {
                envelope: Some(envelope),
            };
            publisher.publish(&poll, &request);
        }
        assert_eq!(publisher.pending.len(), PENDING);
        let unsent = publisher.connection.map_or(0, |c| c.outbox.len());
        assert!(unsent <= UNSENT + PENDING * 5000, "{unsent}");
    }
}
