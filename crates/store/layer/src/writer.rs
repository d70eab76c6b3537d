//! The archive writer: ustar where an entry fits, PAX records where it does not. The same entries
//! always give the same bytes.

use std::io::{Read, Write};

use crate::error::{TarError, shown};
use crate::header::{Entry, Kind};
use crate::number;
use crate::pax;

const BLOCK: usize = 512;

/// Writes entries to `W`.
#[derive(Debug)]
pub struct TarWriter<W> {
    sink: W,
    written: u64,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    pub fn new(sink: W) -> Self {
        Self {
            sink,
            written: 0,
            buffer: vec![0; 128 * 1024],
        }
    }

    /// Bytes written so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Adds an entry. `content` must give what the entry stores: its size, or for a sparse file
    /// the parts that have data, one after the other. It is not read for other kinds.
    pub fn append(&mut self, entry: &Entry, content: impl Read) -> Result<(), TarError> {
        let failed = |source| TarError::Write {
            name: shown(&entry.path),
            source,
        };
        let path = directory_slash(entry);
        let mut records = Vec::new();
        let mut header = [0; BLOCK];
        let leading = leading_map(entry);
        let stored = match entry.kind {
            Kind::File => leading.len() as u64 + entry.stored(),
            _ => 0,
        };
        fill_names(&mut header, &mut records, entry, &path);
        fill_numbers(&mut header, &mut records, entry, stored);
        for (name, value) in &entry.xattrs {
            let key = [b"SCHILY.xattr.", name.as_slice()].concat();
            pax::push_record(&mut records, &key, value);
        }
        if !records.is_empty() {
            self.extended_header(entry, &records).map_err(failed)?;
        }
        finish_header(&mut header);
        self.put(&header).map_err(failed)?;
        if entry.kind == Kind::File {
            self.put(&leading).map_err(failed)?;
            self.copy(entry, content)?;
            self.pad(stored).map_err(failed)?;
        }
        Ok(())
    }

    /// Adds an entry without content, or with what is at hand.
    pub fn append_bytes(&mut self, entry: &Entry, content: &[u8]) -> Result<(), TarError> {
        self.append(entry, content)
    }

    /// Writes the end mark and gives the sink back.
    pub fn finish(mut self) -> Result<W, TarError> {
        let failed = |source| TarError::Write {
            name: "end mark".to_owned(),
            source,
        };
        self.put(&[0; 2 * BLOCK]).map_err(failed)?;
        self.sink.flush().map_err(failed)?;
        Ok(self.sink)
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.sink.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, size: u64) -> std::io::Result<()> {
        let rest = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if rest == 0 {
            Ok(())
        } else {
            self.put(&[0; BLOCK][rest..])
        }
    }

