//! Connections, requests and answers.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use havre_engine_types::{ErrorResponse, gojson};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, UPGRADE, USER_AGENT};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Mutex, mpsc};

use crate::{ClientError, Endpoint};

/// The largest answer that is read into memory as a whole.
const ANSWER_MAX: usize = 256 << 20;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body in pieces of any size.
pub type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// A client of one engine. Requests that are answered in full share one connection; streams have their own.
pub struct Client {
    endpoint: Endpoint,
    options: Options,
    idle: Mutex<Option<SendRequest<Body>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// What all requests of a client carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The version of the API to ask for, such as `1.45`; the engine's newest when empty.
    pub api_version: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

/// An answer whose head has arrived and was no error.
pub struct Response {
    request: String,
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    sender: Option<SendRequest<Body>>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("request", &self.request)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A connection that the engine handed over: a raw stream both ways, in blocking mode, for one thread that reads and
/// one that writes. Shutting down the writing half is seen by the engine as the end of standard input.
#[derive(Debug)]
pub struct Hijacked {
    /// The socket.
    pub socket: OwnedFd,
    /// Bytes that arrived together with the head of the answer.
    pub early: Bytes,
    /// Whether the output is multiplexed, when the engine says so.
    pub multiplexed: Option<bool>,
}

/// What a request sends.
enum Payload<'a> {
    Nothing,
    Json(Vec<u8>),
    Stream(Body, &'a str),
}

impl Client {
    /// A client; nothing is connected yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self::with_options(endpoint, Options::default())
    }

    /// A client whose requests carry something.
    #[must_use]
    pub fn with_options(endpoint: Endpoint, options: Options) -> Self {
        Self {
            endpoint,
            options,
            idle: Mutex::new(None),
        }
    }

    /// The address.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request without a body.
    pub async fn send(&self, method: Method, path: &str) -> Result<Response, ClientError> {
        self.exchange(method, path, Payload::Nothing, &[]).await
    }

    /// Sends JSON.
    pub async fn send_json<T: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: &T,
    ) -> Result<Response, ClientError> {
        let payload = json_bytes(&method, path, body)?;
        self.exchange(method, path, Payload::Json(payload), &[])
            .await
    }

