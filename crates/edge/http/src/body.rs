//! Bodies of answers, and the archive and JSON bodies of requests.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use havre_api_traits::{ApiError, Upload};
use havre_types::ErrorKind;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::conn::Shared;
use crate::server::Scope;

/// Longest JSON body; the largest real ones (a create request with every field) are some kilobytes.
const MAX_JSON: usize = 4 * 1024 * 1024;
/// How long a JSON body may take.
const JSON_TIME: Duration = Duration::from_secs(30);
/// How much is still read of an upload that the engine does not want: a client that is writing would else see a
/// broken connection and never the reason.
const UNWANTED: usize = 64 * 1024 * 1024;
/// How much of that comes before the answer, as in Go's server.
/// <https://github.com/golang/go/blob/master/src/net/http/server.go> (`maxPostHandlerReadBytes`)
const BEFORE_ANSWER: usize = 256 * 1024;
/// Pieces of an archive that wait for the engine.
const UPLOAD_PIECES: usize = 4;

/// The body of an answer.
pub(crate) struct Body {
    content: Content,
    _done: Option<Done>,
}

enum Content {
    Whole(Bytes),
    Pieces(Pieces),
    /// Pieces, cut off when the server stops: the client sees that this was not the end.
    Bounded(Pieces, Pin<Box<WaitForCancellationFutureOwned>>),
}

/// An `Err` cuts the connection off.
type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Tells the connection when hyper has taken the last of the body.
struct Done(Arc<Shared>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.finish_request();
    }
}

impl Body {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// A body of known length.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self {
            content: Content::Whole(bytes.into()),
            _done: None,
        }
    }

    /// A body that comes piece by piece, each sent at once.
    pub(crate) fn pieces(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::fallible(stream.map(Ok))
    }

    /// A body that may turn out not to be whole: the client sees that by the connection's end.
    pub(crate) fn fallible(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self {
            content: Content::Pieces(Box::pin(stream)),
            _done: None,
        }
    }

    /// The same body on a connection: reports its end to it, and a stream ends with the server.
    pub(crate) fn on_connection(self, shared: Arc<Shared>, stop: CancellationToken) -> Self {
        let content = match self.content {
            Content::Pieces(pieces) => Content::Bounded(pieces, Box::pin(stop.cancelled_owned())),
            other => other,
        };
        Self {
            content,
            _done: Some(Done(shared)),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => None,
            Content::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Content::Pieces(stream) => std::task::ready!(stream.as_mut().poll_next(cx)),
            Content::Bounded(stream, stop) => {
                if stop.as_mut().poll(cx).is_ready() {
                    let stopped = io::Error::new(io::ErrorKind::ConnectionAborted, "shutdown");
                    return Poll::Ready(Some(Err(stopped)));
                }
                std::task::ready!(stream.as_mut().poll_next(cx))
            }
        };
        Poll::Ready(next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Pieces(_) | Content::Bounded(..) => SizeHint::default(),
        }
    }
}

/// Reads a body that is small by nature.
pub(crate) async fn read_small(body: &mut Incoming) -> Result<Bytes, ApiError> {
    let read = async {
        let mut out = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                ApiError::invalid(format!("failed to read the request body: {error}"))
            })?;
            if let Ok(data) = frame.into_data() {
                if out.len() + data.len() > MAX_JSON {
                    return Err(ApiError::invalid(format!(
                        "the request body is longer than {MAX_JSON} bytes"
                    )));
                }
                out.extend_from_slice(&data);
            }
        }
        Ok(out.freeze())
    };
    match timeout(JSON_TIME, read).await {
        Ok(result) => result,
        Err(_elapsed) => Err(ApiError::new(
            ErrorKind::InvalidParameter,
            "the request body took too long",
        )),
    }
}

/// Hands a body to the engine piece by piece. When the engine drops its end, little more is read.
pub(crate) fn upload(body: Incoming, scope: &Scope) -> Upload {
    watched_upload(body, scope).0
}

/// The same, and the moment when all of it, or as much as ever will be before the answer, is read.
pub(crate) fn watched_upload(mut body: Incoming, scope: &Scope) -> (Upload, oneshot::Receiver<()>) {
    let (pieces, upload) = mpsc::channel(UPLOAD_PIECES);
    let (settled, settling) = oneshot::channel();
    scope.spawn(async move {
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = pieces.closed() => return discard(body, settled).await,
            };
            let piece = match frame {
                None => return,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Ok(data),
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
            };
            let last = piece.is_err();
            if pieces.send(piece).await.is_err() {
                return discard(body, settled).await;
            }
            if last {
                return;
            }
        }
    });
    (upload, settling)
}

async fn discard(mut body: Incoming, settled: oneshot::Sender<()>) {
    let mut settled = Some(settled);
    let mut read = 0;
    while read < UNWANTED
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > BEFORE_ANSWER {
            settled.take();
        }
    }
}
