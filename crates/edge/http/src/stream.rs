//! A unix or TCP connection behind one type, and the question whether the client is gone altogether.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut as _, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tracing::debug;

/// How often a connection whose client closed its half is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often a client is looked at before it is taken to be slow: at once, then each millisecond.
const PATIENCE: u32 = 200;
const HASTE: u32 = 50;

/// How much is read at once.
const READ: usize = 32 * 1024;

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Returns when nobody can read any more what is written here.
    ///
    /// The end of the client's data does not tell: `docker run` without `-i` closes its half and still
    /// reads. The kernel reports a hang-up only by poll, and tokio cannot wait for it alone, hence the
    /// clock; it ticks only for such half-closed connections.
    pub(crate) async fn gone(&self) {
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            if self.hung_up() {
                return;
            }
        }
    }

    /// Returns when the client has read what was written, or does not within [`PATIENCE`] looks.
    ///
    /// The kernel has no event for it; a client that waits for an answer reads it within the first looks.
    pub(crate) async fn taken(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        for look in 0..PATIENCE {
            // A socket that cannot tell is as good as one that was read.
            if havre_sys::net::all_taken(self.as_fd()).unwrap_or(true) {
                return;
            }
            if look < HASTE {
                tokio::task::yield_now().await;
            } else {
                ticks.tick().await;
            }
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }

    /// Reads what is there, at most 32 KiB; zero bytes are the end.
    pub(crate) async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            match self {
                Self::Unix(stream) => stream.readable().await?,
                Self::Tcp(stream) => stream.readable().await?,
            }
            buffer.reserve(READ);
            let mut space = buffer.limit(READ);
            let result = match self {
                Self::Unix(stream) => stream.try_read_buf(&mut space),
                Self::Tcp(stream) => stream.try_read_buf(&mut space),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// Writes all of `bytes`. Needs no exclusive access, so that both directions run at once; there is
    /// one writer.
    pub(crate) async fn write(&self, mut bytes: impl Buf) -> io::Result<()> {
        while bytes.has_remaining() {
            let result = {
                let mut parts = [io::IoSlice::new(&[]); 2];
                let count = bytes.chunks_vectored(&mut parts);
                let parts = parts.get(..count).unwrap_or_default();
                match self {
                    Self::Unix(stream) => stream.try_write_vectored(parts),
                    Self::Tcp(stream) => stream.try_write_vectored(parts),
                }
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self {
                    Self::Unix(stream) => stream.writable().await?,
                    Self::Tcp(stream) => stream.writable().await?,
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the client that nothing more comes.
    pub(crate) fn close_write(&self) {
        let result = match self {
            Self::Unix(stream) => shutdown(stream, Shutdown::Write),
            Self::Tcp(stream) => shutdown(stream, Shutdown::Write),
        };
        if let Err(error) = result {
            debug!(%error, "the client is gone already");
        }
    }

    fn hung_up(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now)).is_err()
            || fds
                .iter()
                .any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