    fn copy(&mut self, entry: &Entry, mut content: impl Read) -> Result<(), TarError> {
        let expected = entry.stored();
        let failed = |source| TarError::Write {
            name: shown(&entry.path),
            source,
        };
        let mut left = expected;
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            let room = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            match content.read(&mut buffer[..room]) {
                Ok(0) => {
                    let actual = expected - left;
                    return Err(TarError::Length {
                        name: shown(&entry.path),
                        expected,
                        actual,
                    });
                }
                Ok(read) => {
                    self.put(&buffer[..read]).map_err(failed)?;
                    left -= read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(failed(source)),
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn extended_header(&mut self, entry: &Entry, records: &[u8]) -> std::io::Result<()> {
        let mut header = [0; BLOCK];
        // Only a fallback for readers that do not know PAX.
        put_text(&mut header[..100], b"PaxHeaders.0/");
        let name = last_component(&entry.path);
        put_text(&mut header[13..100], &name[..name.len().min(86)]);
        number::write_octal(&mut header[100..108], 0o644);
        number::write_octal(&mut header[108..116], 0);
        number::write_octal(&mut header[116..124], 0);
        number::write_octal(&mut header[124..136], records.len() as u64);
        number::write_octal(&mut header[136..148], 0);
        header[156] = b'x';
        finish_header(&mut header);
        self.put(&header)?;
        self.put(records)?;
        self.pad(records.len() as u64)
    }
}

fn directory_slash(entry: &Entry) -> Vec<u8> {
    let mut path = entry.path.clone();
    if entry.kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path
}

/// The map of a sparse file, in the whole blocks that precede its data (format 1.0).
fn leading_map(entry: &Entry) -> Vec<u8> {
    let Some(map) = &entry.sparse else {
        return Vec::new();
    };
    let mut text = format!("{}\n", map.len());
    for (offset, length) in map {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn fill_names(header: &mut [u8; BLOCK], records: &mut Vec<u8>, entry: &Entry, path: &[u8]) {
    let sparse = entry.sparse.is_some();
    if sparse {
        pax::push_record(records, b"GNU.sparse.major", b"1");
        pax::push_record(records, b"GNU.sparse.minor", b"0");
        pax::push_record(records, b"GNU.sparse.name", path);
        pax::push_record(
            records,
            b"GNU.sparse.realsize",
            entry.size.to_string().as_bytes(),
        );
        put_text(&mut header[..100], b"GNUSparseFile.0/");
        let name = last_component(path);
        put_text(&mut header[16..100], &name[..name.len().min(83)]);
    } else if let Some((prefix, name)) = split(path) {
        put_text(&mut header[..100], name);
        put_text(&mut header[345..500], prefix);
    } else {
        pax::push_record(records, b"path", path);
        put_text(&mut header[..100], &path[..path.len().min(100)]);
    }
    if let Kind::Symlink { target } | Kind::HardLink { target } = &entry.kind {
        if target.len() > 100 {
            pax::push_record(records, b"linkpath", target);
        }
        put_text(&mut header[157..257], &target[..target.len().min(100)]);
    }
    let names = [
        (&entry.user, &b"uname"[..], 265),
        (&entry.group, &b"gname"[..], 297),
    ];
    for (name, key, start) in names {
        if name.len() > 32 {
            pax::push_record(records, key, name);
        }
        put_text(&mut header[start..start + 32], &name[..name.len().min(32)]);
    }
}

fn fill_numbers(header: &mut [u8; BLOCK], records: &mut Vec<u8>, entry: &Entry, stored: u64) {
    let mut number = |field: &mut [u8], key: &[u8], value: u64| {
        if !number::write_octal(field, value) {
            number::write_octal(field, 0);
            pax::push_record(records, key, value.to_string().as_bytes());
        }
    };
    number(&mut header[108..116], b"uid", entry.uid);
    number(&mut header[116..124], b"gid", entry.gid);
    number(&mut header[124..136], b"size", stored);
    let seconds = u64::try_from(entry.mtime.seconds).unwrap_or(0);
    let fits = number::write_octal(&mut header[136..148], seconds);
    if !fits {
        number::write_octal(&mut header[136..148], 0);
    }
    if !fits || entry.mtime.nanos != 0 || entry.mtime.seconds < 0 {
        pax::push_record(records, b"mtime", pax::format_time(entry.mtime).as_bytes());
    }
    number::write_octal(&mut header[100..108], u64::from(entry.mode & 0o7777));
    let (kind, major, minor) = match entry.kind {
        Kind::File => (b'0', 0, 0),
        Kind::HardLink { .. } => (b'1', 0, 0),
        Kind::Symlink { .. } => (b'2', 0, 0),
        Kind::Character { major, minor } => (b'3', major, minor),
        Kind::Block { major, minor } => (b'4', major, minor),
        Kind::Directory => (b'5', 0, 0),
        Kind::Fifo => (b'6', 0, 0),
    };
    header[156] = kind;
    // Linux's numbers fit; others could not have come from a file.
    number::write_octal(&mut header[329..337], u64::from(major));
    number::write_octal(&mut header[337..345], u64::from(minor));
}

fn finish_header(header: &mut [u8; BLOCK]) {
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    number::write_octal(&mut header[148..155], sum);
    header[155] = b' ';
}

/// Prefix and name as ustar stores them; `None` when the path does not fit.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((&[], path));
    }
    // The leftmost slash that leaves a name short enough; a slash at the very end is the name's.
    let from = path.len().checked_sub(101)?;
    let inner = path.len() - 1;
    let slash = from + memchr::memchr(b'/', path.get(from..inner)?)?;
    (slash <= 155 && slash > 0).then(|| (&path[..slash], &path[slash + 1..]))
}

fn last_component(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}
