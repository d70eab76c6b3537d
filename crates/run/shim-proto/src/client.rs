//! The asynchronous side: calls over one connection, many at a time, and attach sessions. Needs a tokio runtime.

mod attach;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_types::ErrorKind;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

pub use self::attach::{AttachClientError, AttachReader, AttachWriter, attach};
use crate::frame::{Frame, FrameDecoder, FrameType};
use crate::rpc::{Request, Response, RpcError};
use crate::task::{SERVICE_V2, TaskRequest};

/// A connection to a shim. Cheap to clone; the connection ends with the last clone.
///
/// A call that is dropped before its answer leaves the connection usable.
#[derive(Clone, Debug)]
pub struct TaskClient {
    service: &'static str,
    outbox: mpsc::Sender<Vec<u8>>,
    calls: Arc<Mutex<Calls>>,
}

#[derive(Debug, Default)]
struct Calls {
    last_stream: u32,
    closed: bool,
    waiting: HashMap<u32, oneshot::Sender<Response>>,
}

impl TaskClient {
    /// Takes over a connected socket and speaks version 2 of the service.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self::with_service(stream, SERVICE_V2)
    }

    /// As [`TaskClient::new`] for another service name ([`crate::task::SERVICE_V3`]).
    #[must_use]
    pub fn with_service(stream: UnixStream, service: &'static str) -> Self {
        let (reader, writer) = stream.into_split();
        let (outbox, frames) = mpsc::channel(16);
        let calls = Arc::new(Mutex::new(Calls::default()));
        tokio::spawn(drive(reader, writer, frames, Arc::clone(&calls)));
        Self {
            service,
            outbox,
            calls,
        }
    }

    /// Calls the method that belongs to `request` and waits for the answer, as long as it takes.
    ///
    /// # Errors
    /// [`RpcError::Status`] is the shim's own answer, [`RpcError::Closed`] means that the shim has gone.
    pub async fn call<R: TaskRequest>(&self, request: &R) -> Result<R::Response, RpcError> {
        let method = R::METHOD;
        let envelope = Request {
            service: self.service.to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: 0,
            metadata: Vec::new(),
        };
        let (answer, received) = oneshot::channel();
        let stream = lock(&self.calls)
            .register(answer)
            .ok_or(RpcError::Closed { method })?;
        // Also forgets the call when this future is dropped.
        let _forget = Forget {
            calls: &self.calls,
            stream,
        };
        let mut bytes = Vec::new();
        Frame {
            stream,
            kind: FrameType::Request,
            flags: 0,
            data: envelope.encode_to_vec(),
        }
        .encode(&mut bytes)
        .map_err(|source| RpcError::Frame { method, source })?;
        self.outbox
            .send(bytes)
            .await
            .map_err(|_closed| RpcError::Closed { method })?;
        let response = received
            .await
            .map_err(|_closed| RpcError::Closed { method })?;
        match response.status {
            Some(status) if status.code != 0 => Err(RpcError::Status {
                kind: ErrorKind::from_grpc_code(status.code),
                message: status.message,
            }),
            _ => R::Response::decode(response.payload.as_slice())
                .map_err(|source| RpcError::Decode { method, source }),
        }
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.calls).closed
    }
}

impl Calls {
    /// Gives the call a stream number: odd, as ttrpc wants of clients, and not in use.
    fn register(&mut self, answer: oneshot::Sender<Response>) -> Option<u32> {
        if self.closed {
            return None;
        }
        loop {
            let stream = self.last_stream.wrapping_add(2) | 1;
            self.last_stream = stream;
            if let Entry::Vacant(free) = self.waiting.entry(stream) {
                free.insert(answer);
                return Some(stream);
            }
        }
    }
}

struct Forget<'a> {
    calls: &'a Mutex<Calls>,
    stream: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.calls).waiting.remove(&self.stream);
    }
}

fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    // A panic while the lock is held cannot leave the map half changed.
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until the peer closes, sends garbage, or the last client is dropped.
async fn drive(
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    frames: mpsc::Receiver<Vec<u8>>,
    calls: Arc<Mutex<Calls>>,
) {
    tokio::select! {
        () = receive(reader, &calls) => {}
        () = send(writer, frames) => {}
    }
    let mut calls = lock(&calls);
    calls.closed = true;
    calls.waiting.clear();
}

async fn receive(mut reader: OwnedReadHalf, calls: &Mutex<Calls>) {
    let mut decoder = FrameDecoder::default();
    let mut buffer = [0; 2048];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => decoder.push(buffer.get(..count).unwrap_or_default()),
        }
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) if frame.kind == FrameType::Response => deliver(&frame, calls),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// An answer that does not decode drops its call, which then reports a closed connection.
fn deliver(frame: &Frame, calls: &Mutex<Calls>) {
    let waiting = lock(calls).waiting.remove(&frame.stream);
    if let (Some(call), Ok(response)) = (waiting, Response::decode(frame.data.as_slice())) {
        // The caller may have gone in this moment; nobody misses the answer then.
        drop(call.send(response));
    }
}

async fn send(mut writer: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = frames.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
