//! Cuts what a process writes into records: whole lines, and pieces of lines that are too long. Holds the beginning of a
//! line until its end comes.

use std::mem;

use memchr::memchr;

use crate::record::Stream;

/// Longer lines are cut into records of this size, as Docker does
/// (<https://github.com/moby/moby/blob/master/daemon/logger/copier.go>).
pub const PARTIAL_SIZE: usize = 16 << 10;

/// What becomes one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Where it was written.
    pub stream: Stream,
    /// A line with its newline, or a piece of one without.
    pub bytes: &'a [u8],
    /// Of a line that came in pieces.
    pub part: Option<Part>,
}

/// Place of a piece in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Number of the line among those in pieces.
    pub line: u64,
    /// Number of the piece, from 1.
    pub ordinal: u32,
    /// The line ends with it.
    pub last: bool,
}

/// The lines of a process that have begun.
#[derive(Debug, Default)]
pub struct Splitter {
    held: [Vec<u8>; 2],
    /// Pieces given of the line that has begun.
    given: [u32; 2],
    lines: u64,
    current: [u64; 2],
}

impl Splitter {
    /// Takes bytes and gives what is complete.
    pub fn split(&mut self, stream: Stream, bytes: &[u8], mut give: impl FnMut(Piece<'_>)) {
        let which = stream as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let held = &mut self.held[which];
            let room = (PARTIAL_SIZE - held.len()).min(rest.len());
            let (window, after) = rest.split_at(room);
            let newline = memchr(b'\n', window);
            if newline.is_none() && held.len() + window.len() < PARTIAL_SIZE {
                held.extend_from_slice(window);
                break;
            }
            let taken = newline.map_or(window.len(), |at| at + 1);
            let bytes = window.get(..taken).unwrap_or_default();
            if held.is_empty() && newline.is_some() {
                let part = self.part(which, true);
                give(Piece {
                    stream,
                    bytes,
                    part,
                });
            } else {
                let mut line = mem::take(held);
                line.extend_from_slice(bytes);
                if newline.is_none() {
                    // Keeps a character whole: its end goes to the next record.
                    let tail = line.split_off(whole_characters(&line));
                    self.held[which] = tail;
                }
                let part = self.part(which, newline.is_some());
                give(Piece {
                    stream,
                    bytes: &line,
                    part,
                });
            }
            rest = if newline.is_some() {
                rest.get(taken..).unwrap_or_default()
            } else {
                after
            };
        }
    }

    /// Gives what is held of a last line without newline.
    pub fn finish(&mut self, stream: Stream, give: impl FnOnce(Piece<'_>)) {
        let which = stream as usize;
        let line = mem::take(&mut self.held[which]);
        if line.is_empty() {
            return;
        }
        let part = self.part(which, false);
        self.given[which] = 0;
        give(Piece {
            stream,
            bytes: &line,
            part,
        });
    }

    fn part(&mut self, which: usize, last: bool) -> Option<Part> {
        let given = &mut self.given[which];
        if *given == 0 {
            if last {
                return None;
            }
            self.lines += 1;
            self.current[which] = self.lines;
        }
        *given += 1;
        let part = Part {
            line: self.current[which],
            ordinal: *given,
            last,
        };
        if last {
            *given = 0;
        }
        Some(part)
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
    fn pieces_know_their_place() {
        let mut splitter = Splitter::default();
        let mut seen = Vec::new();
        let mut feed = |stream, bytes: &[u8]| {
            splitter.split(stream, bytes, |piece| {
                seen.push((piece.stream, piece.bytes.len(), piece.part));
            });
        };
        feed(Stream::Stdout, b"short\n");
        feed(Stream::Stdout, &[b'x'; PARTIAL_SIZE + 1]);
        feed(Stream::Stderr, &[b'y'; 2 * PARTIAL_SIZE]);
        feed(Stream::Stdout, b"\nnext\n");
        splitter.finish(Stream::Stderr, |_| ());
        let part = |line, ordinal, last| {
            Some(Part {
                line,
                ordinal,
                last,
            })
        };
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        let expected = [
            (out, 6, None),
            (out, PARTIAL_SIZE, part(1, 1, false)),
            (err, PARTIAL_SIZE, part(2, 1, false)),
            (err, PARTIAL_SIZE, part(2, 2, false)),
            (out, 2, part(1, 2, true)),
            (out, 5, None),
        ];
        assert_eq!(seen, expected);
    }

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
