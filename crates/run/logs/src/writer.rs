//! Writes a container's output into its log and rotates it. Never blocks on anything but the disk, and never stops
//! taking output: what cannot be written is counted.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::mem;
use std::path::PathBuf;

use fs_err::File;
use havre_types::Timestamp;
use memchr::memchr;

use crate::error::LogError;
use crate::files::{open_append, open_read, rotate};
use crate::record::{Stream, attrs_member, encode};

/// Longer lines are cut into records of this size, as Docker does
/// (<https://github.com/moby/moby/blob/master/daemon/logger/copier.go>).
pub const PARTIAL_SIZE: usize = 16 << 10;
/// Encoded records are handed to the kernel when this much has gathered.
const BATCH: usize = 32 << 10;

/// Where and how to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonFileOptions {
    /// The current file.
    pub path: PathBuf,
    /// Rotate once the file has reached this many bytes; 0 = never.
    pub max_size: u64,
    /// Files to keep, the current one included; 0 counts as 1.
    pub max_file: u32,
    /// Attributes of every record.
    pub attrs: BTreeMap<String, String>,
}

/// The log of one container, open for writing.
#[derive(Debug)]
pub struct JsonFileWriter {
    path: PathBuf,
    max_size: u64,
    max_file: u32,
    attrs: Vec<u8>,
    file: File,
    /// Bytes in `file`, without `batch`.
    size: u64,
    /// The file ends inside a record; the next one must begin on a new line.
    torn: bool,
    batch: Vec<u8>,
    records_in_batch: u64,
    dropped: u64,
    /// Begun lines of standard output and standard error.
    held: [Vec<u8>; 2],
}

impl JsonFileWriter {
    /// Opens the log; what it holds stays.
    ///
    /// # Errors
    /// Fails when the file cannot be opened or is not a regular file.
    pub fn open(options: JsonFileOptions) -> Result<Self, LogError> {
        let JsonFileOptions {
            path,
            max_size,
            max_file,
            attrs,
        } = options;
        let file = open_append(&path)?;
        let size = file
            .metadata()
            .map_err(|source| LogError::Open {
                path: path.clone(),
                source,
            })?
            .len();
        let mut writer = Self {
            path,
            max_size,
            max_file,
            attrs: attrs_member(&attrs),
            file,
            size,
            torn: false,
            batch: Vec::new(),
            records_in_batch: 0,
            dropped: 0,
            held: [Vec::new(), Vec::new()],
        };
        writer.torn = size > 0 && !writer.ends_with_newline();
        Ok(writer)
    }

    /// Takes bytes as they came from the process. Whole lines are in the file when this returns; the beginning of a
    /// line is held until it is complete, 16 KiB long, or [`JsonFileWriter::finish`] is called.
    ///
    /// # Errors
    /// Fails when records were lost ([`JsonFileWriter::dropped`]) or the file could not be rotated. The writer can be
    /// used further.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> Result<(), LogError> {
        let time = now.rfc3339();
        let mut result = Ok(());
        let mut rest = bytes;
        while !rest.is_empty() {
            let held = &mut self.held[stream as usize];
            let room = (PARTIAL_SIZE - held.len()).min(rest.len());
            let (window, after) = rest.split_at(room);
            let newline = memchr(b'\n', window);
            if newline.is_none() && held.len() + window.len() < PARTIAL_SIZE {
                held.extend_from_slice(window);
                break;
            }
            let taken = newline.map_or(window.len(), |at| at + 1);
            let outcome = if held.is_empty() && newline.is_some() {
                self.record(stream, window.get(..taken).unwrap_or_default(), &time)
            } else {
                let mut line = mem::take(held);
                line.extend_from_slice(window.get(..taken).unwrap_or_default());
                if newline.is_none() {
                    // Keeps a character whole: its end goes to the next record.
                    let tail = line.split_off(whole_characters(&line));
                    self.held[stream as usize] = tail;
                }
                self.record(stream, &line, &time)
            };
            result = result.and(outcome);
            rest = if newline.is_some() {
                rest.get(taken..).unwrap_or_default()
            } else {
                after
            };
        }
        result.and(self.flush())
    }

    /// Writes what is held of a last line without newline.
    ///
    /// # Errors
    /// As [`JsonFileWriter::write`].
    pub fn finish(&mut self, stream: Stream, now: Timestamp) -> Result<(), LogError> {
        let line = mem::take(&mut self.held[stream as usize]);
        if line.is_empty() {
            return Ok(());
        }
        self.record(stream, &line, &now.rfc3339()).and(self.flush())
    }

    /// How many records were lost to write errors.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn record(&mut self, stream: Stream, line: &[u8], time: &str) -> Result<(), LogError> {
        let gathered = u64::try_from(self.batch.len()).unwrap_or(u64::MAX);
        let full = self.max_size > 0 && self.size.saturating_add(gathered) >= self.max_size;
        let mut result = Ok(());
        if full || self.batch.len() >= BATCH {
            result = self.flush();
        }
        if full {
            result = result.and(self.rotate());
        }
        encode(line, stream, &self.attrs, time, &mut self.batch);
        self.records_in_batch += 1;
        result
    }

    fn flush(&mut self) -> Result<(), LogError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.torn {
            self.batch.insert(0, b'\n');
        }
        let outcome = self.file.write_all(&self.batch);
        let records = mem::take(&mut self.records_in_batch);
        let written = u64::try_from(mem::take(&mut self.batch).len()).unwrap_or(u64::MAX);
        self.size = self.size.saturating_add(written);
        match outcome {
            Ok(()) => {
                self.torn = false;
                Ok(())
            }
            Err(source) => {
                // How much of it arrived is unknown: a reader skips the damaged record.
                self.torn = true;
                self.dropped += records;
                Err(LogError::Write {
                    path: self.path.clone(),
                    source,
                })
            }
        }
    }

    fn rotate(&mut self) -> Result<(), LogError> {
        rotate(&self.path, self.max_file).map_err(|source| LogError::Rotate {
            path: self.path.clone(),
            source,
        })?;
        self.file = open_append(&self.path)?;
        self.size = 0;
        self.torn = false;
        Ok(())
    }

    fn ends_with_newline(&self) -> bool {
        let mut last = [0];
        open_read(&self.path)
            .ok()
            .and_then(|mut file| {
                file.seek(SeekFrom::End(-1)).ok()?;
                file.read_exact(&mut last).ok()
            })
            .is_some_and(|()| last == *b"\n")
    }
}

/// Length of `bytes` without a character that has only begun at its end.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let at = bytes.len() - back;
        let wanted = match bytes.get(at) {
            Some(0x80..=0xbf) => continue,
            Some(0xc2..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf4) => 4,
            _ => 1,
        };
        return if wanted > back { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_before_a_begun_character() {
        for (bytes, whole) in [
            (b"ab".as_slice(), 2),
            (b"", 0),
            ("aé".as_bytes(), 3),
            (b"a\xc3", 1),
            (b"a\xe2\x80", 1),
            (b"a\xf0\x9f\x98", 1),
            ("a😀".as_bytes(), 5),
            (b"\x80\x80\x80\x80", 4),
            (b"a\xff", 2),
        ] {
            assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
        }
    }
}
