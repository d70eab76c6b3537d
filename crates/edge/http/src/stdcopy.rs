//! Docker's framing of several outputs on one stream: `[stream, 0, 0, 0, length as u32 BE]`, then the bytes
//! (<https://docs.docker.com/reference/api/engine/version/v1.51/#tag/Container/operation/ContainerAttach>).

use bytes::{BufMut as _, Bytes, BytesMut};
use havre_api_traits::OutputStream;

/// The stream number of messages of the engine itself, which clients treat as an error.
pub(crate) const SYSTEM_ERROR: u8 = 3;

/// The number of a stream in a frame.
pub(crate) fn number(stream: OutputStream) -> u8 {
    match stream {
        OutputStream::Stdout => 1,
        OutputStream::Stderr => 2,
    }
}

/// The header of a frame with `length` bytes; longer payloads do not occur, output arrives in pieces.
pub(crate) fn header(stream: u8, length: usize) -> [u8; 8] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [stream, 0, 0, 0, a, b, c, d]
}

/// A whole frame.
pub(crate) fn frame(stream: u8, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + data.len());
    out.put_slice(&header(stream, data.len()));
    out.put_slice(data);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_dockers() {
        let out = frame(number(OutputStream::Stderr), b"hi\n");
        assert_eq!(&out[..], b"\x02\0\0\0\0\0\0\x03hi\n");
        assert_eq!(header(1, 0x0102_0304), [1, 0, 0, 0, 1, 2, 3, 4]);
    }
}
