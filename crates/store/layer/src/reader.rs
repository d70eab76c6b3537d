//! The archive reader: ustar, PAX, GNU and V7 entries from a stream, in one pass and without copying
//! file data. Where readers in use disagree about an archive it is refused, not guessed at.
//!
//! <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06>,
//! <https://www.gnu.org/software/tar/manual/html_node/Standard.html>

mod block;
mod sparse;

use std::io::{self, BufRead, Read};

use crate::error::{TarError, shown};
use crate::header::{Entry, Kind};
use crate::pax::{self, Pax};
use crate::reader::block::{BLOCK, Block};

/// Longest extended header or long name.
const EXTENSION_LIMIT: u64 = 1024 * 1024;

/// Reads entries from `R`. After an error nothing more can be read.
#[derive(Debug)]
pub struct TarReader<R> {
    source: R,
    offset: u64,
    /// Bytes of the last piece handed out, still in the source's buffer.
    handed_out: usize,
    /// Data of the current entry that is still to come, and its padding.
    left: u64,
    padding: u64,
    /// Where the data belongs in the file: the parts not reached yet, the last one first.
    parts: Vec<(u64, u64)>,
    ended: bool,
}

/// A piece of an entry's data.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    /// Where in the file it belongs; pieces come in order and holes have none.
    pub offset: u64,
    pub bytes: &'a [u8],
}

#[derive(Debug, Default)]
struct Extensions {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    const fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

impl<R: BufRead> TarReader<R> {
    pub const fn new(source: R) -> Self {
        Self {
            source,
            offset: 0,
            handed_out: 0,
            left: 0,
            padding: 0,
            parts: Vec::new(),
            ended: false,
        }
    }

