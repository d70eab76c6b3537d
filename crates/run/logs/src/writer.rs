//! Writes a container's output into its log and rotates it. Never blocks on anything but the disk, and never stops
//! taking output: what cannot be written is counted.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::mem;
use std::path::{Path, PathBuf};

use fs_err::File;
use havre_types::Timestamp;

use crate::error::LogError;
use crate::files::{open_append, open_read, rotate};
use crate::local::{attrs_fields, encode_frame};
use crate::record::{Stream, attrs_member, encode};
use crate::split::{Piece, Splitter};

/// Encoded records are handed to the kernel when this much has gathered.
const BATCH: usize = 32 << 10;

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Docker's json-file: a JSON object a line.
    #[default]
    Json,
    /// Docker's local: length-framed protobuf messages.
    Local,
}

/// Where and how to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// The current file.
    pub path: PathBuf,
    /// How.
    pub format: Format,
    /// Rotate once the file has reached this many bytes; 0 = never.
    pub max_size: u64,
    /// Files to keep, the current one included; 0 counts as 1.
    pub max_file: u32,
    /// Attributes of every record.
    pub attrs: BTreeMap<String, String>,
}

/// The log of one container, open for writing.
#[derive(Debug)]
pub struct FileWriter {
    path: PathBuf,
    format: Format,
    max_size: u64,
    max_file: u32,
    attrs: Vec<u8>,
    file: File,
    /// Bytes in `file`, without `batch`.
    size: u64,
    /// The file ends inside a record; the next one must begin on a new line.
    torn: bool,
    batch: Vec<u8>,
    /// Where each record of the batch ends.
    ends: Vec<usize>,
    dropped: u64,
    rotated: bool,
    splitter: Splitter,
}

impl FileWriter {
    /// Opens the log; what it holds stays.
    ///
    /// # Errors
    /// Fails when the file cannot be opened or is not a regular file.
    pub fn open(options: FileOptions) -> Result<Self, LogError> {
        let FileOptions {
            path,
            format,
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
            format,
            max_size,
            max_file,
            attrs: match format {
                Format::Json => attrs_member(&attrs),
                Format::Local => attrs_fields(&attrs),
            },
            file,
            size,
            torn: false,
            batch: Vec::new(),
            ends: Vec::new(),
            dropped: 0,
            rotated: true,
            splitter: Splitter::default(),
        };
        writer.torn = size > 0 && format == Format::Json && !writer.ends_with_newline();
        Ok(writer)
    }

    /// Takes bytes as they came from the process. Whole lines are in the file when this returns; the beginning of a
    /// line is held until it is complete, 16 KiB long, or [`FileWriter::finish`] is called.
    ///
    /// # Errors
    /// Fails when records were lost ([`FileWriter::dropped`]) or the file could not be rotated. The writer can be
    /// used further.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> Result<(), LogError> {
        let stamp = Stamp::new(now, self.format);
        let mut result = Ok(());
        let mut splitter = mem::take(&mut self.splitter);
        splitter.split(stream, bytes, |piece| {
            let outcome = self.record(piece, &stamp);
            if result.is_ok() {
                result = outcome;
            }
        });
        self.splitter = splitter;
        result.and(self.flush())
    }

    /// Writes what is held of a last line without newline.
    ///
    /// # Errors
    /// As [`FileWriter::write`].
    pub fn finish(&mut self, stream: Stream, now: Timestamp) -> Result<(), LogError> {
        let stamp = Stamp::new(now, self.format);
        let mut result = Ok(());
        let mut splitter = mem::take(&mut self.splitter);
        splitter.finish(stream, |piece| result = self.record(piece, &stamp));
        self.splitter = splitter;
        result.and(self.flush())
    }

    /// Whether there is a rotated file that this was not asked about before. After opening there may be.
    pub const fn take_rotated(&mut self) -> bool {
        mem::replace(&mut self.rotated, false)
    }

    /// The current file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many records were lost to write errors.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn record(&mut self, piece: Piece<'_>, stamp: &Stamp) -> Result<(), LogError> {
        let gathered = u64::try_from(self.batch.len()).unwrap_or(u64::MAX);
        let full = self.max_size > 0 && self.size.saturating_add(gathered) >= self.max_size;
        let mut result = Ok(());
        if full || self.batch.len() >= BATCH {
            result = self.flush();
        }
        if full {
            result = result.and(self.rotate());
        }
        match stamp {
            Stamp::Text(time) => encode(
                piece.bytes,
                piece.stream,
                &self.attrs,
                time,
                &mut self.batch,
            ),
            Stamp::Exact(time) => encode_frame(piece, &self.attrs, *time, &mut self.batch),
        }
        self.ends.push(self.batch.len());
        result
    }

    fn flush(&mut self) -> Result<(), LogError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        // A record that follows a torn one begins on a new line.
        let separator = usize::from(self.torn);
        if self.torn {
            self.batch.insert(0, b'\n');
        }
        let (written, outcome) = write_some(&self.file, &self.batch);
        let whole = |end: &&usize| *end + separator <= written;
        let kept = self.ends.iter().take_while(whole).count();
        let end = kept.checked_sub(1).and_then(|last| self.ends.get(last));
        let lost = self.ends.len() - kept;
        let (begun, end) = (written > 0, end.map_or(0, |end| end + separator));
        // Idle shims hold no memory for it.
        self.batch = Vec::new();
        self.ends = Vec::new();
        self.size = self
            .size
            .saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        // A reader skips the record that is there in part; the separator alone is enough to begin anew.
        let partial = written > end.max(separator);
        self.torn = self.format == Format::Json && (partial || (self.torn && !begun));
        self.dropped += u64::try_from(lost).unwrap_or(u64::MAX);
        outcome.map_err(|source| LogError::Write {
            path: self.path.clone(),
            source,
        })
    }

    fn rotate(&mut self) -> Result<(), LogError> {
        rotate(&self.path, self.max_file).map_err(|source| LogError::Rotate {
            path: self.path.clone(),
            source,
        })?;
        self.file = open_append(&self.path)?;
        self.size = 0;
        self.torn = false;
        self.rotated = true;
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

/// Writes as much as there is room for.
fn write_some(mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// The time of records as their format has it, made once for all that are written together.
enum Stamp {
    Text(String),
    Exact(Timestamp),
}

impl Stamp {
    fn new(now: Timestamp, format: Format) -> Self {
        match format {
            Format::Json => Self::Text(now.rfc3339()),
            Format::Local => Self::Exact(now),
        }
    }
}
