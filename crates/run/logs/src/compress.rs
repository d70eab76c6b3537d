//! Rotated files, compressed: which one is next, and putting the result in its place. The compression itself is the
//! helper's work, on two open files; rotations may go on meanwhile.

use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use flate2::GzBuilder;
use flate2::bufread::GzDecoder;
use fs_err::File;
use rustix::fs::{Mode, OFlags, open};

use crate::error::LogError;
use crate::files::{FileId, MAX_FILES, Stamp, compressed, identity, numbered, open_read};

/// Marks the comment in which a compressed file names the one that it was made from.
const MARK: &str = "havre ";

/// A compression that has begun.
#[derive(Debug)]
pub struct Compression {
    path: PathBuf,
    temporary: PathBuf,
    id: FileId,
    /// What is to be compressed.
    pub input: File,
    /// Where the result goes.
    pub output: File,
}

impl Compression {
    /// The newest rotated file of the log at `path` that is not compressed yet.
    ///
    /// # Errors
    /// Fails when it cannot be read, or there is no room for the result.
    pub fn next(path: &Path) -> Result<Option<Self>, LogError> {
        let failed = |source| LogError::Rotate {
            path: path.to_owned(),
            source,
        };
        for number in 1..MAX_FILES {
            match open_read(&numbered(path, number)) {
                Ok(input) => {
                    let id = identity(&input).map_err(failed)?;
                    let temporary = temporary(path);
                    let output = create_new(&temporary).map_err(failed)?;
                    return Ok(Some(Self {
                        path: path.to_owned(),
                        temporary,
                        id,
                        input,
                        output,
                    }));
                }
                Err(LogError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    if !compressed(path, number).exists() {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Puts the result in the place of its original, wherever rotations have moved that.
    ///
    /// # Errors
    /// Fails when files cannot be moved; the original is still there then.
    pub fn finish(self) -> Result<(), LogError> {
        let placed = self.place();
        let removed = match fs_err::remove_file(&self.temporary) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        placed.and(removed).map_err(|source| LogError::Rotate {
            path: self.path,
            source,
        })
    }

    fn place(&self) -> io::Result<()> {
        for number in 1..MAX_FILES {
            let original = numbered(&self.path, number);
            let same = open_read(&original)
                .ok()
                .is_some_and(|file| identity(&file).is_ok_and(|id| id == self.id));
            if same {
                // In this order there is always one of them.
                fs_err::rename(&self.temporary, compressed(&self.path, number))?;
                return fs_err::remove_file(original);
            }
            if !original.exists() && !compressed(&self.path, number).exists() {
                // Rotated out.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gives up; the original stays as it is.
    pub fn cancel(self) {
        if fs_err::remove_file(&self.temporary).is_err() {
            // The next one begins by removing it.
        }
    }
}

/// Where a result grows.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    path.with_extension("compressing")
}

fn create_new(path: &Path) -> io::Result<File> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = open(path, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP)?;
    Ok(File::from_parts(fd.into(), path))
}

/// Compresses a whole file. The result names the original, so that whoever has read that does not read it again.
///
/// # Errors
/// Fails when one cannot be read or the other not be written.
pub fn compress(input: &File, output: &File) -> io::Result<()> {
    let Stamp {
        device,
        inode,
        size,
        secs,
        nanos,
    } = Stamp::of(input)?;
    let comment = format!("{MARK}{device} {inode} {size} {secs} {nanos}");
    let mut encoder = GzBuilder::new()
        .comment(comment)
        .write(output, flate2::Compression::fast());
    io::copy(
        &mut BufReader::with_capacity(128 << 10, input),
        &mut encoder,
    )?;
    encoder.finish()?;
    output.sync_data()
}

/// A compressed file on its way to be read.
pub(crate) type Unpacking = GzDecoder<BufReader<File>>;

/// Opens a compressed file and says what its original was.
pub(crate) fn unpack(file: File) -> io::Result<(Stamp, Unpacking)> {
    let own = Stamp::of(&file)?;
    let mut decoder = GzDecoder::new(BufReader::with_capacity(32 << 10, file));
    // The header is read with the first bytes.
    let nothing = decoder.read(&mut [])?;
    debug_assert_eq!(nothing, 0);
    let comment = decoder.header().and_then(flate2::GzHeader::comment);
    Ok((comment.and_then(original).unwrap_or(own), decoder))
}

fn original(comment: &[u8]) -> Option<Stamp> {
    let text = str::from_utf8(comment).ok()?.strip_prefix(MARK)?;
    let mut numbers = text.split(' ');
    let stamp = Stamp {
        device: numbers.next()?.parse().ok()?,
        inode: numbers.next()?.parse().ok()?,
        size: numbers.next()?.parse().ok()?,
        secs: numbers.next()?.parse().ok()?,
        nanos: numbers.next()?.parse().ok()?,
    };
    numbers.next().is_none().then_some(stamp)
}
