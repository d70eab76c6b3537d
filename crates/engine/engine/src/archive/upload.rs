//! An upload as a reader.

use std::io::{self, Read};

use bytes::Bytes;
use havre_api_traits::Upload;

/// An upload for a thread that may block. One cut short is an error, never an end.
#[derive(Debug)]
pub(crate) struct Body {
    upload: Upload,
    rest: Bytes,
}

impl Body {
    pub(crate) const fn new(upload: Upload) -> Self {
        Self {
            upload,
            rest: Bytes::new(),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.upload.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
