//! Takes apart the stream in which Docker multiplexes stdout and stderr
//! (<https://docs.docker.com/reference/api/engine/version/v1.50/#tag/Container/operation/ContainerAttach>).
//!
//! Bounded: nothing is kept but the eight bytes of a header; payload is handed on as it comes, however long the frame
//! says it is.

/// Which stream a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output (and echoed standard input, stream 0).
    Stdout,
    /// Standard error.
    Stderr,
    /// An error of the engine about the stream itself.
    System,
}

/// A header that names no stream: the bytes are not multiplexed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized input header: {0}")]
pub struct HeaderError(pub u8);

/// The state between two reads.
#[derive(Debug, Default)]
pub struct Demux {
    header: [u8; 8],
    have: usize,
    stream: Option<Stream>,
    left: usize,
}

impl Demux {
    /// Hands each piece of payload in `bytes` to `sink`, in order.
    pub fn push<E: From<HeaderError>>(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(Stream, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if let Some(stream) = self.stream {
                let (piece, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= piece.len();
                if self.left == 0 {
                    self.stream = None;
                }
                bytes = rest;
                sink(stream, piece)?;
            } else {
                let take = (8 - self.have).min(bytes.len());
                let (piece, rest) = bytes.split_at(take);
                self.header[self.have..self.have + take].copy_from_slice(piece);
                self.have += take;
                bytes = rest;
                if self.have == 8 {
                    self.begin_frame()?;
                }
            }
        }
        Ok(())
    }

    /// Whether the stream may end here: not within a header or a frame.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.have == 0 && self.stream.is_none()
    }

    fn begin_frame(&mut self) -> Result<(), HeaderError> {
        let [kind, _, _, _, len @ ..] = self.header;
        self.have = 0;
        self.left = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        let stream = match kind {
            0 | 1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::System,
            other => return Err(HeaderError(other)),
        };
        self.stream = (self.left > 0).then_some(stream);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: &[u8], chunk: usize) -> Result<(Vec<u8>, Vec<u8>), HeaderError> {
        let mut demux = Demux::default();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(chunk) {
            demux.push::<HeaderError>(piece, |stream, data| {
                match stream {
                    Stream::Stdout => out.extend_from_slice(data),
                    Stream::Stderr | Stream::System => err.extend_from_slice(data),
                }
                Ok(())
            })?;
        }
        assert!(demux.is_at_boundary());
        Ok((out, err))
    }

    #[test]
    fn frames_are_taken_apart_wherever_reads_cut_them() {
        let bytes =
            b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x02de\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01f";
        for chunk in 1..=bytes.len() {
            assert_eq!(
                split(bytes, chunk),
                Ok((b"abcf".to_vec(), b"de".to_vec())),
                "{chunk}"
            );
        }
        assert_eq!(split(b"plain text", 4), Err(HeaderError(b'p')));
    }

    #[test]
    fn a_huge_frame_needs_no_memory() {
        let mut demux = Demux::default();
        let mut seen = 0;
        let header = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        demux.push::<HeaderError>(&header, |_, _| Ok(())).unwrap();
        let count = |_: Stream, data: &[u8]| {
            seen += data.len();
            Ok(())
        };
        demux.push::<HeaderError>(&[0; 100], count).unwrap();
        assert_eq!(seen, 100);
        assert!(!demux.is_at_boundary());
    }
}
