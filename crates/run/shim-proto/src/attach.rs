//! The attach protocol: one line of JSON each way, then frames with Docker's stdcopy header.
//!
//! Header: <https://github.com/moby/moby/blob/master/api/pkg/stdcopy/stdcopy.go>. Unlike Docker's, frames also travel
//! from client to shim (stream 0), and an empty one there means that stdin is at its end.

use havre_types::{Classify, ErrorKind};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Length of a frame header.
pub const HEADER_LEN: usize = 8;
/// Longest data of one frame either way. Senders cut at this; receivers refuse more.
pub const FRAME_LIMIT: usize = 64 << 10;
/// Longest first line either way.
pub const LINE_LIMIT: usize = 4096;

/// First line of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachRequest {
    /// Empty for the container's first process.
    pub exec_id: String,
    /// The client will send input.
    pub stdin: bool,
    /// The client wants the output (of a terminal: all of it).
    pub stdout: bool,
    /// The client wants the error output.
    pub stderr: bool,
}

/// First line of the shim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachReply {
    /// Why not; absent when attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stream {
    /// Towards the process.
    Stdin = 0,
    /// Output; all output of a terminal.
    Stdout = 1,
    /// Error output.
    Stderr = 2,
}

/// The header of `length` bytes on `stream`.
#[must_use]
pub const fn header(stream: Stream, length: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Reads a header.
///
/// # Errors
/// Fails on an unknown stream and on a length over [`FRAME_LIMIT`].
pub fn parse_header(bytes: [u8; HEADER_LEN]) -> Result<(Stream, usize), AttachError> {
    let [number, _, _, _, a, b, c, d] = bytes;
    let stream = match number {
        0 => Stream::Stdin,
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        number => return Err(AttachError::UnknownStream { number }),
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    match usize::try_from(length) {
        Ok(size) if size <= FRAME_LIMIT => Ok((stream, size)),
        _ => Err(AttachError::TooLong { length }),
    }
}

/// Why the bytes are not the attach protocol.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AttachError {
    /// The header names a stream that does not exist.
    #[error("attach frame for unknown stream {number}")]
    UnknownStream {
        /// The number.
        number: u8,
    },
    /// The header announces more than the limit.
    #[error("attach frame of {length} bytes is over the limit of 65536")]
    TooLong {
        /// Announced length.
        length: u32,
    },
}

impl Classify for AttachError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownStream { .. } | Self::TooLong { .. } => ErrorKind::InvalidParameter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip_and_refusals() {
        for stream in [Stream::Stdin, Stream::Stdout, Stream::Stderr] {
            assert_eq!(parse_header(header(stream, 65536)), Ok((stream, 65536)));
        }
        assert_eq!(
            parse_header([3, 0, 0, 0, 0, 0, 0, 1]),
            Err(AttachError::UnknownStream { number: 3 })
        );
        assert_eq!(
            parse_header(header(Stream::Stdin, 65537)),
            Err(AttachError::TooLong { length: 65537 })
        );
    }

    #[test]
    fn lines_are_the_documented_json() {
        let request: AttachRequest =
            serde_json::from_str(r#"{"stdout":true}"#).expect("partial request");
        assert_eq!(
            request,
            AttachRequest {
                stdout: true,
                ..AttachRequest::default()
            }
        );
        assert_eq!(
            serde_json::to_string(&AttachReply::default()).expect("plain"),
            "{}"
        );
    }
}
