//! Finds where reading begins without reading what lies before: from the end backwards for the last records, by
//! halving for a time.

use std::collections::VecDeque;
use std::io::{self, Seek as _};
use std::os::fd::AsFd as _;

use fs_err::File;
use havre_types::Timestamp;
use memchr::{memchr, memrchr};
use rustix::fs::fstat;
use rustix::io::pread;

use super::ReadOptions;
use super::source::{CHUNK, Line, RECORD_LIMIT, Source};
use crate::compress::{Unpacking, unpack};
use crate::files::Input;
use crate::local::{LENGTH, frame_length};
use crate::record;
use crate::writer::Format;

/// Below this many bytes a linear search is as fast as halving.
const SMALL: u64 = 64 << 10;

/// Places the reader. `chain` is oldest first.
pub(super) fn from(mut chain: Vec<Input>, options: &ReadOptions) -> io::Result<VecDeque<Source>> {
    let mut wanted = options.tail;
    let mut found = VecDeque::new();
    while let Some(input) = chain.pop() {
        let (source, reached) = place(input, options, &mut wanted)?;
        found.push_front(source);
        if reached {
            break;
        }
    }
    Ok(found)
}

/// Where reading begins in one file, and whether nothing older is asked for. `wanted` is lowered by the records that the
/// file holds.
fn place(
    input: Input,
    options: &ReadOptions,
    wanted: &mut Option<u64>,
) -> io::Result<(Source, bool)> {
    let format = options.format;
    let file = match input {
        Input::Plain(file) => file,
        Input::Packed(_, unpacking) => return place_packed(*unpacking, options, wanted),
    };
    let size = size(&file)?;
    let tail = match wanted {
        None => Some(0),
        Some(count) => match format {
            Format::Json => last_lines(&file, size, count)?,
            Format::Local => last_frames(&file, size, count)?,
        },
    };
    let (time, older) = match (options.since, format) {
        (None, _) => (0, true),
        (Some(since), Format::Json) => {
            let first = first_since(&file, size, since)?;
            // Records that are older than one that is too old are too old as well.
            (first, first == 0)
        }
        (Some(since), Format::Local) => (0, begins_since(&file, since)?),
    };
    let offset = tail.unwrap_or(0).max(time);
    let enough = tail.is_some() && wanted.is_some();
    let source = Source::new(Input::Plain(file), format).at(offset);
    Ok((source, enough || !older))
}

/// A compressed file is read once to count its records, if they have to be counted.
fn place_packed(
    unpacking: Unpacking,
    options: &ReadOptions,
    wanted: &mut Option<u64>,
) -> io::Result<(Source, bool)> {
    let file = unpacking.into_inner().into_inner();
    let again = |file: &File| -> io::Result<Source> {
        let mut copy = file.try_clone()?;
        copy.rewind()?;
        let (stamp, unpacking) = unpack(copy)?;
        let input = Input::Packed(stamp, Box::new(unpacking));
        Ok(Source::new(input, options.format))
    };
    let mut reached = false;
    if let Some(since) = options.since {
        reached = matches!(again(&file)?.next_record()?, Line::Record(Some(entry)) if entry.timestamp < since);
    }
    let mut skip = 0;
    if let Some(count) = wanted {
        let held = count_records(again(&file)?)?;
        skip = held.saturating_sub(*count);
        reached |= held >= *count;
        *count = count.saturating_sub(held);
    }
    Ok((again(&file)?.skipping(skip), reached))
}

fn count_records(mut source: Source) -> io::Result<u64> {
    let mut count = 0;
    loop {
        match source.next_record()? {
            Line::Record(Some(_)) => count += 1,
            Line::Record(None) => {}
            Line::End => return Ok(count),
        }
    }
}

/// Whether the first record is from `since` or later, so that older files may hold others of that time.
fn begins_since(file: &File, since: Timestamp) -> io::Result<bool> {
    let mut source = Source::new(Input::Plain(file.try_clone()?), Format::Local);
    Ok(!matches!(source.next_record()?, Line::Record(Some(entry)) if entry.timestamp < since))
}

/// As [`last_lines`], by the lengths behind the records; a damaged file is read from its beginning.
fn last_frames(file: &File, size: u64, count: &mut u64) -> io::Result<Option<u64>> {
    let mut end = size;
    let mut found = 0;
    while end > 0 {
        if found == *count {
            return Ok(Some(end));
        }
        let Some(begin) = frame_before(file, end)? else {
            return last_frames_forwards(file, count);
        };
        found += 1;
        end = begin;
    }
    if found == *count {
        return Ok(Some(0));
    }
    *count -= found;
    Ok(None)
}

/// Where the record begins that ends at `end`.
fn frame_before(file: &File, end: u64) -> io::Result<Option<u64>> {
    let mut length = [0; LENGTH];
    let width = u64::try_from(LENGTH).unwrap_or(0);
    let Some(at) = end.checked_sub(width) else {
        return Ok(None);
    };
    read_at(file, &mut length, at)?;
    let Some(body) = frame_length(length).and_then(|body| u64::try_from(body).ok()) else {
        return Ok(None);
    };
    let Some(begin) = at.checked_sub(body + width) else {
        return Ok(None);
    };
    let mut head = [0; LENGTH];
    read_at(file, &mut head, begin)?;
    Ok((head == length).then_some(begin))
}

fn last_frames_forwards(file: &File, count: &mut u64) -> io::Result<Option<u64>> {
    let all = |file: &File| -> io::Result<Source> {
        let input = Input::Plain(file.try_clone()?);
        Ok(Source::new(input, Format::Local))
    };
    let held = count_records(all(file)?)?;
    let Some(before) = held.checked_sub(*count) else {
        *count -= held;
        return Ok(None);
    };
    let mut source = all(file)?;
    for _ in 0..before {
        while matches!(source.next_record()?, Line::Record(None)) {}
    }
    Ok(Some(source.position()))
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
fn last_lines(file: &File, size: u64, count: &mut u64) -> io::Result<Option<u64>> {
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
