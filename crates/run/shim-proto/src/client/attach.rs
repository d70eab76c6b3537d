//! A client's side of the attach socket.

use std::io;
use std::path::Path;

use havre_types::{Classify, ErrorKind};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::attach::{
    AttachError, AttachReply, AttachRequest, FRAME_LIMIT, HEADER_LEN, LINE_LIMIT, Stream, header,
    parse_header,
};

/// Why attaching failed.
#[derive(Debug, Error)]
pub enum AttachClientError {
    /// The socket failed.
    #[error("failed to talk to the attach socket")]
    Socket(#[source] io::Error),
    /// The shim refused, for example because the process has ended.
    #[error("{message}")]
    Refused {
        /// The shim's text.
        message: String,
    },
    /// The shim's first line is not a reply.
    #[error("attach socket answered with something else than a reply")]
    Garbage,
    /// The shim sent a frame that cannot be.
    #[error("failed to read attach output")]
    Frame(#[source] AttachError),
}

impl Classify for AttachClientError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Socket(_) => ErrorKind::Unavailable,
            Self::Refused { .. } => ErrorKind::Conflict,
            Self::Garbage | Self::Frame(_) => ErrorKind::Internal,
        }
    }
}

/// Output of the process, frame by frame.
#[derive(Debug)]
pub struct AttachReader {
    socket: BufReader<OwnedReadHalf>,
}

/// Input of the process. Dropping it does not close stdin: [`AttachWriter::close_stdin`] does.
#[derive(Debug)]
pub struct AttachWriter {
    socket: OwnedWriteHalf,
}

/// Connects to the socket at `path` and attaches.
///
/// # Errors
/// Fails when nobody listens there or the shim refuses.
pub async fn attach(
    path: &Path,
    request: &AttachRequest,
) -> Result<(AttachReader, AttachWriter), AttachClientError> {
    let socket = UnixStream::connect(path)
        .await
        .map_err(AttachClientError::Socket)?;
    let (reader, mut writer) = socket.into_split();
    let mut line = serde_json::to_vec(request)
        .map_err(|source| AttachClientError::Socket(io::Error::from(source)))?;
    line.push(b'\n');
    writer
        .write_all(&line)
        .await
        .map_err(AttachClientError::Socket)?;
    let mut reader = BufReader::with_capacity(16 << 10, reader);
    let mut reply = Vec::new();
    loop {
        match reader.read_u8().await.map_err(AttachClientError::Socket)? {
            b'\n' => break,
            _ if reply.len() == LINE_LIMIT => return Err(AttachClientError::Garbage),
            byte => reply.push(byte),
        }
    }
    match serde_json::from_slice::<AttachReply>(&reply) {
        Ok(AttachReply { error: None }) => Ok((
            AttachReader { socket: reader },
            AttachWriter { socket: writer },
        )),
        Ok(AttachReply {
            error: Some(message),
        }) => Err(AttachClientError::Refused { message }),
        Err(_) => Err(AttachClientError::Garbage),
    }
}

impl AttachReader {
    /// The next piece of output; `None` when the process has ended and everything has been delivered.
    ///
    /// Not cancel-safe: run it to its end (a task that feeds a channel), or the stream loses its place.
    ///
    /// # Errors
    /// Fails when the shim dies in the middle of a frame.
    pub async fn next(&mut self) -> Result<Option<(Stream, Vec<u8>)>, AttachClientError> {
        let mut head = [0; HEADER_LEN];
        match self.socket.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(AttachClientError::Socket(error)),
        }
        let (stream, length) = parse_header(head).map_err(AttachClientError::Frame)?;
        let mut data = vec![0; length];
        self.socket
            .read_exact(&mut data)
            .await
            .map_err(AttachClientError::Socket)?;
        Ok(Some((stream, data)))
    }
}

impl AttachWriter {
    /// Sends input.
    ///
    /// # Errors
    /// Fails when the shim has closed the session.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), AttachClientError> {
        for chunk in bytes.chunks(FRAME_LIMIT) {
            self.frame(chunk).await?;
        }
        Ok(())
    }

    /// Tells that no more input comes; the process reads end of file.
    ///
    /// # Errors
    /// Fails when the shim has closed the session.
    pub async fn close_stdin(&mut self) -> Result<(), AttachClientError> {
        self.frame(&[]).await
    }

    async fn frame(&mut self, data: &[u8]) -> Result<(), AttachClientError> {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut bytes = header(Stream::Stdin, length).to_vec();
        bytes.extend_from_slice(data);
        self.socket
            .write_all(&bytes)
            .await
            .map_err(AttachClientError::Socket)
    }
}
