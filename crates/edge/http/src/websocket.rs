//! A session over a WebSocket (<https://www.rfc-editor.org/rfc/rfc6455>): output as frames, unframed by stream as
//! Docker sends it; input from the client's frames.

mod frame;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use havre_api_traits::{ApiError, AttachSession, Input, Output, StdinEof};
use hyper::Method;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use sha1::{Digest as _, Sha1};
use tokio::sync::mpsc;
use tracing::debug;

use self::frame::{Decoder, Item, Kind};
use crate::detach::Detach;
use crate::hijack::{Attached, Takeover, drain, parts};
use crate::stream::Stream;

/// What the standard adds to the client's key.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Answers to control frames that wait for a slow client; more are not sent.
const REPLIES: usize = 8;

const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;

/// What the answer to a handshake carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub(crate) accept: String,
    pub(crate) protocol: Option<String>,
}

/// Checks a handshake (section 4.2.1).
pub(crate) fn handshake(method: &Method, headers: &HeaderMap) -> Result<Handshake, ApiError> {
    let refused = |why: &str| Err(ApiError::invalid(format!("bad websocket handshake: {why}")));
    if method != Method::GET || !names(headers, &UPGRADE, "websocket") {
        return refused("not websocket protocol");
    }
    if !names(headers, &CONNECTION, "upgrade") {
        return refused("missing \"Connection: Upgrade\"");
    }
    if text(headers, &SEC_WEBSOCKET_VERSION) != "13" {
        return refused("unsupported version, 13 is supported");
    }
    let key = text(headers, &SEC_WEBSOCKET_KEY);
    if STANDARD.decode(key).map(|key| key.len()) != Ok(16) {
        return refused("missing or bad Sec-WebSocket-Key");
    }
    let offered = text(headers, &SEC_WEBSOCKET_PROTOCOL).split(',').next();
    Ok(Handshake {
        accept: accept(key),
        protocol: offered
            .map(|protocol| protocol.trim().to_owned())
            .filter(|protocol| !protocol.is_empty()),
    })
}

fn accept(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}{MAGIC}")))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or("").trim()
}

/// Whether a header that is a list names `token`.
fn names(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Waits for the connection and serves the session on it to its end. `binary` is the kind of the frames.
pub(crate) async fn run(upgrade: OnUpgrade, binary: bool, takeover: Takeover) {
    let (stream, begin) = match upgrade.await.map(parts) {
        Ok(Some(parts)) => parts,
        Ok(None) => return debug!("a connection of another kind was upgraded"),
        Err(error) => return debug!(%error, "the client left before the upgrade"),
    };
    let kind = if binary { Kind::Binary } else { Kind::Text };
    if let Err(error) = serve(&stream, begin, kind, takeover).await {
        debug!(%error, "a session ended by an error");
    }
}

/// How the client's side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// By a close frame or without one.
    Closed(u16),
    /// By the detach keys.
    Detached,
}

async fn serve(stream: &Stream, begin: Bytes, kind: Kind, takeover: Takeover) -> io::Result<()> {
    let Takeover {
        session, on_detach, ..
    } = takeover;
    let Attached { session, detach } = session.await;
    let AttachSession {
        output,
        input,
        stdin_eof,
        ..
    } = session;
    let (replies, waiting) = mpsc::channel(REPLIES);
    let writer = Writer {
        stream,
        whole: AtomicBool::new(true),
    };
    let code = tokio::select! {
        written = write_frames(&writer, output, waiting, kind) => {
            written?;
            NORMAL
        }
        left = read_frames(stream, begin, input, stdin_eof, detach, replies) => match left? {
            Left::Closed(code) => code,
            Left::Detached => {
                on_detach.await;
                NORMAL
            }
        }
    };
    if writer.whole.load(Ordering::Relaxed) {
        let code = Bytes::copy_from_slice(&code.to_be_bytes());
        writer.send(Kind::Close, code).await?;
    }
    stream.close_write();
    // The client answers the close before it closes; cut off at once it might lose the output's end.
    drain(stream).await;
    Ok(())
}

