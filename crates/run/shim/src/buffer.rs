//! Bytes on their way to a descriptor that may not take them yet. Holds memory only while there are any.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::io::Errno;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is held.
    pub(crate) fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Adds bytes without sending.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Sends what fits now; the rest is kept. Nothing is copied when all of it fits.
    pub(crate) fn send(&mut self, fd: impl AsFd, parts: &[&[u8]]) -> io::Result<()> {
        let mut direct = 0;
        if self.is_empty() {
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            direct = match rustix::io::writev(&fd, &slices) {
                Ok(count) => count,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(error) => return Err(error.into()),
            };
        }
        for part in parts {
            let skip = direct.min(part.len());
            direct -= skip;
            self.bytes
                .extend_from_slice(part.get(skip..).unwrap_or_default());
        }
        Ok(())
    }

    /// Sends what is held, as far as it fits now.
    pub(crate) fn flush(&mut self, fd: impl AsFd) -> io::Result<()> {
        while !self.is_empty() {
            let rest = self.bytes.get(self.sent..).unwrap_or_default();
            match rustix::io::write(&fd, rest) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.is_empty() {
            *self = Self::default();
        } else if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn keeps_what_does_not_fit_and_its_order() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).expect("pipe");
        let data: Vec<u8> = (0_u32..100_000).flat_map(u32::to_le_bytes).collect();
        let mut outbox = Outbox::default();
        let mut chunks = data.chunks(1000);
        let mut got = Vec::new();
        let mut buffer = [0; 7777];
        while got.len() < data.len() {
            if let (Some(head), tail) = (chunks.next(), chunks.next()) {
                outbox
                    .send(&writer, &[head, tail.unwrap_or_default()])
                    .expect("reader is there");
            }
            if got.len() % 3 != 0 || chunks.len() == 0 {
                outbox.flush(&writer).expect("reader is there");
            }
            match rustix::io::read(&reader, &mut buffer[..4321]) {
                Ok(count) => got.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error, Errno::AGAIN),
            }
        }
        assert!(got == data && outbox.is_empty());
        drop(reader);
        // No SIGPIPE: Rust ignores it before main.
        assert_eq!(
            outbox
                .send(&writer, &[b"x"])
                .expect_err("nobody reads")
                .kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
