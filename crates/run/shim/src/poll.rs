//! What the shim waits for, and which of it is ready. Level-triggered: a source that is not read to its end is
//! reported again.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

/// Events taken at once.
const BATCH: usize = 16;

/// A source of events; the number is its place in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The listening socket of the Task API.
    TaskListener,
    /// The listening socket for attached clients.
    AttachListener,
    /// A child has changed.
    Signals,
    /// The connection to containerd's event service.
    Events,
    /// A caller of the Task API.
    Caller(usize),
    /// An attached client or a pipe of containerd.
    Client(usize),
    /// Standard output of a process.
    Stdout(usize),
    /// Standard error of a process.
    Stderr(usize),
    /// Standard input of a process.
    Stdin(usize),
    /// The helper that delivers the log.
    Log,
}

impl Token {
    fn to_data(self) -> EventData {
        let (kind, index): (u64, usize) = match self {
            Self::TaskListener => (0, 0),
            Self::AttachListener => (1, 0),
            Self::Signals => (2, 0),
            Self::Events => (3, 0),
            Self::Caller(index) => (4, index),
            Self::Client(index) => (5, index),
            Self::Stdout(index) => (6, index),
            Self::Stderr(index) => (7, index),
            Self::Stdin(index) => (8, index),
            Self::Log => (9, 0),
        };
        EventData::new_u64(kind << 32 | u64::try_from(index).unwrap_or(0))
    }

    fn from_data(data: EventData) -> Option<Self> {
        let data = data.u64();
        let index = usize::try_from(data & 0xffff_ffff).ok()?;
        Some(match data >> 32 {
            0 => Self::TaskListener,
            1 => Self::AttachListener,
            2 => Self::Signals,
            3 => Self::Events,
            4 => Self::Caller(index),
            5 => Self::Client(index),
            6 => Self::Stdout(index),
            7 => Self::Stderr(index),
            8 => Self::Stdin(index),
            9 => Self::Log,
            _ => return None,
        })
    }
}

/// What one descriptor is watched for at the moment.
#[derive(Debug, Default)]
pub(crate) struct Interest(Option<EventFlags>);

/// Readable.
pub(crate) const READ: EventFlags = EventFlags::IN;
/// Writable.
pub(crate) const WRITE: EventFlags = EventFlags::OUT;

#[derive(Debug)]
pub(crate) struct Poll(OwnedFd);

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Changes what `fd` is watched for. `None` stops watching; an empty set still tells of a hang-up.
    pub(crate) fn watch(
        &self,
        fd: impl AsFd,
        token: Token,
        interest: &mut Interest,
        wanted: Option<EventFlags>,
    ) {
        let data = token.to_data();
        let outcome = match (interest.0, wanted) {
            (now, wanted) if now == wanted => return,
            (Some(_), None) => epoll::delete(&self.0, fd),
            (Some(_), Some(flags)) => epoll::modify(&self.0, fd, data, flags),
            (None, Some(flags)) => epoll::add(&self.0, fd, data, flags),
            (None, None) => return,
        };
        // Fails for want of memory, and for a regular file given as stdin or stdout, which is always ready.
        if outcome.is_ok() {
            interest.0 = wanted;
        }
    }

    /// Waits for events, at most until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<Vec<(Token, EventFlags)>> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(timespec);
        let mut space = [MaybeUninit::uninit(); BATCH];
        let (events, _) = match epoll::wait(&self.0, &mut space, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        let ready = events.iter().filter_map(|event| {
            let (data, flags) = (event.data, event.flags);
            Some((Token::from_data(data)?, flags))
        });
        Ok(ready.collect())
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