/// The connection, and whether the last frame was written to its end: after half a one no other may follow.
struct Writer<'a> {
    stream: &'a Stream,
    whole: AtomicBool,
}

impl Writer<'_> {
    async fn send(&self, kind: Kind, payload: Bytes) -> io::Result<()> {
        let head = frame::head(kind, payload.len());
        self.whole.store(false, Ordering::Relaxed);
        self.stream.write(head.chain(payload)).await?;
        self.whole.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// The only writer: output, and the answers that reading asks for.
async fn write_frames(
    writer: &Writer<'_>,
    mut output: mpsc::Receiver<Output>,
    mut replies: mpsc::Receiver<Bytes>,
    kind: Kind,
) -> io::Result<()> {
    loop {
        tokio::select! {
            piece = output.recv() => match piece {
                Some(Output { data, .. }) => writer.send(kind, data).await?,
                None => return Ok(()),
            },
            Some(payload) = replies.recv() => writer.send(Kind::Pong, payload).await?,
        }
    }
}

async fn read_frames(
    stream: &Stream,
    begin: Bytes,
    mut input: Option<mpsc::Sender<Input>>,
    stdin_eof: StdinEof,
    mut detach: Option<Detach>,
    replies: mpsc::Sender<Bytes>,
) -> io::Result<Left> {
    let mut decoder = Decoder::default();
    decoder.feed(&begin);
    loop {
        let left = loop {
            match decoder.next() {
                Ok(Some(Item::Data(data))) => {
                    let (pass, detached) = match &mut detach {
                        Some(detach) => {
                            let scan = detach.scan(&data);
                            (scan.pass, scan.detached)
                        }
                        None => (data, false),
                    };
                    if !pass.is_empty()
                        && let Some(sender) = &input
                        && sender.send(Input::Data(pass)).await.is_err()
                    {
                        // The process takes no more input; what the client still sends is dropped.
                        input = None;
                    }
                    if detached {
                        return Ok(Left::Detached);
                    }
                }
                Ok(Some(Item::Ping(payload))) => {
                    if replies.try_send(payload).is_err() {
                        debug!("a client pings faster than it reads");
                    }
                }
                Ok(Some(Item::Pong)) => {}
                Ok(Some(Item::Close(code))) => break Some(echoed(code)),
                Ok(None) => break None,
                Err(error) => {
                    debug!(%error, "a client breaks the protocol");
                    break Some(PROTOCOL_ERROR);
                }
            }
        };
        let mut buffer = BytesMut::new();
        if left.is_none() && stream.read(&mut buffer).await? > 0 {
            decoder.feed(&buffer);
            continue;
        }
        if stdin_eof == StdinEof::CloseStdin
            && let Some(sender) = input
            && sender.send(Input::Close).await.is_err()
        {
            debug!("the process ended before its input");
        }
        return Ok(Left::Closed(left.unwrap_or(NORMAL)));
    }
}

/// The number to close with: the client's own, unless it is none that may be sent.
fn echoed(code: Option<u16>) -> u16 {
    match code {
        None => NORMAL,
        Some(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) => code,
        Some(_) => PROTOCOL_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_handshake_of_the_standard_is_answered() {
        let mut good = headers(&[
            ("Upgrade", "WebSocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", "chat, superchat"),
        ]);
        let answer = handshake(&Method::GET, &good).unwrap();
        assert_eq!(answer.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.protocol.as_deref(), Some("chat"));
        handshake(&Method::POST, &good).unwrap_err();
        good.insert("sec-websocket-version", HeaderValue::from_static("8"));
        handshake(&Method::GET, &good).unwrap_err();
        for missing in ["upgrade", "connection", "sec-websocket-key"] {
            let mut bad = good.clone();
            bad.insert("sec-websocket-version", HeaderValue::from_static("13"));
            bad.remove(missing);
            handshake(&Method::GET, &bad).unwrap_err();
        }
    }
}
