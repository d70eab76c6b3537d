//! Attached clients, and the named pipes of containerd as clients of a simpler kind. A client that does not read
//! holds back its process only when its buffer is full, and nothing else ever.

use std::os::fd::OwnedFd;
use std::time::Instant;

use havre_shim_proto::attach::{
    AttachReply, AttachRequest, HEADER_LEN, LINE_LIMIT, Stream, header, parse_header,
};
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::buffer::Outbox;
use crate::error::Failure;
use crate::poll::{Interest, READ, Token, WRITE};
use crate::process::Stage;
use crate::server::Server;
use crate::stdio::{CLIENT_COMES, keeper, sink, source};

/// Output that a client may leave unread before its process is held back.
pub(crate) const OUTPUT_LIMIT: usize = 256 << 10;
/// Reads of one client before others get their turn.
const TURNS: usize = 16;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Has not said yet what it wants.
    Greeting,
    /// Frames both ways; so many bytes of the current one are still to come.
    Frames { left: usize },
    /// Bytes into a pipe that others read.
    Sink,
    /// Bytes out of a pipe that others write.
    Source,
}

#[derive(Debug)]
pub(crate) struct Client {
    fd: OwnedFd,
    manner: Manner,
    /// Place of its process; none before the greeting and after the end of the process.
    pub(crate) process: Option<usize>,
    /// Wants standard output, standard error.
    wants: [bool; 2],
    /// Feeds standard input.
    pub(crate) feeds: bool,
    /// The client will send nothing more.
    silent: bool,
    /// Begun line or header.
    inbox: Vec<u8>,
    outbox: Outbox,
    interest: Interest,
    /// Keeps a pipe of containerd from ending with its client.
    keeper: Option<OwnedFd>,
}

impl Client {
    fn new(fd: OwnedFd, manner: Manner) -> Self {
        Self {
            fd,
            manner,
            process: None,
            wants: [false; 2],
            feeds: false,
            silent: false,
            inbox: Vec::new(),
            outbox: Outbox::default(),
            interest: Interest::default(),
            keeper: None,
        }
    }

    /// Whether it gets what process `at` writes to stream `which`.
    pub(crate) fn hears(&self, at: usize, which: usize) -> bool {
        self.process == Some(at) && self.wants.get(which).copied().unwrap_or(false)
    }

    /// Bytes that it has not read yet.
    pub(crate) fn unread(&self) -> usize {
        self.outbox.len()
    }

    /// Sends output; false when the client is gone.
    pub(crate) fn give(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let sent = match self.manner {
            Manner::Sink => self.outbox.send(&self.fd, &[bytes]),
            _ => self
                .outbox
                .send(&self.fd, &[&header(stream, length), bytes]),
        };
        sent.is_ok()
    }
}

impl Server {
    pub(crate) fn add_client(&mut self, fd: OwnedFd) {
        let at = self.clients.insert(Client::new(fd, Manner::Greeting));
        self.watch_client(at);
    }

    /// Opens the pipes that containerd named for process `at`.
    pub(crate) fn open_external(&mut self, at: usize) -> Result<(), Failure> {
        let Some(process) = self.task.as_ref().and_then(|task| task.processes.get(at)) else {
            return Ok(());
        };
        let asked = process.asked.clone();
        if !asked.stdin.is_empty() {
            self.add_external(
                at,
                Client {
                    feeds: true,
                    ..Client::new(source(&asked.stdin)?, Manner::Source)
                },
            );
        }
        let stderr = if asked.terminal {
            ""
        } else {
            asked.stderr.as_str()
        };
        let deadline = Instant::now() + CLIENT_COMES;
        for (name, wants) in [
            (asked.stdout.as_str(), [true, false]),
            (stderr, [false, true]),
        ] {
            if !name.is_empty() {
                self.add_external(
                    at,
                    Client {
                        wants,
                        ..Client::new(sink(name, deadline)?, Manner::Sink)
                    },
                );
            }
        }
        Ok(())
    }

    fn add_external(&mut self, process: usize, client: Client) {
        let at = self.clients.insert(Client {
            process: Some(process),
            ..client
        });
        self.watch_client(at);
    }

