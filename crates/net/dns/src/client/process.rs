//! The companion as a process: its directory, its control socket, its start and its end.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net;
use std::path::Path;

use havre_sys::process::Child;
use havre_sys::spawn::{Program, Spawn};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use tokio::net::UnixStream;

use crate::protocol::SOCKET;
use crate::readiness;

/// The descriptor at which the companion finds its control socket.
pub const LISTENER_FD: i32 = 3;
const LOG: &str = "net.log";

/// Waits for the end of a companion that this engine started, or it would stay as a zombie.
pub(super) async fn reap(child: Child) {
    if let Ok(pidfd) = child.pidfd.try_clone().and_then(readiness) {
        drop(pidfd.readable().await);
    }
    if let Err(error) = child.wait() {
        tracing::warn!(%error, "the network companion cannot be waited for");
    }
}

pub(super) fn end(child: &Child) {
    if let Err(error) = child.kill(Signal::KILL).and_then(|()| child.wait()) {
        tracing::warn!(%error, "a network companion that does not work cannot be ended");
    }
}

pub(super) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

pub(super) fn connect_at(dir: BorrowedFd<'_>) -> io::Result<UnixStream> {
    let socket = havre_sys::net::unix_connect_at(dir, OsStr::new(SOCKET))?;
    let stream = net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Binds the control socket and starts a companion on it, in a session of its own: it outlives the engine.
pub(super) fn start(dir: BorrowedFd<'_>, program: &Path) -> io::Result<Child> {
    match rustix::fs::unlinkat(dir, SOCKET, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mode = Mode::from_raw_mode(0o600);
    let listener = havre_sys::net::unix_listen_at(dir, OsStr::new(SOCKET), mode)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let log = rustix::fs::openat(dir, LOG, create | OFlags::NOFOLLOW, mode)?;
    let path = CString::new(program.as_os_str().as_bytes())?;
    Spawn::new(Program::Path(&path), vec![path.clone()])
        .cwd(dir)
        .fd(null.as_fd(), 0)
        .fd(null.as_fd(), 1)
        .fd(log.as_fd(), 2)
        .fd(listener.as_fd(), LISTENER_FD)
        .new_session()
        .spawn()
}
