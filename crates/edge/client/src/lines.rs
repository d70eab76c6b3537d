//! Streams of JSON documents, one a line: progress, events.

use std::marker::PhantomData;

use bytes::{Buf as _, BytesMut};
use havre_engine_types::gojson;
use serde::de::DeserializeOwned;

use crate::{ClientError, Response};

/// The longest line that is taken; a progress line has a few hundred bytes.
const LINE_MAX: usize = 4 << 20;

/// The documents of a response as they come.
#[derive(Debug)]
pub struct JsonLines<T> {
    response: Response,
    buffer: BytesMut,
    scanned: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonLines<T> {
    /// Reads the body of a response line by line.
    #[must_use]
    pub fn new(response: Response) -> Self {
        Self {
            response,
            buffer: BytesMut::new(),
            scanned: 0,
            kind: PhantomData,
        }
    }

    /// The next document; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(line) = self.take_line() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return self.parse(&line).map(Some);
            }
            if self.buffer.len() > LINE_MAX {
                return Err(ClientError::TooLarge {
                    request: self.response.request().to_owned(),
                    limit: LINE_MAX,
                });
            }
            let Some(chunk) = self.response.chunk().await? else {
                let rest = self.buffer.split();
                self.scanned = 0;
                let empty = rest.iter().all(u8::is_ascii_whitespace);
                return if empty {
                    Ok(None)
                } else {
                    self.parse(&rest).map(Some)
                };
            };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    fn take_line(&mut self) -> Option<BytesMut> {
        let found = self.buffer[self.scanned..].iter().position(|b| *b == b'\n');
        let Some(at) = found else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + at);
        self.buffer.advance(1);
        self.scanned = 0;
        Some(line)
    }

    fn parse(&self, line: &[u8]) -> Result<T, ClientError> {
        gojson::from_slice(line).map_err(|source| ClientError::Json {
            request: self.response.request().to_owned(),
            source,
        })
    }
}
