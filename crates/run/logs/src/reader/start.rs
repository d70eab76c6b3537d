//! Finds where reading begins without reading what lies before: from the end backwards for the last records, by
//! halving for a time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;

use fs_err::File;
use havre_types::Timestamp;
use memchr::{memchr, memrchr};
use rustix::fs::fstat;
use rustix::io::pread;

use super::{CHUNK, RECORD_LIMIT, ReadOptions, Source};
use crate::files::FileId;
use crate::record;

/// Below this many bytes a linear search is as fast as halving.
const SMALL: u64 = 64 << 10;

/// Places the reader. `chain` is oldest first.
pub(super) fn from(
    mut chain: Vec<(FileId, File)>,
    options: &ReadOptions,
) -> io::Result<VecDeque<Source>> {
    let mut wanted = options.tail;
    let mut found = VecDeque::new();
    while let Some((id, file)) = chain.pop() {
        let size = size(&file)?;
        let tail = match &mut wanted {
            Some(count) => last_records(&file, size, count)?,
            None => Some(0),
        };
        let time = match options.since {
            Some(since) => first_since(&file, size, since)?,
            None => 0,
        };
        let offset = tail.unwrap_or(0).max(time);
        found.push_front(Source::new(id, file, offset));
        // Records that are older than one that is too old are too old as well.
        let enough = tail.is_some() && options.tail.is_some();
        if enough || time > 0 {
            break;
        }
    }
    Ok(found)
}

fn size(file: &File) -> io::Result<u64> {
    Ok(u64::try_from(fstat(file.as_fd())?.st_size).unwrap_or(0))
}

/// Reads up to `buffer`'s length at `offset`.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(free) = buffer.get_mut(done..).filter(|free| !free.is_empty()) {
        match pread(
            file.as_fd(),
            free,
            offset + u64::try_from(done).unwrap_or(0),
        )? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// The offset of the record that begins the last `count` ones. When the file holds fewer, `count` is lowered by what
/// it holds and the answer is `None`.
fn last_records(file: &File, size: u64, count: &mut u64) -> io::Result<Option<u64>> {
    let mut end = size;
    let mut buffer = vec![0; CHUNK];
    // The newline that ends a record is not the one that begins it.
    let mut newlines = 0;
    while end > 0 {
        let length = usize::try_from(end).unwrap_or(CHUNK).min(CHUNK);
        let begin = end - u64::try_from(length).unwrap_or(0);
        let Some(chunk) = buffer.get_mut(..length) else {
            break;
        };
        let read = read_at(file, chunk, begin)?;
        let mut rest = chunk.get(..read).unwrap_or_default();
        while let Some(at) = memrchr(b'\n', rest) {
            if newlines == *count {
                return Ok(Some(begin + u64::try_from(at).unwrap_or(0) + 1));
            }
            newlines += 1;
            rest = rest.get(..at).unwrap_or_default();
        }
        end = begin;
    }
    if newlines == *count {
        return Ok(Some(0));
    }
    *count -= newlines;
    Ok(None)
}

/// The offset of the first record from `since` on; 0 when that may lie in an older file.
fn first_since(file: &File, size: u64, since: Timestamp) -> io::Result<u64> {
    // Invariant: records that begin before `low` are too old; the answer is at most `high`.
    let (mut low, mut high) = (0, size);
    while high - low > SMALL {
        let middle = low + (high - low) / 2;
        match record_at_or_after(file, middle, high)? {
            Some((_, next, time)) if time < since => low = next,
            Some(_) | None => high = middle,
        }
    }
    let mut at = low;
    while let Some((_, next, time)) = record_from(file, at, size)? {
        if time >= since {
            return Ok(at);
        }
        at = next;
    }
    Ok(at)
}

/// The first whole record that begins after `offset` and before `limit`.
fn record_at_or_after(
    file: &File,
    offset: u64,
    limit: u64,
) -> io::Result<Option<(u64, u64, Timestamp)>> {
    match line_end(file, offset, limit)? {
        Some(newline) if newline + 1 < limit => record_from(file, newline + 1, limit),
        _ => Ok(None),
    }
}

/// The first readable record from line start `offset` on: where it begins, where the next begins, its time.
fn record_from(file: &File, offset: u64, limit: u64) -> io::Result<Option<(u64, u64, Timestamp)>> {
    let mut begin = offset;
    while begin < limit {
        let Some(newline) = line_end(file, begin, u64::MAX)? else {
            return Ok(None);
        };
        let length = usize::try_from(newline - begin).unwrap_or(usize::MAX);
        if length <= RECORD_LIMIT {
            let mut line = vec![0; length];
            let read = read_at(file, &mut line, begin)?;
            if let Some(entry) = record::decode(line.get(..read).unwrap_or_default()) {
                return Ok(Some((begin, newline + 1, entry.timestamp)));
            }
        }
        begin = newline + 1;
    }
    Ok(None)
}

/// Where the line around `offset` ends, looking no further than `limit`.
fn line_end(file: &File, offset: u64, limit: u64) -> io::Result<Option<u64>> {
    let mut buffer = [0; 4096];
    let mut at = offset;
    while at < limit {
        let count = read_at(file, &mut buffer, at)?;
        let chunk = buffer.get(..count).unwrap_or_default();
        if let Some(newline) = memchr(b'\n', chunk) {
            return Ok(Some(at + u64::try_from(newline).unwrap_or(0)));
        }
        if count < buffer.len() {
            break;
        }
        at += u64::try_from(count).unwrap_or(0);
    }
    Ok(None)
}