    /// Called right before process `at` starts. A client whose input has ended by then has said all; from then on
    /// only CloseIO ends it, because a client may leave and come back.
    ///
    /// `ctr run` with short input ends so early that it cannot call CloseIO yet, and never does.
    pub(crate) fn keep_sources(&mut self, process: usize) -> Result<(), Failure> {
        let Some(asked) = self
            .task
            .as_ref()
            .and_then(|task| task.processes.get(process))
        else {
            return Ok(());
        };
        let name = asked.asked.stdin.clone();
        for (_, client) in self.clients.iter_mut() {
            if client.process != Some(process) || client.manner != Manner::Source {
                continue;
            }
            let mut fds = [PollFd::new(&client.fd, PollFlags::empty())];
            let polled = poll(&mut fds, Some(&Timespec::default()));
            // Hung up means that a writer was there and has left; before the first one it is not.
            let ended =
                polled.is_ok() && fds.iter().any(|fd| fd.revents().contains(PollFlags::HUP));
            if !ended && !client.silent {
                client.keeper = Some(keeper(&name)?);
            }
        }
        Ok(())
    }

    /// Whether somebody attached will feed process `at`.
    pub(crate) fn has_input_client(&self, at: usize) -> bool {
        self.clients
            .iter()
            .any(|(_, client)| client.process == Some(at) && client.feeds)
    }

    pub(crate) fn client_ready(&mut self, at: usize, flags: EventFlags) {
        if flags.contains(WRITE) {
            self.client_flush(at);
        }
        let hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if self
            .clients
            .get(at)
            .is_some_and(|client| hung_up && client.silent)
        {
            // It can neither speak nor hear any more.
            return self.drop_client(at);
        }
        self.client_read(at);
    }

    fn client_read(&mut self, at: usize) {
        self.client_read_some(at, TURNS);
        self.watch_client(at);
    }

