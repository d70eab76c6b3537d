//! The two directions of an attached process, free of any framing.

use bytes::Bytes;
use tokio::sync::mpsc;

/// Which of a process's outputs bytes came from. With a terminal everything is `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// File descriptor 1, or the terminal.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Where it came from.
    pub stream: OutputStream,
    /// The bytes.
    pub data: Bytes,
}

/// What the client does with the process's standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes to write.
    Data(Bytes),
    /// Close the process's standard input. Sent only when [`AttachSession::stdin_eof`] is
    /// [`StdinEof::CloseStdin`].
    Close,
}

/// What the end of the client's input means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdinEof {
    /// The process's standard input is closed; its output goes on. Exec processes without a
    /// terminal, and containers with `StdinOnce` and without a terminal.
    CloseStdin,
    /// The session ends, the process's input stays open for the next client. All others.
    Detach,
}

/// A client attached to a process.
///
/// `output` ends when the process has ended and all its output was delivered. Dropping the session
/// detaches. The edge recognises the detach keys, so they never appear in `input`.
#[derive(Debug)]
pub struct AttachSession {
    /// Output in order; bounded, so that a slow client holds the process back and nothing grows.
    /// An output that was not asked for does not appear.
    pub output: mpsc::Receiver<Output>,
    /// Input; absent when the client did not ask for it or the process has none. Dropping the
    /// sender alone closes nothing.
    pub input: Option<mpsc::Sender<Input>>,
    /// What the end of the client's input means.
    pub stdin_eof: StdinEof,
    /// Whether the process has a terminal: decides between raw and framed output.
    pub tty: bool,
    /// For exec processes: the detach keys given at creation, if any. Containers: None, the keys are
    /// in the request itself.
    pub detach_keys: Option<String>,
}
