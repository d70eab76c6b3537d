//! Attached clients: a session's channels on one side, the shim's attach socket on the other.

use bytes::Bytes;
use havre_api_traits::{ApiResult, AttachSession, Input, Output, OutputStream, StdinEof};
use havre_shim_proto::attach::{AttachRequest, Stream};
use havre_shim_proto::client::{AttachReader, AttachWriter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::Shared;
use crate::shim::Shim;

/// Pieces in flight to or from one client; more hold the process back.
const DEPTH: usize = 16;

/// A client that is attached to a process which may not exist yet.
#[derive(Debug)]
pub(crate) struct PendingAttach {
    request: AttachRequest,
    output: mpsc::Sender<Output>,
    input: mpsc::Receiver<Input>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// What the edge must know of the process.
#[derive(Debug)]
pub(crate) struct Kind {
    pub tty: bool,
    pub stdin_eof: StdinEof,
    pub detach_keys: Option<String>,
}

/// Makes both ends of a session.
pub(crate) fn session(
    shared: &Shared,
    request: AttachRequest,
    kind: Kind,
) -> (AttachSession, PendingAttach) {
    let (output, to_client) = mpsc::channel(DEPTH);
    let (from_client, input) = mpsc::channel(DEPTH);
    let session = AttachSession {
        output: to_client,
        input: request.stdin.then_some(from_client),
        stdin_eof: kind.stdin_eof,
        tty: kind.tty,
        detach_keys: kind.detach_keys,
    };
    let pending = PendingAttach {
        request,
        output,
        input,
        tasks: shared.tasks.clone(),
        stopping: shared.stopping.clone(),
    };
    (session, pending)
}

impl PendingAttach {
    /// Sends something before what the process writes: the replay of the log.
    pub(crate) fn output(&self) -> &mpsc::Sender<Output> {
        &self.output
    }

    /// The client has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.output.is_closed()
    }

    /// Connects the session to the shim. In force when this returns.
    pub(crate) async fn connect(self, shim: &Shim) -> ApiResult<()> {
        self.connect_until(shim, std::future::ready(())).await
    }

    /// As [`PendingAttach::connect`]; the session ends only after `end`, so that who reads its last output can ask
    /// for the exit code.
    pub(crate) async fn connect_until(
        self,
        shim: &Shim,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> ApiResult<()> {
        if self.is_closed() && self.input.is_empty() {
            return Ok(());
        }
        let (reader, mut writer) = shim.attach(&self.request).await?;
        let (output, mut input) = (self.output, self.input);
        let (stopping, session) = (self.stopping, shim.session());
        self.tasks.spawn(async move {
            let client = output.clone();
            let feed = async {
                // A client that left may have sent something right before: that still goes to the process.
                pump_input(&mut input, &mut writer).await;
                // The writer stays: a half-closed connection would look as if the client had left.
                client.closed().await;
            };
            tokio::select! {
                () = pump_output(reader, &output) => {}
                // Closing the socket tells the shim that the client left.
                () = feed => return,
                () = stopping.cancelled() => return,
            }
            // The shim may go; what it sent is in the channel.
            drop(session);
            tokio::select! {
                () = end => {}
                () = client.closed() => {}
                () = stopping.cancelled() => {}
            }
        });
        Ok(())
    }
}

/// Ends with the process. What a client that left does not take is thrown away, so that the process does not wait.
async fn pump_output(mut reader: AttachReader, output: &mpsc::Sender<Output>) {
    loop {
        let (stream, data) = match reader.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return,
            Err(err) => {
                tracing::debug!(error = %err, "attached output ended early");
                return;
            }
        };
        let stream = match stream {
            Stream::Stderr => OutputStream::Stderr,
            Stream::Stdout | Stream::Stdin => OutputStream::Stdout,
        };
        let data = Bytes::from(data);
        if output.send(Output { stream, data }).await.is_err() {
            // Nobody is left to see it.
        }
    }
}

/// Ends when the client's side is dropped; the process's input is closed only when the client asks.
async fn pump_input(input: &mut mpsc::Receiver<Input>, writer: &mut AttachWriter) {
    while let Some(piece) = input.recv().await {
        let sent = match piece {
            Input::Data(bytes) => writer.send(&bytes).await,
            Input::Close => writer.close_stdin().await,
        };
        if let Err(err) = sent {
            tracing::debug!(error = %err, "the process takes no more input");
            return;
        }
    }
}
