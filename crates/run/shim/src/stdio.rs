//! The descriptors between a process and the outside: pipes of its own, and the named pipes of containerd.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use havre_runtime_core::StdioSpec;
use havre_types::ErrorKind;
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::io::{self, Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::Failure;

/// How long a client of containerd may take to open its sides of the pipes. The task waits with it.
pub(crate) const CLIENT_COMES: Duration = Duration::from_secs(2);
/// How often it is looked for.
const CLIENT_ASKED: Duration = Duration::from_millis(1);

/// Our ends of a process's streams. Never blocking.
#[derive(Debug, Default)]
pub(crate) struct OurEnds {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

impl OurEnds {
    /// Of a terminal: one side for both directions.
    pub(crate) fn terminal(master: OwnedFd) -> Result<Self, Failure> {
        nonblocking(&master).map_err(|error| Failure::internal("set up the terminal", error))?;
        let stdin = fcntl_dupfd_cloexec(&master, 3)
            .map_err(|error| Failure::internal("copy the terminal's descriptor", error))?;
        Ok(Self {
            stdin: Some(stdin),
            stdout: Some(master),
            stderr: None,
        })
    }
}

/// Where standard input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// Nowhere: `/dev/null`.
    Null,
    /// A pipe that clients feed.
    Open,
}

impl Stdin {
    pub(crate) const fn from_wish(open: bool) -> Self {
        if open { Self::Open } else { Self::Null }
    }
}

/// Makes pipes.
pub(crate) fn pipes(stdin: Stdin) -> Result<(OurEnds, StdioSpec), Failure> {
    let failed = |error: io::Errno| Failure::internal("make the pipes of the process", error);
    let (our_out, stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (our_err, stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (stdin, our_in) = if stdin == Stdin::Open {
        let (stdin, ours) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        (stdin, Some(ours))
    } else {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        (
            open("/dev/null", flags, Mode::empty()).map_err(failed)?,
            None,
        )
    };
    // Only our ends: a program that finds its own streams non-blocking loses output.
    for fd in [Some(&our_out), Some(&our_err), our_in.as_ref()]
        .into_iter()
        .flatten()
    {
        nonblocking(fd).map_err(failed)?;
    }
    let ours = OurEnds {
        stdin: our_in,
        stdout: Some(our_out),
        stderr: Some(our_err),
    };
    Ok((
        ours,
        StdioSpec::Fds {
            stdin,
            stdout,
            stderr,
        },
    ))
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    // Status flags of a new pipe or terminal end: its access mode, which this call does not touch.
    fcntl_setfl(fd, OFlags::NONBLOCK)
}

/// Opens a stream that containerd names for output: a named pipe, or `file://` for appending. Both directions of a
/// pipe are opened, so that a client that leaves does not break it.
pub(crate) fn sink(name: &str, deadline: Instant) -> Result<OwnedFd, Failure> {
    match name.split_once("://") {
        None => open_read_pipe(name, deadline),
        Some(("fifo", path)) => open_read_pipe(path, deadline),
        Some(("file", path)) => open_stream(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE),
        Some((scheme, _)) => Err(unsupported(scheme)),
    }
}

/// Opens a named pipe once somebody reads it: what a pipe holds is gone when the last side closes, so a program that
/// ends before its client has come would have said nothing. A client that never comes is not waited for any longer.
#[expect(
    clippy::disallowed_methods,
    reason = "no event tells that somebody opens a pipe"
)]
fn open_read_pipe(path: &str, deadline: Instant) -> Result<OwnedFd, Failure> {
    // Opening to write alone fails with ENXIO while there is no reader (fifo(7)).
    let access = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let writer = loop {
        match open(path, access, Mode::empty()) {
            Err(Errno::NXIO) if Instant::now() < deadline => thread::sleep(CLIENT_ASKED),
            opened => break opened,
        }
    };
    let both = open_stream(path, OFlags::RDWR);
    // Not a moment without a writer: the reader would take it for the end.
    drop(writer);
    both
}

/// Opens the named pipe that containerd names for input.
pub(crate) fn source(name: &str) -> Result<OwnedFd, Failure> {
    open_stream(pipe_path(name)?, OFlags::RDONLY)
}

/// Opens the other side of a [`source`], so that a client that leaves is not the end of input: CloseIO is.
pub(crate) fn keeper(name: &str) -> Result<OwnedFd, Failure> {
    open_stream(pipe_path(name)?, OFlags::WRONLY)
}

fn pipe_path(name: &str) -> Result<&str, Failure> {
    match name.split_once("://") {
        None => Ok(name),
        Some(("fifo", path)) => Ok(path),
        Some((scheme, _)) => Err(unsupported(scheme)),
    }
}

fn unsupported(scheme: &str) -> Failure {
    let message = format!("streams of the kind `{scheme}://` are not supported");
    Failure::new(ErrorKind::NotImplemented, message)
}

fn open_stream(path: &str, access: OFlags) -> Result<OwnedFd, Failure> {
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    open(path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| Failure::internal(&format!("open stream `{path}`"), error))
}
