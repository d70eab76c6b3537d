//! One file of a log and what has been read of it: bytes to records, past whatever is damaged.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;

use memchr::memchr;
use rustix::fs::fstat;
use rustix::io::pread;

use crate::files::Input;
use crate::local::{FRAME_LIMIT, Found, find_frame};
use crate::record::{self, Entry};
use crate::writer::Format;

/// Bytes asked of the kernel at once.
pub(super) const CHUNK: usize = 32 << 10;
/// A longer record is none of ours: 16 KiB of control characters and the attributes stay far below.
pub(super) const RECORD_LIMIT: usize = FRAME_LIMIT;

/// One file and what has been read of it.
#[derive(Debug)]
pub(super) struct Source {
    input: Input,
    format: Format,
    /// Where `buffer` ends in the file.
    offset: u64,
    buffer: Vec<u8>,
    /// Start of the next record in `buffer`.
    start: usize,
    /// Records to pass over: a compressed file can only be read from its beginning.
    skip: u64,
    /// The line is over the limit; its bytes are dropped up to the newline.
    overlong: bool,
    /// A newer file was seen, so nothing more is written to this one.
    pub(super) complete: bool,
}

/// What a file has to give.
pub(super) enum Line {
    /// A record; none if it is damaged.
    Record(Option<Box<Entry>>),
    End,
}

/// What the buffer has to give.
enum Step {
    Line(Line),
    Blank,
    More,
}

impl Source {
    pub(super) const fn new(input: Input, format: Format) -> Self {
        Self {
            input,
            format,
            offset: 0,
            buffer: Vec::new(),
            start: 0,
            skip: 0,
            overlong: false,
            complete: false,
        }
    }

    pub(super) const fn input(&self) -> &Input {
        &self.input
    }

    /// Begins at a place of a file that is not compressed.
    pub(super) fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// Begins after so many records.
    pub(super) fn skipping(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Where the next record begins in the file.
    pub(super) fn position(&self) -> u64 {
        let unread = self.buffer.len() - self.start;
        self.offset - u64::try_from(unread).unwrap_or(0)
    }

    pub(super) fn next_record(&mut self) -> io::Result<Line> {
        loop {
            match self.next_line()? {
                Line::Record(Some(_)) if self.skip > 0 => self.skip -= 1,
                other => return Ok(other),
            }
        }
    }

    fn next_line(&mut self) -> io::Result<Line> {
        let mut searched = self.start;
        let mut at_end = false;
        loop {
            let step = match self.format {
                Format::Json => self.json_line(searched),
                Format::Local => self.local_frame(at_end),
            };
            match step {
                Step::Line(line) => return Ok(line),
                Step::Blank => {
                    searched = self.start;
                    continue;
                }
                Step::More if at_end => {
                    if self.buffer.is_empty() {
                        self.buffer = Vec::new();
                    }
                    return Ok(Line::End);
                }
                Step::More => {}
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.format == Format::Json && self.buffer.len() > RECORD_LIMIT {
                self.overlong = true;
                self.buffer = Vec::new();
            }
            searched = self.buffer.len();
            at_end = self.fill()? == 0;
        }
    }

    fn json_line(&mut self, searched: usize) -> Step {
        let unread = self.buffer.get(searched..).unwrap_or_default();
        let Some(at) = memchr(b'\n', unread) else {
            return Step::More;
        };
        let line = self.buffer.get(self.start..searched + at);
        let line = line.unwrap_or_default();
        // The writer puts a newline before a record that follows a torn one.
        let blank = line.is_empty() && !self.overlong;
        let entry = if self.overlong {
            None
        } else {
            record::decode(line)
        };
        self.start = searched + at + 1;
        self.overlong = false;
        if blank {
            Step::Blank
        } else {
            Step::Line(Line::Record(entry.map(Box::new)))
        }
    }

    fn local_frame(&mut self, at_end: bool) -> Step {
        let unread = self.buffer.get(self.start..).unwrap_or_default();
        if unread.is_empty() {
            return Step::More;
        }
        match find_frame(unread, at_end) {
            Found::Record(framed, length) => {
                self.start += length;
                Step::Line(Line::Record(Some(Box::new(framed.entry))))
            }
            Found::Damage(length) => {
                self.start += length;
                Step::Line(Line::Record(None))
            }
            Found::More => Step::More,
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let known = self.buffer.len();
        self.buffer.resize(known + CHUNK, 0);
        let free = self.buffer.get_mut(known..).unwrap_or_default();
        let outcome = match &mut self.input {
            Input::Plain(file) => pread(file.as_fd(), free, self.offset).map_err(io::Error::from),
            // What a damaged file still gives has been given.
            Input::Packed(_, unpacking) => Ok(unpacking.read(free).unwrap_or(0)),
        };
        let count = *outcome.as_ref().unwrap_or(&0);
        self.buffer.truncate(known + count);
        outcome?;
        self.offset += u64::try_from(count).unwrap_or(0);
        if count == 0 && self.was_truncated()? {
            self.offset = 0;
            self.buffer = Vec::new();
            return self.fill();
        }
        Ok(count)
    }

    /// An administrator may empty the file (`: > log`); what comes then is new.
    fn was_truncated(&self) -> io::Result<bool> {
        let Input::Plain(file) = &self.input else {
            return Ok(false);
        };
        let size = u64::try_from(fstat(file.as_fd())?.st_size).unwrap_or(0);
        Ok(size < self.offset && size > 0)
    }
}
