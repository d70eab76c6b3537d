//! A container's input and output on this program's: one thread reads the connection and writes standard output and
//! error, another reads standard input and writes the connection. Threads, because standard streams block, and a
//! full pipe on one side must not stop the other.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use havre_client::Hijacked;
use havre_client::stdcopy::{Demux, HeaderError, Stream};
use rustix::net::{Shutdown, shutdown};
use tokio::sync::oneshot;

use crate::detach_keys::DetachKeys;
use crate::failure::{Failure, Outcome};
use crate::terminal::RawMode;

const CHUNK: usize = 64 * 1024;

/// Whether the stream belongs to a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Output is one raw stream; the local terminal is made raw.
    Terminal,
    /// Output is multiplexed.
    Pipes,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The engine closed the stream: the process has ended.
    Output,
    /// The user pressed the keys.
    Detached,
}

/// A running session. Dropping it restores the terminal.
#[derive(Debug)]
pub(crate) struct Session {
    output: oneshot::Receiver<Result<(), StreamError>>,
    detached: Option<oneshot::Receiver<()>>,
    raw: RawMode,
}

#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("failed to copy the container's output")]
    Io(#[from] io::Error),
}

/// Starts to copy. `input` is false when standard input stays out of it.
pub(crate) fn start(
    hijacked: Hijacked,
    kind: Kind,
    input: bool,
    keys: DetachKeys,
) -> Outcome<Session> {
    let Hijacked {
        socket,
        early,
        multiplexed,
    } = hijacked;
    let raw = if kind == Kind::Terminal && input {
        RawMode::set().map_err(|error| {
            Failure::new(format!("unable to set IO streams as raw terminal: {error}"))
        })?
    } else {
        RawMode::set_nothing()
    };
    let socket = Arc::new(socket);
    let multiplexed = multiplexed.unwrap_or(kind == Kind::Pipes);
    let (output_done, output) = oneshot::channel();
    let reader = Arc::clone(&socket);
    thread::spawn(move || {
        // The session may be gone: the user detached.
        output_done
            .send(copy_output(reader.as_fd(), &early, multiplexed))
            .ok();
    });
    let detached = input.then(|| {
        let (pressed, detached) = oneshot::channel();
        let keys = (kind == Kind::Terminal).then_some(keys);
        thread::spawn(move || {
            if copy_input(socket.as_fd(), keys) == Ended::Detached {
                pressed.send(()).ok();
            }
        });
        detached
    });
    Ok(Session {
        output,
        detached,
        raw,
    })
}

impl Session {
    /// Waits for the end of the output, or for the keys.
    pub(crate) async fn wait(&mut self) -> Outcome<Ended> {
        let detached = async {
            let pressed = match self.detached.as_mut() {
                Some(detached) => detached.await.is_ok(),
                None => false,
            };
            if !pressed {
                // Input that ended without the keys leaves only the output to wait for.
                std::future::pending::<()>().await;
            }
        };
        let outcome = tokio::select! {
            biased;
            output = &mut self.output => output,
            () = detached => return Ok(Ended::Detached),
        };
        match outcome {
            Ok(Ok(())) => Ok(Ended::Output),
            Ok(Err(error)) => Err(Failure::new(havre_types::chain(&error))),
            Err(_thread_gone) => Err(Failure::new("the container's output was lost")),
        }
    }

    /// Gives the terminal back before anything is printed.
    pub(crate) fn restore_terminal(&mut self) {
        self.raw = RawMode::set_nothing();
    }
}

fn copy_output(
    socket: BorrowedFd<'_>,
    early: &Bytes,
    multiplexed: bool,
) -> Result<(), StreamError> {
    let mut demux = Demux::default();
    let mut pass = |bytes: &[u8]| {
        if !multiplexed {
            return write_all(rustix::stdio::stdout(), bytes).map_err(StreamError::from);
        }
        demux.push(bytes, |stream, piece| {
            let fd = match stream {
                Stream::Stdout => rustix::stdio::stdout(),
                Stream::Stderr | Stream::System => rustix::stdio::stderr(),
            };
            write_all(fd, piece).map_err(StreamError::from)
        })
    };
    pass(early)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match read(socket, &mut buffer)? {
            0 => return Ok(()),
            n => pass(&buffer[..n])?,
        }
    }
}

/// Copies until the end of input, which the engine is told, or the keys.
fn copy_input(socket: BorrowedFd<'_>, mut keys: Option<DetachKeys>) -> Ended {
    let mut buffer = vec![0; CHUNK];
    let mut passed = Vec::new();
    while let Ok(n) = read(rustix::stdio::stdin(), &mut buffer) {
        if n == 0 {
            break;
        }
        let mut bytes = &buffer[..n];
        let mut detached = false;
        if let Some(keys) = &mut keys {
            passed.clear();
            detached = keys.feed(bytes, &mut passed);
            bytes = &passed;
        }
        // The reading side reports a broken connection.
        if write_all(socket, bytes).is_err() {
            return Ended::Output;
        }
        if detached {
            return Ended::Detached;
        }
    }
    shutdown(socket, Shutdown::Write).ok();
    Ended::Output
}

fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(fd, &mut *buffer) {
            Ok(n) => return Ok(n),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_for(fd, rustix::event::PollFlags::IN)?,
            // How the other end of a terminal or of a connection goes away.
            Err(rustix::io::Errno::IO | rustix::io::Errno::CONNRESET) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_for(fd, rustix::event::PollFlags::OUT)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Standard streams may be non-blocking because somebody else who shares them made them so.
fn wait_for(fd: BorrowedFd<'_>, flags: rustix::event::PollFlags) -> io::Result<()> {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, flags)];
    match rustix::event::poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
