//! The connection under hyper. It reads ahead one request head at a time (see `head`), bounds the time
//! a head may take, and can be silenced so that whoever takes over the connection writes the answer's
//! head itself, byte for byte as Docker does. It never interprets anything after a head.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::head;
use crate::stream::Stream;

/// How long a client may take to send a head once it has begun, and before the first one.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// What the connection and the request on it tell each other.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The answer is complete: what comes next is a new head.
    boundary: AtomicBool,
    /// Drop what hyper writes.
    silent: AtomicBool,
    /// The request in progress did not ask for the upgrade by itself.
    legacy: AtomicBool,
}

impl Shared {
    /// The present request got its whole answer.
    pub(crate) fn finish_request(&self) {
        self.boundary.store(true, Ordering::Release);
    }

    /// Hyper's next head is not to be seen: the caller takes the connection over and writes its own.
    pub(crate) fn silence(&self) {
        self.silent.store(true, Ordering::Release);
    }

    /// Whether the request expects the old 200 instead of 101.
    pub(crate) fn is_legacy(&self) -> bool {
        self.legacy.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
enum Reading {
    /// Collecting a head; so many bytes of the buffer were searched.
    Head { searched: usize },
    /// Handing out the buffer, then whatever comes.
    Through { hold_end: bool },
}

/// A connection as hyper sees it.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: Stream,
    shared: Arc<Shared>,
    reading: Reading,
    buffer: BytesMut,
    /// The client will send no more.
    ended: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Conn {
    pub(crate) fn new(stream: Stream, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            shared,
            reading: Reading::Head { searched: 0 },
            buffer: BytesMut::new(),
            ended: false,
            deadline: Some(Box::pin(sleep_until(Instant::now() + HEAD_TIME))),
        }
    }

    /// The connection itself, and what was read of it but not handed out.
    pub(crate) fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.buffer.freeze())
    }

    /// Reads into the own buffer; false at the end of the client's data.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [0_u8; 4096];
        let mut read = ReadBuf::new(&mut space);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        self.buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(!read.filled().is_empty()))
    }

    /// Collects a head and decides what it is.
    fn poll_head(&mut self, cx: &mut Context<'_>, mut searched: usize) -> Poll<io::Result<()>> {
        loop {
            if let Some(end) = head::end(&self.buffer, searched) {
                self.head_complete(end);
                return Poll::Ready(Ok(()));
            }
            searched = self.buffer.len();
            self.reading = Reading::Head { searched };
            if searched > head::MAX_HEAD || self.ended {
                self.reading = Reading::Through { hold_end: false };
                return Poll::Ready(Ok(()));
            }
            match self.poll_fill(cx)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => self.ended = true,
                Poll::Pending => return self.poll_deadline(cx),
            }
        }
    }

    fn head_complete(&mut self, end: usize) {
        let kind = head::kind(self.buffer.get(..end).unwrap_or_default());
        self.shared
            .legacy
            .store(kind == head::Kind::Silent, Ordering::Release);
        if kind == head::Kind::Silent {
            self.buffer = head::with_upgrade(&self.buffer);
        }
        self.deadline = None;
        // A client may close its half at once after a request that takes over the connection; hyper would
        // take that for a disconnect, so the end waits until the connection is taken over.
        self.reading = Reading::Through {
            hold_end: kind != head::Kind::Ordinary,
        };
    }

    /// Pending, unless the head takes too long. Between requests there is no limit.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deadline.is_none() && !self.buffer.is_empty() {
            self.deadline = Some(Box::pin(sleep_until(Instant::now() + HEAD_TIME)));
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            let late = io::Error::new(io::ErrorKind::TimedOut, "the request head took too long");
            return Poll::Ready(Err(late));
        }
        Poll::Pending
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.shared.boundary.swap(false, Ordering::AcqRel) {
            this.reading = Reading::Head { searched: 0 };
        }
        if let Reading::Head { searched } = this.reading {
            std::task::ready!(this.poll_head(cx, searched))?;
        }
        if !this.buffer.is_empty() {
            let length = this.buffer.len().min(out.remaining());
            out.put_slice(this.buffer.get(..length).unwrap_or_default());
            this.buffer.advance(length);
            if this.buffer.is_empty() {
                // An idle connection keeps no memory.
                this.buffer = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        let hold_end = matches!(this.reading, Reading::Through { hold_end: true });
        if !this.ended {
            let before = out.filled().len();
            std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
            this.ended = out.filled().len() == before;
        }
        if this.ended && hold_end {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.shared.silent.load(Ordering::Acquire) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.shared.silent.load(Ordering::Acquire) {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_may_not_take_for_ever_but_the_time_between_requests_may() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let shared = Arc::new(Shared::default());
        let mut conn = Conn::new(Stream::Unix(server), Arc::clone(&shared));
        let mut out = [0; 64];
        // The clock runs on by itself while everything waits.
        let error = conn.read(&mut out).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut second, server) = UnixStream::pair().unwrap();
        let mut conn = Conn::new(Stream::Unix(server), Arc::clone(&shared));
        second.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(conn.read(&mut out).await.unwrap(), 18);
        shared.finish_request();
        let idle = tokio::time::timeout(HEAD_TIME * 10, conn.read(&mut out));
        assert!(idle.await.is_err(), "an idle connection was closed");
        second.write_all(b"GE").await.unwrap();
        let error = conn.read(&mut out).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        client.shutdown().await.unwrap();
    }
}