    /// Sends a request with more headers and no body.
    pub async fn send_with_headers(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Response, ClientError> {
        self.exchange(method, path, Payload::Nothing, headers).await
    }

    /// Sends all that a reader gives, as it comes.
    pub async fn upload(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        reader: impl AsyncRead + Send + 'static,
    ) -> Result<Response, ClientError> {
        let stream = tokio_util::io::ReaderStream::with_capacity(reader, 256 << 10);
        let frames = futures_util::StreamExt::map(stream, |chunk| chunk.map(Frame::data));
        let body = StreamBody::new(frames).boxed_unsync();
        self.exchange(method, path, Payload::Stream(body, content_type), &[])
            .await
    }

    /// Sends pieces as they come. An `Err` breaks the request off.
    pub async fn upload_pieces(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        mut pieces: Pieces,
    ) -> Result<Response, ClientError> {
        let stream = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx));
        let frames = futures_util::StreamExt::map(stream, |piece| piece.map(Frame::data));
        let body = StreamBody::new(frames).boxed_unsync();
        self.exchange(method, path, Payload::Stream(body, content_type), &[])
            .await
    }

    /// Sends a request that takes over the connection.
    pub async fn hijack<T: Serialize + Sync>(
        &self,
        path: &str,
        body: Option<&T>,
    ) -> Result<Hijacked, ClientError> {
        let payload = match body {
            Some(body) => Payload::Json(json_bytes(&Method::POST, path, body)?),
            None => Payload::Nothing,
        };
        let mut request = self.build(&Method::POST, path, payload, &[])?;
        request
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        request
            .headers_mut()
            .insert(UPGRADE, HeaderValue::from_static("tcp"));
        let mut sender = self.connect().await?;
        let name = format!("POST {path}");
        let fail = |source| ClientError::Http {
            request: name.clone(),
            source,
        };
        let answer = sender.send_request(request).await.map_err(fail)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = answer.status().as_u16();
            let response = Response::checked(name.clone(), answer, Some(sender)).await?;
            drop(response);
            return Err(ClientError::NoUpgrade(status));
        }
        let multiplexed = answer
            .headers()
            .get(CONTENT_TYPE)
            .map(|kind| kind.as_bytes().ends_with(b"multiplexed-stream"));
        let upgraded = hyper::upgrade::on(answer).await.map_err(fail)?;
        let (socket, early) = into_socket(upgraded).map_err(|source| ClientError::Connect {
            endpoint: self.endpoint.to_string(),
            source,
        })?;
        Ok(Hijacked {
            socket,
            early,
            multiplexed,
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        payload: Payload<'_>,
        headers: &[(&'static str, String)],
    ) -> Result<Response, ClientError> {
        let request = self.build(&method, path, payload, headers)?;
        let name = format!("{method} {path}");
        let mut sender = self.ready_sender().await?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|source| ClientError::Http {
                request: name.clone(),
                source,
            })?;
        Response::checked(name, answer, Some(sender)).await
    }

    /// Gives a connection back when its answer has been read to the end.
    async fn reuse(&self, sender: Option<SendRequest<Body>>) {
        if let Some(sender) = sender {
            self.idle.lock().await.get_or_insert(sender);
        }
    }

    async fn ready_sender(&self) -> Result<SendRequest<Body>, ClientError> {
        let idle = self.idle.lock().await.take();
        if let Some(mut sender) = idle
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        self.connect().await
    }

    fn build(
        &self,
        method: &Method,
        path: &str,
        payload: Payload<'_>,
        headers: &[(&'static str, String)],
    ) -> Result<Request<Body>, ClientError> {
        let versioned = match self.options.api_version.as_str() {
            "" => path.to_owned(),
            version => format!("/v{version}{path}"),
        };
        let mut builder = Request::builder()
            .method(method)
            .uri(versioned)
            .header(HOST, self.endpoint.host_header())
            .header(
                USER_AGENT,
                concat!("Havre-Client/", env!("CARGO_PKG_VERSION"), " (linux)"),
            );
        for (name, value) in &self.options.headers {
            builder = builder.header(name, value);
        }
        for (name, value) in headers {
            builder = builder.header(*name, value);
        }
        let body = match payload {
            Payload::Nothing => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Payload::Json(bytes) => {
                builder = builder.header(CONTENT_TYPE, "application/json");
                Full::new(Bytes::from(bytes))
                    .map_err(|never| match never {})
                    .boxed_unsync()
            }
            Payload::Stream(body, content_type) => {
                builder = builder.header(CONTENT_TYPE, content_type);
                body
            }
        };
        builder
            .body(body)
            .map_err(|_bad_uri_or_header| ClientError::Request(format!("{method} {path}")))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, ClientError> {
        let fail = |source: io::Error| {
            let endpoint = self.endpoint.to_string();
            match source.kind() {
                io::ErrorKind::PermissionDenied => ClientError::Permission { endpoint, source },
                _ => ClientError::Connect { endpoint, source },
            }
        };
        match &self.endpoint {
            Endpoint::Unix(path) => {
                self.handshake(UnixStream::connect(path).await.map_err(fail)?)
                    .await
            }
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(fail)?;
                stream.set_nodelay(true).map_err(fail)?;
                self.handshake(stream).await
            }
        }
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Body>, ClientError> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|source| ClientError::Http {
                    request: format!("connection to {}", self.endpoint),
                    source,
                })?;
        // The task ends with the connection; what goes wrong in it is also told to the request that waits.
        tokio::spawn(async move { connection.with_upgrades().await.ok() });
        Ok(sender)
    }
}

impl Response {
    /// Turns an error status into the engine's message.
    async fn checked(
        request: String,
        answer: hyper::Response<Incoming>,
        sender: Option<SendRequest<Body>>,
    ) -> Result<Self, ClientError> {
        let (head, body) = answer.into_parts();
        let response = Self {
            request,
            status: head.status,
            headers: head.headers,
            body,
            sender,
        };
        if response.status.is_success() || response.status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let status = response.status;
        let bytes = response.bytes().await?;
        let message = match gojson::from_slice::<ErrorResponse>(&bytes) {
            Ok(error) if !error.message.is_empty() => error.message,
            _ if bytes.is_empty() => status
                .canonical_reason()
                .unwrap_or("no reason given")
                .to_owned(),
            _ => String::from_utf8_lossy(&bytes).trim().to_owned(),
        };
        Err(ClientError::Api {
            status: status.as_u16(),
            message,
        })
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The value of a header, when it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Method and path of the request, for messages.
    #[must_use]
    pub fn request(&self) -> &str {
        &self.request
    }

    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| ClientError::Http {
                request: self.request.clone(),
                source,
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body.
    pub async fn bytes(mut self) -> Result<Bytes, ClientError> {
        self.read_all().await
    }

    /// The body as JSON; the connection goes back to the client.
    pub async fn json<T: DeserializeOwned>(mut self, client: &Client) -> Result<T, ClientError> {
        let bytes = self.read_all().await?;
        client.reuse(self.sender.take()).await;
        gojson::from_slice(&bytes).map_err(|source| ClientError::Json {
            request: self.request,
            source,
        })
    }

    /// The body as it is, in the order of its fields; the connection goes back to the client.
    pub async fn raw_json(mut self, client: &Client) -> Result<Value, ClientError> {
        let bytes = self.read_all().await?;
        client.reuse(self.sender.take()).await;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Json {
            request: self.request,
            source,
        })
    }

    /// Reads the body and forgets it; the connection goes back to the client.
    pub async fn finish(mut self, client: &Client) -> Result<(), ClientError> {
        self.read_all().await?;
        client.reuse(self.sender.take()).await;
        Ok(())
    }

    async fn read_all(&mut self) -> Result<Bytes, ClientError> {
        let Some(first) = self.chunk().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.chunk().await? else {
            return Ok(first);
        };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
            if all.len() > ANSWER_MAX {
                return Err(ClientError::TooLarge {
                    request: self.request.clone(),
                    limit: ANSWER_MAX,
                });
            }
        }
        Ok(all.freeze())
    }
}

/// The socket below an upgraded connection, set to blocking.
fn into_socket(upgraded: Upgraded) -> io::Result<(OwnedFd, Bytes)> {
    match upgraded.downcast::<TokioIo<UnixStream>>() {
        Ok(parts) => {
            let socket = parts.io.into_inner().into_std()?;
            socket.set_nonblocking(false)?;
            Ok((socket.into(), parts.read_buf))
        }
        Err(upgraded) => {
            let parts = upgraded
                .downcast::<TokioIo<TcpStream>>()
                .map_err(|_foreign| io::Error::other("the connection is of an unknown kind"))?;
            let socket = parts.io.into_inner().into_std()?;
            socket.set_nonblocking(false)?;
            Ok((socket.into(), parts.read_buf))
        }
    }
}

fn json_bytes<T: Serialize>(method: &Method, path: &str, body: &T) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(body).map_err(|source| ClientError::Json {
        request: format!("{method} {path}"),
        source,
    })
}