    /// The next entry, past what is left of the current one. `None` at the end of the archive;
    /// whatever follows the end mark is not looked at.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        if self.ended {
            return Ok(None);
        }
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        loop {
            let start = self.offset;
            let Some(block) = self.header()? else {
                if !extensions.is_empty() {
                    return Err(self.header_error(start, "the archive ends after an extension"));
                }
                self.ended = true;
                return Ok(None);
            };
            if !self.extension(start, &block, &mut extensions)? {
                return self.entry(start, &block, extensions).map(Some);
            }
        }
    }

    /// The next piece of the current entry's data; `None` at its end.
    pub fn data(&mut self) -> Result<Option<Data<'_>>, TarError> {
        self.consume();
        while self.parts.last().is_some_and(|(_, length)| *length == 0) {
            self.parts.pop();
        }
        let Some((offset, length)) = self.parts.last().copied() else {
            return Ok(None);
        };
        let available = self.fill()?;
        if available == 0 {
            return Err(TarError::Truncated {
                offset: self.offset,
            });
        }
        let piece = usize::try_from(length).unwrap_or(usize::MAX).min(available);
        if let Some(part) = self.parts.last_mut() {
            *part = (offset + piece as u64, length - piece as u64);
        }
        self.left -= piece as u64;
        self.handed_out = piece;
        let position = self.offset;
        let buffer = self.source.fill_buf().map_err(|source| TarError::Read {
            offset: position,
            source,
        })?;
        Ok(Some(Data {
            offset,
            bytes: &buffer[..piece],
        }))
    }

    /// The current entry's data as a reader, with zeros for holes of a sparse file.
    pub const fn content(&mut self, entry: &Entry) -> Content<'_, R> {
        Content {
            reader: self,
            position: 0,
            size: entry.size,
            pending: 0,
            next: 0,
        }
    }

    /// How many bytes of the archive have been read.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Gives the source back, wherever it stands.
    pub fn into_inner(mut self) -> R {
        self.consume();
        self.source
    }

    fn consume(&mut self) {
        self.source.consume(self.handed_out);
        self.offset += self.handed_out as u64;
        self.handed_out = 0;
    }

    fn fill(&mut self) -> Result<usize, TarError> {
        loop {
            match self.source.fill_buf() {
                Ok(buffer) => return Ok(buffer.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(TarError::Read {
                        offset: self.offset,
                        source,
                    });
                }
            }
        }
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        self.consume();
        let mut rest = self
            .left
            .checked_add(self.padding)
            .ok_or(TarError::Truncated {
                offset: self.offset,
            })?;
        while rest > 0 {
            let available = self.fill()?;
            if available == 0 {
                return Err(TarError::Truncated {
                    offset: self.offset,
                });
            }
            let step = usize::try_from(rest).unwrap_or(usize::MAX).min(available);
            self.source.consume(step);
            self.offset += step as u64;
            rest -= step as u64;
        }
        self.left = 0;
        self.padding = 0;
        self.parts.clear();
        Ok(())
    }

    /// One block; `None` when the source ended exactly before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let available = self.fill()?;
            if available == 0 {
                if filled == 0 {
                    return Ok(None);
                }
                return Err(TarError::Truncated {
                    offset: self.offset,
                });
            }
            let step = available.min(BLOCK - filled);
            let position = self.offset;
            let buffer = self.source.fill_buf().map_err(|source| TarError::Read {
                offset: position,
                source,
            })?;
            block[filled..filled + step].copy_from_slice(&buffer[..step]);
            self.source.consume(step);
            self.offset += step as u64;
            filled += step;
        }
        Ok(Some(block))
    }

    /// The next header; `None` at the end mark, or where the source ends without one. One zero
    /// block with something else after it is an error: GNU tar stops there, others go on.
    fn header(&mut self) -> Result<Option<Block>, TarError> {
        let start = self.offset;
        let Some(bytes) = self.block()? else {
            return Ok(None);
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return match self.block()? {
                Some(next) if next.iter().any(|byte| *byte != 0) => {
                    Err(self.header_error(start, "a zero block is followed by data"))
                }
                _ => Ok(None),
            };
        }
        Block::check(bytes)
            .map(Some)
            .map_err(|problem| self.header_error(start, problem))
    }

    /// Takes in an extension; `false` when the block is an entry's own.
    fn extension(
        &mut self,
        start: u64,
        block: &Block,
        extensions: &mut Extensions,
    ) -> Result<bool, TarError> {
        let failed = |problem| TarError::Extension {
            offset: start,
            problem,
        };
        let taken = match block.kind() {
            b'x' => {
                let parsed = pax::parse(&self.extension_data(start, block)?).map_err(failed)?;
                extensions.pax.replace(parsed).is_some()
            }
            b'g' => {
                pax::check_global(&self.extension_data(start, block)?).map_err(failed)?;
                false
            }
            b'L' => {
                let name = self.long_name(start, block)?;
                extensions.long_name.replace(name).is_some()
            }
            b'K' => {
                let name = self.long_name(start, block)?;
                extensions.long_link.replace(name).is_some()
            }
            _ => return Ok(false),
        };
        if taken {
            return Err(failed("an entry has two of one kind"));
        }
        Ok(true)
    }

    fn extension_data(&mut self, start: u64, block: &Block) -> Result<Vec<u8>, TarError> {
        let size = block
            .size()
            .ok_or_else(|| self.header_error(start, "size is no number"))?;
        if size > EXTENSION_LIMIT {
            return Err(TarError::ExtensionSize {
                offset: start,
                size,
                limit: EXTENSION_LIMIT,
            });
        }
        self.set_data(size, vec![(0, size)]);
        let mut bytes = Vec::new();
        while let Some(piece) = self.data()? {
            bytes.extend_from_slice(piece.bytes);
        }
        self.skip_rest()?;
        Ok(bytes)
    }

    /// GNU tar ends these with a NUL; nothing may follow it.
    fn long_name(&mut self, start: u64, block: &Block) -> Result<Vec<u8>, TarError> {
        let mut name = self.extension_data(start, block)?;
        let end = name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(name.len());
        if name[end..].iter().any(|byte| *byte != 0) || end == 0 {
            let problem = "a long name is empty or holds a NUL";
            return Err(TarError::Extension {
                offset: start,
                problem,
            });
        }
        name.truncate(end);
        Ok(name)
    }

    fn set_data(&mut self, stored: u64, mut parts: Vec<(u64, u64)>) {
        parts.reverse();
        self.left = stored;
        self.padding = (BLOCK as u64 - stored % BLOCK as u64) % BLOCK as u64;
        self.parts = parts;
    }

    fn entry(
        &mut self,
        start: u64,
        block: &Block,
        extensions: Extensions,
    ) -> Result<Entry, TarError> {
        let invalid = |problem| TarError::Header {
            offset: start,
            problem,
        };
        let pax = extensions.pax.unwrap_or_default();
        if pax.path.is_some() && extensions.long_name.is_some()
            || pax.link.is_some() && extensions.long_link.is_some()
        {
            return Err(invalid("both PAX and GNU extensions name the entry"));
        }
        let path = pax
            .path
            .or(extensions.long_name)
            .unwrap_or_else(|| block.path());
        let link = pax
            .link
            .or(extensions.long_link)
            .unwrap_or_else(|| block.link());
        let mut entry = Entry {
            kind: Kind::File,
            mode: block.mode().ok_or_else(|| invalid("mode is no number"))?,
            uid: pax
                .uid
                .or_else(|| block.uid())
                .ok_or_else(|| invalid("uid is no number"))?,
            gid: pax
                .gid
                .or_else(|| block.gid())
                .ok_or_else(|| invalid("gid is no number"))?,
            user: pax.user.unwrap_or_else(|| block.user()),
            group: pax.group.unwrap_or_else(|| block.group()),
            mtime: pax
                .mtime
                .or_else(|| block.mtime())
                .ok_or_else(|| invalid("mtime is no number"))?,
            size: 0,
            xattrs: pax.xattrs,
            sparse: None,
            path,
        };
        let size = pax
            .size
            .or_else(|| block.size())
            .ok_or_else(|| invalid("size is no number"))?;
        if i64::try_from(size).is_err() {
            return Err(invalid("size is too large"));
        }
        entry.kind = block
            .entry_kind(&entry.path, link)
            .map_err(|problem| match problem {
                Some(problem) => invalid(problem),
                None => TarError::Type {
                    name: shown(&entry.path),
                    found: char::from(block.kind()),
                },
            })?;
        match entry.kind {
            Kind::File => self.file_data(block, &mut entry, size, pax.sparse)?,
            // Readers agree that no data follows a hard link, whatever its size says.
            Kind::HardLink { .. } => self.set_data(0, Vec::new()),
            _ if size != 0 => return Err(invalid("an entry without content has a size")),
            _ => self.set_data(0, Vec::new()),
        }
        Ok(entry)
    }

    fn header_error(&self, offset: u64, problem: &'static str) -> TarError {
        TarError::Header { offset, problem }
    }
}

