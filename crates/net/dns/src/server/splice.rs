//! One direction of a relayed connection: the kernel moves the bytes from socket to pipe to socket, and no program reads them.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// At most so much is under way in one direction: the size of a pipe (man 7 pipe).
const CHUNK: usize = 64 * 1024;

/// Carries bytes until the source ends, then ends the other side's input too, and only that.
pub(super) async fn pump(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    loop {
        let mut left = take(from, &input).await?;
        if left == 0 {
            // The other side may be closed as a whole by now.
            return match shutdown(to, Shutdown::Write) {
                Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        while left > 0 {
            left -= give(&output, to, left).await?;
        }
    }
}

async fn take(from: &TcpStream, input: &OwnedFd) -> io::Result<usize> {
    // The pipe is empty here, so "would block" is the socket's.
    from.async_io(Interest::READABLE, || {
        Ok(splice(from.as_fd(), None, input, None, CHUNK, flags())?)
    })
    .await
}

async fn give(output: &OwnedFd, to: &TcpStream, left: usize) -> io::Result<usize> {
    let given = to
        .async_io(Interest::WRITABLE, || {
            Ok(splice(output, None, to.as_fd(), None, left, flags())?)
        })
        .await?;
    if given == 0 {
        return Err(ErrorKind::WriteZero.into());
    }
    Ok(given)
}

const fn flags() -> SpliceFlags {
    SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK)
}
