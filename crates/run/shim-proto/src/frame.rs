//! Ttrpc frames: a ten byte header and at most 4 MiB of data. Decodes from any split of the byte stream; never
//! allocates for a length that it has not accepted.
//!
//! Layout: <https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md>

use havre_types::{Classify, ErrorKind};
use thiserror::Error;

/// Length of the frame header.
pub const HEADER_LEN: usize = 10;
/// Longest data of one frame, as ttrpc's own limit.
pub const FRAME_LIMIT: usize = 4 << 20;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// A call, from client to server.
    Request,
    /// The answer to a call.
    Response,
    /// Data of a streaming call.
    Data,
    /// A type this side does not know; the frame can be skipped or refused.
    Unknown(u8),
}

impl FrameType {
    const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Data,
            other => Self::Unknown(other),
        }
    }

    const fn to_byte(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Data => 3,
            Self::Unknown(other) => other,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Pairs an answer with its call; odd for calls that a client starts.
    pub stream: u32,
    /// What `data` is.
    pub kind: FrameType,
    /// Flags of streaming calls; 0 otherwise.
    pub flags: u8,
    /// The protobuf message.
    pub data: Vec<u8>,
}

impl Frame {
    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// Fails when the data is longer than [`FRAME_LIMIT`]; `out` is unchanged then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let length = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
        if self.data.len() > FRAME_LIMIT {
            return Err(FrameError::TooLong {
                stream: self.stream,
                length,
            });
        }
        out.reserve(HEADER_LEN + self.data.len());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&[self.kind.to_byte(), self.flags]);
        out.extend_from_slice(&self.data);
        Ok(())
    }
}

/// Why bytes are not ttrpc, or a message does not fit.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The length field, or the message to be sent, is over the limit.
    #[error("ttrpc message of {length} bytes on stream {stream} is over the limit of 4194304")]
    TooLong {
        /// Stream of the message.
        stream: u32,
        /// Announced length.
        length: u32,
    },
}

impl Classify for FrameError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLong { .. } => ErrorKind::ResourceExhausted,
        }
    }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
}

impl FrameDecoder {
    /// Takes bytes as they came from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes have come.
    ///
    /// # Errors
    /// Fails when a header announces more than [`FRAME_LIMIT`]; the connection cannot be used further then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags] = *header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > FRAME_LIMIT {
            return Err(FrameError::TooLong { stream, length });
        }
        let Some(data) = rest.get(..size) else {
            return Ok(None);
        };
        let data = data.to_vec();
        if self.buffer.len() == HEADER_LEN + size {
            // An idle connection keeps no memory: the shim lives as long as its container.
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..HEADER_LEN + size);
        }
        Ok(Some(Frame {
            stream,
            kind: FrameType::from_byte(kind),
            flags,
            data,
        }))
    }

    /// Bytes held for a frame that is not whole yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let data = proptest::collection::vec(any::<u8>(), 0..600);
        let one = (any::<u32>(), any::<u8>(), any::<u8>(), data).prop_map(
            |(stream, kind, flags, data)| Frame {
                stream,
                kind: FrameType::from_byte(kind),
                flags,
                data,
            },
        );
        proptest::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(sent in frames(), cuts in proptest::collection::vec(1_usize..97, 1..40)) {
            let mut bytes = Vec::new();
            for frame in &sent {
                frame.encode(&mut bytes).expect("small frames fit");
            }
            let mut decoder = FrameDecoder::default();
            let mut got = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                decoder.push(now);
                while let Some(frame) = decoder.next_frame().expect("valid frames") {
                    got.push(frame);
                }
                rest = later;
            }
            prop_assert_eq!(got, sent);
            prop_assert_eq!(decoder.pending(), 0);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = FrameDecoder::default();
            decoder.push(&bytes);
            let mut consumed = 0;
            while let Ok(Some(frame)) = decoder.next_frame() {
                consumed += HEADER_LEN + frame.data.len();
            }
            prop_assert_eq!(consumed + decoder.pending(), bytes.len());
        }
    }

    #[test]
    fn length_over_the_limit_is_refused_both_ways() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[0, 0x40, 0, 1, 0, 0, 0, 7, 1, 0]);
        assert_eq!(
            decoder.next_frame(),
            Err(FrameError::TooLong {
                stream: 7,
                length: (4 << 20) + 1
            })
        );
        let frame = Frame {
            stream: 1,
            kind: FrameType::Request,
            flags: 0,
            data: vec![0; FRAME_LIMIT + 1],
        };
        let mut out = Vec::new();
        assert!(
            frame
                .encode(&mut out)
                .is_err_and(|error| matches!(error, FrameError::TooLong { .. }))
        );
        assert_eq!(out, Vec::<u8>::new());
    }
}
