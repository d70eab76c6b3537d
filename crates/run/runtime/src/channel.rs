//! The conversation between the runtime and the process that becomes the container.
//!
//! A pair of sequenced-packet sockets: each message arrives whole, and the end of the stream
//! means that the program was executed (the socket is close-on-exec) or that the process died.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use havre_sys::net::{recv_fds, send_fds};
use havre_sys::process::Child;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;

use crate::error::RuntimeError;

/// The longest message: an error with a path and the last output of a hook.
const MESSAGE_MAX: usize = 16 * 1024;

/// From the child.
#[derive(Debug)]
pub(crate) enum FromChild {
    /// Wants its user and group mappings written.
    NeedMappings,
    /// The file systems are in place: the hooks before pivot_root may run.
    NeedHooks,
    /// The terminal's master side.
    Console(OwnedFd),
    /// The process that the next words come from.
    Born(Child),
    /// Set up; waits at the gate.
    Ready,
    /// Gave up.
    Failed(RuntimeError),
    /// The other end is closed.
    End,
}

const MAPPINGS: u8 = b'm';
const HOOKS: u8 = b'h';
const CONSOLE: u8 = b'c';
const BORN: u8 = b'b';
const READY: u8 = b'r';
const FAILED: u8 = b'f';
const GO: u8 = b'g';

fn born(body: &[u8]) -> Option<Pid> {
    Pid::from_raw(i32::from_ne_bytes(body.try_into().ok()?))
}

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// The two ends: the runtime's and the child's.
pub(crate) fn pair() -> io::Result<(Channel, Channel)> {
    let (a, b) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((Channel(a), Channel(b)))
}

impl Channel {
    pub(crate) const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Its number, which the process on this end must keep.
    pub(crate) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn send(&self, kind: u8, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut message = Vec::with_capacity(body.len() + 1);
        message.push(kind);
        message.extend_from_slice(body.get(..MESSAGE_MAX - 1).unwrap_or(body));
        loop {
            match send_fds(self.0.as_fd(), &message, fds) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }

    fn receive(&self) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
        let mut buffer = vec![0; MESSAGE_MAX];
        loop {
            match recv_fds(self.0.as_fd(), &mut buffer, 1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A stream socket whose other end was closed with unread data.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok((Vec::new(), None));
                }
                Err(error) => return Err(error),
                Ok((count, mut fds)) => {
                    buffer.truncate(count);
                    return Ok((buffer, fds.pop()));
                }
            }
        }
    }

    // === the runtime's side ===

    /// The next thing that the child says.
    pub(crate) fn hear(&self) -> io::Result<FromChild> {
        let (message, fd) = self.receive()?;
        Ok(match (message.split_first(), fd) {
            (None, _) => FromChild::End,
            (Some((&MAPPINGS, _)), _) => FromChild::NeedMappings,
            (Some((&HOOKS, _)), _) => FromChild::NeedHooks,
            (Some((&CONSOLE, _)), Some(fd)) => FromChild::Console(fd),
            (Some((&BORN, body)), Some(pidfd)) => match born(body) {
                Some(pid) => FromChild::Born(Child { pid, pidfd }),
                None => FromChild::Failed(RuntimeError::decode(&[])),
            },
            (Some((&READY, _)), _) => FromChild::Ready,
            (Some((&FAILED, body)), _) => FromChild::Failed(RuntimeError::decode(body)),
            (Some(_), _) => FromChild::Failed(RuntimeError::decode(&[])),
        })
    }

    /// Waits until the other end has said something or is closed; false when the time is up.
    pub(crate) fn await_word(&self, time: Duration) -> io::Result<bool> {
        self.await_event(PollFlags::IN, time)
    }

    /// Waits until the other end is closed; what was said before stays to be read. False when
    /// the time is up.
    pub(crate) fn await_end(&self, time: Duration) -> io::Result<bool> {
        // No event asked for: hang-up and errors are always reported.
        self.await_event(PollFlags::empty(), time)
    }

    fn await_event(&self, event: PollFlags, time: Duration) -> io::Result<bool> {
        let time = Timespec::try_from(time).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&self.0, event)];
        match poll(&mut fds, Some(&time)) {
            Err(Errno::INTR) => Ok(false),
            other => Ok(other? > 0),
        }
    }

    /// Lets the child go on.
    pub(crate) fn go(&self) -> io::Result<()> {
        self.send(GO, &[], &[])
    }

    // === the child's side ===

    pub(crate) fn need_mappings(&self) -> io::Result<()> {
        self.send(MAPPINGS, &[], &[])?;
        self.await_go()
    }

    pub(crate) fn need_hooks(&self) -> io::Result<()> {
        self.send(HOOKS, &[], &[])?;
        self.await_go()
    }

    pub(crate) fn console(&self, master: BorrowedFd<'_>) -> io::Result<()> {
        self.send(CONSOLE, &[], &[master])
    }

    pub(crate) fn born(&self, child: &Child) -> io::Result<()> {
        let pid = child.pid.as_raw_pid().to_ne_bytes();
        self.send(BORN, &pid, &[child.pidfd.as_fd()])
    }

    pub(crate) fn ready(&self) -> io::Result<()> {
        self.send(READY, &[], &[])
    }

    /// Waits for the other side; its end is an error, for there is nobody left to work for.
    pub(crate) fn await_go(&self) -> io::Result<()> {
        let (message, _fd) = self.receive()?;
        match message.first() {
            Some(&GO) => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reports the failure. Nobody may be listening any more, and then nothing is lost: the
    /// runtime sees the end of the stream and the exit status.
    pub(crate) fn fail(&self, error: &RuntimeError) {
        if self.send(FAILED, &error.encode(), &[]).is_err() {}
    }
}