/// An entry's content in order; see [`TarReader::content`].
#[derive(Debug)]
pub struct Content<'a, R> {
    reader: &'a mut TarReader<R>,
    position: u64,
    size: u64,
    /// Bytes of the current piece that are not read yet, and where it begins.
    pending: u64,
    next: u64,
}

impl<R: BufRead> Read for Content<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.position >= self.size {
            return Ok(0);
        }
        if self.pending == 0 && self.position >= self.next {
            let handed_out = self.reader.data().map_err(io::Error::other)?;
            match handed_out.map(|data| (data.offset, data.bytes.len())) {
                Some((offset, length)) => {
                    self.next = offset;
                    self.pending = length as u64;
                }
                None => self.next = self.size,
            }
        }
        let room = out.len() as u64;
        if self.position < self.next {
            let zeros = usize::try_from(room.min(self.next - self.position)).unwrap_or(0);
            out[..zeros].fill(0);
            self.position += zeros as u64;
            return Ok(zeros);
        }
        let handed_out = self.reader.handed_out;
        let rest = usize::try_from(self.pending).unwrap_or(0);
        let count = out.len().min(rest);
        let buffer = self.reader.source.fill_buf()?;
        let from = handed_out - rest;
        out[..count].copy_from_slice(&buffer[from..from + count]);
        self.pending -= count as u64;
        self.position += count as u64;
        self.next = self.position;
        Ok(count)
    }
}