    /// Reads so many times at most, so that a client that never pauses does not keep others waiting.
    fn client_read_some(&mut self, at: usize, turns: usize) {
        let mut buffer = [0; 8192];
        for _ in 0..turns {
            if !self.may_read(at) {
                return;
            }
            let Some(client) = self.clients.get(at) else {
                return;
            };
            match rustix::io::read(&client.fd, &mut buffer) {
                Ok(0) => self.client_silent(at),
                Ok(count) => {
                    let taken = self.client_bytes(at, buffer.get(..count).unwrap_or_default());
                    if !taken {
                        return self.drop_client(at);
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => return self.drop_client(at),
            }
        }
    }

    /// A client is not read further while its process does not take its input.
    fn may_read(&self, at: usize) -> bool {
        let Some(client) = self.clients.get(at) else {
            return false;
        };
        if client.silent || client.manner == Manner::Sink {
            return false;
        }
        !client.feeds
            || client
                .process
                .is_none_or(|process| self.takes_input(process))
    }

    /// Takes bytes of a client; false when it breaks the protocol.
    fn client_bytes(&mut self, at: usize, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(client) = self.clients.get_mut(at) else {
                return true;
            };
            match client.manner {
                Manner::Sink => return true,
                Manner::Source => {
                    if let Some(process) = client.process {
                        self.feed(process, rest);
                    }
                    return true;
                }
                Manner::Greeting => {
                    let end = rest.iter().position(|byte| *byte == b'\n');
                    let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
                    client.inbox.extend_from_slice(line);
                    if client.inbox.len() > LINE_LIMIT {
                        return false;
                    }
                    rest = after.get(1..).unwrap_or_default();
                    if end.is_some() {
                        self.greet(at);
                    }
                }
                Manner::Frames { left: 0 } => {
                    let missing = (HEADER_LEN - client.inbox.len()).min(rest.len());
                    let (head, after) = rest.split_at(missing);
                    client.inbox.extend_from_slice(head);
                    rest = after;
                    let Ok(head) = <[u8; HEADER_LEN]>::try_from(client.inbox.as_slice()) else {
                        continue;
                    };
                    client.inbox = Vec::new();
                    match parse_header(head) {
                        Ok((Stream::Stdin, 0)) => self.client_ends_input(at),
                        Ok((Stream::Stdin, left)) => client.manner = Manner::Frames { left },
                        Ok(_) | Err(_) => return false,
                    }
                }
                Manner::Frames { left } => {
                    let (data, after) = rest.split_at(left.min(rest.len()));
                    rest = after;
                    client.manner = Manner::Frames {
                        left: left - data.len(),
                    };
                    if let (Some(process), true) = (client.process, client.feeds) {
                        self.feed(process, data);
                    }
                }
            }
        }
        true
    }

    /// Answers the first line.
    fn greet(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        let line = std::mem::take(&mut client.inbox);
        let outcome = serde_json::from_slice::<AttachRequest>(&line)
            .map_err(|error| format!("invalid attach request: {error}"))
            .and_then(|request| {
                let process = self.attachable(&request.exec_id)?;
                Ok((process, request))
            });
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        let reply = match outcome {
            Ok((process, request)) => {
                client.process = Some(process);
                client.wants = [request.stdout, request.stderr];
                client.feeds = request.stdin;
                client.manner = Manner::Frames { left: 0 };
                AttachReply::default()
            }
            Err(error) => {
                client.silent = true;
                AttachReply { error: Some(error) }
            }
        };
        let mut text = serde_json::to_vec(&reply).unwrap_or_default();
        text.push(b'\n');
        if client.outbox.send(&client.fd, &[&text]).is_err() || reply.error.is_some() {
            self.drop_client(at);
        }
    }

    fn attachable(&self, exec_id: &str) -> Result<usize, String> {
        let task = self.task().map_err(|failure| failure.message)?;
        let at = task.find(exec_id).map_err(|failure| failure.message)?;
        match task.processes.get(at).map(|process| process.stage) {
            Some(Stage::Added | Stage::Created | Stage::Running) => Ok(at),
            _ => Err(format!("container {} is not running", task.id)),
        }
    }

    /// The client has said that no more input comes.
    fn client_ends_input(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        let feeds = std::mem::replace(&mut client.feeds, false);
        let Some(process) = client.process.filter(|_| feeds) else {
            return;
        };
        // Without StdinOnce the next client may go on, as Docker has it.
        if self.stdin_once(process) {
            self.end_input(process);
        }
    }

    /// The client sends nothing more; it may still read.
    fn client_silent(&mut self, at: usize) {
        let source = self
            .clients
            .get(at)
            .filter(|client| client.manner == Manner::Source);
        if let Some(process) = source.and_then(|client| client.process) {
            self.end_input(process);
            return drop(self.clients.remove(at));
        }
        self.client_ends_input(at);
        if let Some(client) = self.clients.get_mut(at) {
            client.silent = true;
        }
    }

    pub(crate) fn client_flush(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        if client.outbox.flush(&client.fd).is_err() {
            return self.drop_client(at);
        }
        if client.outbox.is_empty() && client.process.is_none() && client.manner != Manner::Greeting
        {
            // Its process has ended and it has everything.
            return self.drop_client(at);
        }
        if let Some(process) = client
            .process
            .filter(|_| client.outbox.len() < OUTPUT_LIMIT / 2)
        {
            self.resume_output(process);
        }
        self.watch_client(at);
    }

    pub(crate) fn watch_client(&mut self, at: usize) {
        let reads = self.may_read(at);
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        let mut flags = EventFlags::empty();
        flags.set(READ, reads);
        flags.set(WRITE, !client.outbox.is_empty());
        // With nothing to do a hang-up would be reported for ever, unless it is what we wait for.
        let awaits_hang_up = client.silent && client.manner != Manner::Sink;
        let wanted = (!flags.is_empty() || awaits_hang_up).then_some(flags);
        self.poll
            .watch(&client.fd, Token::Client(at), &mut client.interest, wanted);
    }

    /// Reads what is in the input pipe of containerd before its end is taken as said.
    pub(crate) fn drain_external_input(&mut self, process: usize) {
        let mut sources = self.clients.iter().filter(|(_, client)| {
            client.process == Some(process) && client.manner == Manner::Source
        });
        if let Some((at, _)) = sources.next() {
            drop(sources);
            self.client_read_some(at, usize::MAX);
            self.watch_client(at);
        }
    }

    /// The process takes input again: lets its clients go on.
    pub(crate) fn resume_clients(&mut self, process: usize) {
        for at in self.clients.numbers() {
            if self
                .clients
                .get(at)
                .is_some_and(|c| c.process == Some(process) && c.feeds)
            {
                self.watch_client(at);
            }
        }
    }

    /// Lets go of the clients of a process that has ended, once they have read everything.
    pub(crate) fn release_clients(&mut self, process: usize) {
        for at in self.clients.numbers() {
            let Some(client) = self
                .clients
                .get_mut(at)
                .filter(|c| c.process == Some(process))
            else {
                continue;
            };
            client.process = None;
            client.feeds = false;
            if client.manner == Manner::Source {
                self.drop_client(at);
            } else {
                self.client_flush(at);
            }
        }
    }

    pub(crate) fn drop_client(&mut self, at: usize) {
        self.client_ends_input(at);
        let Some(client) = self.clients.remove(at) else {
            return;
        };
        if let Some(process) = client.process {
            // It may have been the one that held back the process.
            self.resume_output(process);
        }
    }
}
