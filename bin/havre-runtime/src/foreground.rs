//! Being the parent of a process in the foreground: its terminal, its signals, its exit status.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use havre_sys::net;
use havre_sys::process::Child;
use havre_sys::signal::{SignalFd, from_raw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{
    OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// Signals that are passed on to the container.
const FORWARDED: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TERM,
    Signal::CONT,
    Signal::WINCH,
];

/// How soon a terminal that nobody had open is looked at again.
const AGAIN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Hands the master side of a terminal to whoever listens at the path, as runc does: one message
/// with the name and the descriptor.
pub(crate) fn send_console(path: &Path, master: BorrowedFd<'_>) -> Result<()> {
    let describe = || format!("failed to send the terminal to `{}`", path.display());
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .with_context(describe)?;
    let address = SocketAddrUnix::new(path).with_context(describe)?;
    connect(&socket, &address).with_context(describe)?;
    net::send_fds(socket.as_fd(), b"/dev/ptmx", &[master]).with_context(describe)?;
    Ok(())
}

/// Waits for the process while its terminal, if it has one, is that of this command.
pub(crate) fn attend(child: &Child, master: Option<OwnedFd>) -> Result<i32> {
    let signals = SignalFd::new(&FORWARDED).context("failed to take over the signals")?;
    let relay = master
        .map(Relay::new)
        .transpose()
        .context("failed to set up the terminal")?;
    let mut input = relay.is_some();
    // Nobody has the terminal open, which poll would report for ever; somebody may open it again.
    let mut closed = false;
    loop {
        let mut fds = vec![
            PollFd::new(&child.pidfd, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        if let Some(relay) = &relay {
            let master = if closed {
                child.pidfd.as_fd()
            } else {
                relay.master.as_fd()
            };
            fds.push(PollFd::from_borrowed_fd(master, PollFlags::IN));
            if input {
                fds.push(PollFd::from_borrowed_fd(stdin(), PollFlags::IN));
            }
        }
        match poll(&mut fds, closed.then_some(&AGAIN)) {
            Err(Errno::INTR) => continue,
            other => other.context("failed to wait for the container")?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let is_ready = |index: usize| ready.get(index).copied().unwrap_or(false);
        if is_ready(1) {
            forward(&signals, child, relay.as_ref())?;
        }
        if let Some(relay) = &relay {
            if is_ready(3) {
                input = copy(stdin(), relay.master.as_fd());
            }
            if closed || is_ready(2) {
                closed = !copy(relay.master.as_fd(), stdout());
            }
        }
        if is_ready(0) {
            if let Some(relay) = &relay {
                relay.drain();
            }
            return Ok(child
                .wait()
                .context("failed to wait for the container")?
                .status());
        }
    }
}

fn forward(signals: &SignalFd, child: &Child, relay: Option<&Relay>) -> Result<()> {
    while let Some(info) = signals.read().context("failed to read a signal")? {
        let Some(signal) = from_raw(info.signal) else {
            continue;
        };
        match relay {
            Some(relay) if signal == Signal::WINCH => relay.resize(),
            _ => match pidfd_send_signal(&child.pidfd, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error).context("failed to pass on a signal"),
            },
        }
    }
    Ok(())
}

/// Copies what is there. False if the source has ended.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 8192];
    let count = match read(from, &mut buffer) {
        // The other side of a terminal is closed.
        Ok(0) | Err(Errno::IO) => return false,
        Ok(count) => count,
        Err(_nothing_now) => return true,
    };
    let mut rest = buffer.get(..count).unwrap_or_default();
    while !rest.is_empty() {
        match write(to, rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                if poll(&mut fds, None).is_err() {
                    return false;
                }
            }
            Err(_closed) => return false,
        }
    }
    true
}

/// Our terminal in raw mode beside the container's.
struct Relay {
    master: OwnedFd,
    before: Option<Termios>,
}

impl Relay {
    fn new(master: OwnedFd) -> std::io::Result<Self> {
        let mut before = None;
        if isatty(stdin()) {
            let own = tcgetattr(stdin())?;
            let mut raw = own.clone();
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Now, &raw)?;
            before = Some(own);
        }
        let relay = Self { master, before };
        relay.resize();
        let flags = fcntl_getfl(&relay.master)?;
        fcntl_setfl(&relay.master, flags | OFlags::NONBLOCK)?;
        Ok(relay)
    }

    /// Gives the container's terminal the size of ours, if ours has one.
    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(stdin())
            && tcsetwinsize(&self.master, size).is_err()
        {
            // A terminal that has just gone.
        }
    }

    /// Copies what the process wrote before it ended.
    fn drain(&self) {
        let now = Timespec::default();
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        while matches!(poll(&mut fds, Some(&now)), Ok(count) if count > 0)
            && fds.iter().any(|fd| fd.revents().contains(PollFlags::IN))
            && copy(self.master.as_fd(), stdout())
        {}
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && tcsetattr(stdin(), OptionalActions::Now, before).is_err()
        {
            // The terminal has gone.
        }
    }
}
