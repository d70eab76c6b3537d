//! Connections that are taken over: the answer's head, then the raw bytes of a process in both directions.
//!
//! The head is written here and not by hyper, which cannot answer 200 and go on. Half-closed clients are
//! served on; a client that is gone ends the session.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use havre_api_traits::{AttachSession, Input, Output, StdinEof};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::debug;

use crate::conn::Conn;
use crate::detach::Detach;
use crate::reply::{MULTIPLEXED_STREAM, RAW_STREAM};
use crate::stdcopy;
use crate::stream::Stream;
use crate::version::ApiVersion;

/// How long a client that has everything may take to close its end.
const LINGER: Duration = Duration::from_secs(5);

/// How output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Raw,
    Multiplexed,
}

/// Everything that a session needs once the connection is there.
pub(crate) struct Takeover {
    /// Awaited when the client has the head: a process that is started by it may write at once, and some
    /// clients (docker-py) lose what arrives together with the head.
    pub(crate) session: Pin<Box<dyn Future<Output = Attached> + Send>>,
    pub(crate) framing: Framing,
    /// Run when the client leaves by them.
    pub(crate) on_detach: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A session, and the keys by which the client of a terminal leaves it.
pub(crate) struct Attached {
    pub(crate) session: AttachSession,
    pub(crate) detach: Option<Detach>,
}

/// The content type of output; clients older than 1.42 do not know the second one.
pub(crate) fn content_type(framing: Framing, version: ApiVersion) -> &'static str {
    match framing {
        Framing::Multiplexed if !version.before(42) => MULTIPLEXED_STREAM,
        Framing::Multiplexed | Framing::Raw => RAW_STREAM,
    }
}

/// The head of the answer. `legacy` is the answer of before the `Upgrade` header.
pub(crate) fn head(legacy: bool, content_type: &str) -> String {
    if legacy {
        return format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW_STREAM}\r\n\r\n");
    }
    format!(
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    )
}

/// Waits for the connection and serves the session on it to its end.
pub(crate) async fn run(upgrade: OnUpgrade, head: String, takeover: Takeover) {
    let (stream, begin) = match upgrade.await.map(parts) {
        Ok(Some(parts)) => parts,
        Ok(None) => return debug!("a connection of another kind was upgraded"),
        Err(error) => return debug!(%error, "the client left before the upgrade"),
    };
    if let Err(error) = serve(&stream, head, begin, takeover).await {
        debug!(%error, "a session ended by an error");
    }
}

/// The connection and what was read of it already.
pub(crate) fn parts(upgraded: Upgraded) -> Option<(Stream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Conn>>().ok()?;
    let (stream, rest) = parts.io.into_inner().into_parts();
    let mut begin = BytesMut::from(&parts.read_buf[..]);
    begin.extend_from_slice(&rest);
    Some((stream, begin.freeze()))
}

async fn serve(stream: &Stream, head: String, begin: Bytes, takeover: Takeover) -> io::Result<()> {
    let Takeover {
        session,
        framing,
        on_detach,
    } = takeover;
    stream.write(Bytes::from(head)).await?;
    stream.taken().await;
    let Attached { session, detach } = session.await;
    let AttachSession {
        output,
        input,
        stdin_eof,
        ..
    } = session;
    let finished = tokio::select! {
        result = copy_output(stream, output, framing) => {
            result?;
            true
        }
        detached = copy_input(stream, begin, input, stdin_eof, detach) => {
            if detached? {
                on_detach.await;
            }
            false
        }
    };
    stream.close_write();
    if finished {
        // Closing with unread input would reset the connection, and the client might lose the output's end.
        drain(stream).await;
    }
    Ok(())
}

async fn copy_output(
    stream: &Stream,
    mut output: mpsc::Receiver<Output>,
    framing: Framing,
) -> io::Result<()> {
    while let Some(Output { stream: from, data }) = output.recv().await {
        match framing {
            Framing::Raw => stream.write(data).await?,
            Framing::Multiplexed => {
                let header = stdcopy::header(stdcopy::number(from), data.len());
                stream.write((&header[..]).chain(data)).await?;
            }
        }
    }
    Ok(())
}

/// Copies input until the session ends from the client's side; true when it left by the detach keys.
async fn copy_input(
    stream: &Stream,
    begin: Bytes,
    mut input: Option<mpsc::Sender<Input>>,
    stdin_eof: StdinEof,
    mut detach: Option<Detach>,
) -> io::Result<bool> {
    let mut next = begin;
    loop {
        let mut left = false;
        if let Some(detach) = &mut detach {
            let scan = detach.scan(&next);
            next = scan.pass;
            left = scan.detached;
        }
        let pass = std::mem::take(&mut next);
        if !pass.is_empty()
            && let Some(sender) = &input
            && sender.send(Input::Data(pass)).await.is_err()
        {
            // The process takes no more input; what the client still sends is dropped.
            input = None;
        }
        if left {
            return Ok(true);
        }
        let mut buffer = BytesMut::new();
        if stream.read(&mut buffer).await? == 0 {
            return end_of_input(stream, input, stdin_eof).await;
        }
        next = buffer.freeze();
    }
}

/// The client sends no more.
async fn end_of_input(
    stream: &Stream,
    input: Option<mpsc::Sender<Input>>,
    stdin_eof: StdinEof,
) -> io::Result<bool> {
    if let Some(sender) = input {
        if stdin_eof == StdinEof::Detach {
            return Ok(false);
        }
        if sender.send(Input::Close).await.is_err() {
            debug!("the process ended before its input");
        }
    }
    stream.gone().await;
    Ok(false)
}

/// Waits until the client closes, and reads over what it still sends.
pub(crate) async fn drain(stream: &Stream) {
    let until_end = async {
        let mut buffer = BytesMut::new();
        while matches!(stream.read(&mut buffer).await, Ok(1..)) {
            buffer.clear();
        }
    };
    if timeout(LINGER, until_end).await.is_err() {
        debug!("the client keeps a finished session open");
    }
}
