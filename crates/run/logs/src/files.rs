//! The files of one log on disk: names, safe opening, rotation, and which of them belong together.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use fs_err::File;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::compress::{self, Unpacking};
use crate::error::LogError;

/// More rotated files than this are not looked for.
pub(crate) const MAX_FILES: u32 = 1000;
/// So many missing numbers in a row are the end. A rotation leaves one, and several can pass while files are looked for.
const HOLES: u32 = 8;

/// A file to be read.
#[derive(Debug)]
pub(crate) enum Input {
    /// As it was written: any place of it can be read.
    Plain(File),
    /// Compressed, with what the original was: only from its beginning.
    Packed(Stamp, Box<Unpacking>),
}

/// Identity of a file while somebody holds it open.
pub(crate) type FileId = (u64, u64);

/// What a file is while nobody writes to it. The number of an inode comes back as soon as a compressed original is
/// removed; its size and time do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: i64,
    pub(crate) secs: i64,
    pub(crate) nanos: i64,
}

impl Stamp {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let stat = fstat(file.as_fd())?;
        Ok(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            secs: stat.st_mtime,
            nanos: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        })
    }
}

impl Input {
    /// Whether both are the same part of the log, in whatever form.
    pub(crate) fn is_same(&self, other: &Self) -> io::Result<bool> {
        let stamp = |input: &Self| match input {
            Self::Plain(file) => Stamp::of(file),
            Self::Packed(stamp, _) => Ok(*stamp),
        };
        match (self, other) {
            // Both are open, so that neither number can belong to another file.
            (Self::Plain(one), Self::Plain(two)) => Ok(identity(one)? == identity(two)?),
            _ => Ok(stamp(self)? == stamp(other)?),
        }
    }
}

/// The name of rotated file `number`; 0 is the current one.
pub(crate) fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The name of rotated file `number` once it is compressed.
pub(crate) fn compressed(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(numbered(path, number));
    name.push(".gz");
    PathBuf::from(name)
}

/// Opens for appending, creates with mode 0640, refuses anything that is not a regular file.
pub(crate) fn open_append(path: &Path) -> Result<File, LogError> {
    checked(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
}

/// Opens for reading under the same rules.
pub(crate) fn open_read(path: &Path) -> Result<File, LogError> {
    checked(path, OFlags::RDONLY)
}

fn checked(path: &Path, access: OFlags) -> Result<File, LogError> {
    // Without O_NONBLOCK, opening a pipe that somebody put there would hang.
    let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let fd = match open(path, access | safe, mode) {
        Err(Errno::LOOP) => {
            return Err(LogError::NotRegular {
                path: path.to_owned(),
            });
        }
        other => other.map_err(|error| LogError::Open {
            path: path.to_owned(),
            source: error.into(),
        })?,
    };
    let stat = fstat(&fd).map_err(|error| LogError::Open {
        path: path.to_owned(),
        source: error.into(),
    })?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(LogError::NotRegular {
            path: path.to_owned(),
        });
    }
    Ok(File::from_parts(fd.into(), path))
}

pub(crate) fn identity(file: &File) -> io::Result<FileId> {
    let stat = fstat(file.as_fd())?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Moves every file one number up and the current one to `.1`; at most `keep` files remain after the next is created.
pub(crate) fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    if let Err(error) = fs_err::symlink_metadata(path) {
        // The next file could not be created after the last rotation. To rotate again and again
        // would push out the oldest files for nothing.
        return ignore_missing(Err(error));
    }
    if keep < 2 {
        // Readers that hold the old file still see its end, which truncating it would take from them.
        return ignore_missing(fs_err::remove_file(path));
    }
    // The oldest is there in one form, or in both after a crash.
    for oldest in [numbered(path, keep - 1), compressed(path, keep - 1)] {
        ignore_missing(fs_err::remove_file(oldest))?;
    }
    for number in (1..keep - 1).rev() {
        for name in [numbered, compressed] {
            ignore_missing(fs_err::rename(name(path, number), name(path, number + 1)))?;
        }
    }
    ignore_missing(fs_err::rename(path, numbered(path, 1)))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes the log at `path` and all its rotated files.
///
/// # Errors
/// Fails when a file exists and cannot be removed.
pub fn remove_all(path: &Path) -> Result<(), LogError> {
    let remove = |name: PathBuf| match fs_err::remove_file(&name) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(LogError::Write { path: name, source }),
    };
    remove(compress::temporary(path))?;
    let mut missing = 0;
    for number in 0..MAX_FILES {
        let found = remove(numbered(path, number))? | remove(compressed(path, number))?;
        missing = if found { 0 } else { missing + 1 };
        if missing > HOLES {
            break;
        }
    }
    Ok(())
}

/// The files of the log that are newer than `last` (all, if it is none or gone), oldest first.
///
/// A rotation may run meanwhile. It moves files only to higher numbers, and this looks at the lower ones first: a file
/// may be met twice or leave a hole, but none is passed over.
pub(crate) fn newer(path: &Path, last: Option<&Input>) -> Result<Vec<Input>, LogError> {
    let failed = |source| LogError::Read {
        path: path.to_owned(),
        source,
    };
    let mut found: Vec<Input> = Vec::new();
    let mut missing = 0;
    for number in 0..MAX_FILES {
        let Some(input) = open_numbered(path, number)? else {
            missing += 1;
            if missing > HOLES {
                break;
            }
            continue;
        };
        missing = 0;
        if let Some(last) = last
            && input.is_same(last).map_err(failed)?
        {
            break;
        }
        // Met a second time one number up, or meanwhile compressed.
        let mut known = false;
        for other in &found {
            known = known || input.is_same(other).map_err(failed)?;
        }
        if !known {
            found.push(input);
        }
    }
    found.reverse();
    Ok(found)
}

/// Opens rotated file `number`, as it is or compressed.
fn open_numbered(path: &Path, number: u32) -> Result<Option<Input>, LogError> {
    let found = |result| match result {
        Ok(file) => Ok(Some(file)),
        Err(LogError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    if let Some(file) = found(open_read(&numbered(path, number)))? {
        return Ok(Some(Input::Plain(file)));
    }
    if number == 0 {
        return Ok(None);
    }
    let Some(file) = found(open_read(&compressed(path, number)))? else {
        return Ok(None);
    };
    match compress::unpack(file) {
        Ok((stamp, unpacking)) => Ok(Some(Input::Packed(stamp, Box::new(unpacking)))),
        // Damaged at its very beginning: nothing of it can be read.
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_without_a_current_file_keeps_the_old_ones() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("log");
        for number in [1, 2] {
            fs_err::write(numbered(&path, number), number.to_string()).expect("a file");
        }
        for _ in 0..5 {
            rotate(&path, 3).expect("nothing to do");
        }
        let found = newer(&path, None).expect("files");
        assert_eq!(found.len(), 2);
        // Also with the hole that a rotation leaves when it is cut short.
        fs_err::remove_file(numbered(&path, 1)).expect("removed");
        remove_all(&path).expect("removed");
        assert!(!numbered(&path, 2).exists());
    }
}
