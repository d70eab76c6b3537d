//! One file, directory or link of a tree as an entry of an archive.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    FileType, Mode, OFlags, SeekFrom, Stat, fstat, lgetxattr, llistxattr, major, minor, openat,
    readlinkat, seek,
};
use rustix::io::Errno;

use crate::error::{ExportError, shown};
use crate::export::compare::Difference;
use crate::export::{ExportOptions, Exported, Times};
use crate::fixup::{get_xattr, list_xattrs};
use crate::header::{Entry, Kind, Mtime};
use crate::overlay;
use crate::writer::TarWriter;

/// Attributes that belong to a host, not to content.
const HOST_XATTRS: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];
/// Longest map of a sparse file; one with more parts is written in full.
const PARTS: usize = 65_536;

#[derive(Debug)]
pub(super) struct Sink<'a, W> {
    tar: TarWriter<W>,
    pub(super) options: &'a ExportOptions,
    /// First path of each inode that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
}

pub(super) fn name_of(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

impl<'a, W: Write> Sink<'a, W> {
    pub(super) fn new(tar: TarWriter<W>, options: &'a ExportOptions) -> Self {
        Self {
            tar,
            options,
            links: HashMap::new(),
            entries: 0,
        }
    }

    pub(super) fn finish(self) -> Result<(W, Exported), ExportError> {
        let size = self.tar.written() + 1024;
        let sink = self
            .tar
            .finish()
            .map_err(|source| ExportError::Tar { source })?;
        Ok((
            sink,
            Exported {
                entries: self.entries,
                size,
            },
        ))
    }

    pub(super) fn difference(&mut self, found: &Difference<'_>) -> Result<(), ExportError> {
        match found {
            Difference::Directory {
                path, dir, stat, ..
            } => self.directory(path, *dir, stat),
            Difference::Other {
                path, dir, stat, ..
            } => self.other(path, *dir, stat),
            Difference::Deleted { path } => self.whiteout(path),
        }
    }

    pub(super) fn directory(
        &mut self,
        path: &Path,
        dir: BorrowedFd<'_>,
        stat: &Stat,
    ) -> Result<(), ExportError> {
        let mut entry = self.entry(path, Kind::Directory, stat);
        entry.xattrs = open_xattrs(dir).map_err(|source| read_error(path, source))?;
        self.append(&entry, io::empty())
    }

    /// Anything but a directory, by its name in `dir`. What has vanished, or become something else,
    /// since it was looked at is left out.
    pub(super) fn other(
        &mut self,
        path: &Path,
        dir: BorrowedFd<'_>,
        stat: &Stat,
    ) -> Result<(), ExportError> {
        match path.file_name() {
            Some(name) => self.named(path, dir, name, stat),
            None => Ok(()),
        }
    }

    /// As [`Sink::other`], of something that the archive calls otherwise.
    pub(super) fn named(
        &mut self,
        path: &Path,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        stat: &Stat,
    ) -> Result<(), ExportError> {
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(target) = self.links.get(&inode).cloned() {
                let entry = self.entry(path, Kind::HardLink { target }, stat);
                return self.append(&entry, io::empty());
            }
            self.links
                .insert(inode, path.as_os_str().as_bytes().to_vec());
        }
        let device = || (major(stat.st_rdev), minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(path, dir, name),
            FileType::Symlink => match readlinkat(dir, name, Vec::new()) {
                Ok(target) => Kind::Symlink {
                    target: target.into_bytes(),
                },
                Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                Err(errno) => return Err(read_error(path, errno.into())),
            },
            FileType::CharacterDevice => {
                let (major, minor) = device();
                Kind::Character { major, minor }
            }
            FileType::BlockDevice => {
                let (major, minor) = device();
                Kind::Block { major, minor }
            }
            FileType::Fifo => Kind::Fifo,
            FileType::Socket | FileType::Directory | FileType::Unknown => return Ok(()),
        };
        let mut entry = self.entry(path, kind, stat);
        entry.xattrs = named_xattrs(dir, name).map_err(|source| read_error(path, source))?;
        self.append(&entry, io::empty())
    }

    /// Hides a path of the layers below.
    pub(super) fn whiteout(&mut self, path: &Path) -> Result<(), ExportError> {
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        let mut hidden = b".wh.".to_vec();
        hidden.extend_from_slice(name.as_bytes());
        self.marker(path.parent().unwrap_or(Path::new("")), &hidden)
    }

    /// Hides all that the layers below have in a directory.
    pub(super) fn opaque(&mut self, path: &Path) -> Result<(), ExportError> {
        self.marker(path, b".wh..wh..opq")
    }

    fn marker(&mut self, directory: &Path, name: &[u8]) -> Result<(), ExportError> {
        let path = directory.join(OsStr::from_bytes(name));
        let entry = Entry::new(path.as_os_str().as_bytes(), Kind::File, 0o600);
        self.append(&entry, io::empty())
    }

    fn file(&mut self, path: &Path, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), ExportError> {
        let read = |source| read_error(path, source);
        let reference = match openat(
            dir,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(reference) => reference,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(read(errno.into())),
        };
        let stat = fstat(&reference).map_err(|errno| read(errno.into()))?;
        // To open a device may already do something.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let link = format!("/proc/thread-self/fd/{}", reference.as_raw_fd());
        let file =
            rustix::fs::open(link, flags, Mode::empty()).map_err(|errno| read(errno.into()))?;
        let mut entry = self.entry(path, Kind::File, &stat);
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.xattrs = open_xattrs(file.as_fd()).map_err(read)?;
        let allocated = u64::try_from(stat.st_blocks)
            .unwrap_or(0)
            .saturating_mul(512);
        if entry.size.saturating_sub(allocated) >= self.options.sparse_from {
            entry.sparse = parts(&file, entry.size).map_err(read)?;
        }
        let content = Steady::new(&file, &entry);
        self.append(&entry, content)
    }

    fn entry(&self, path: &Path, kind: Kind, stat: &Stat) -> Entry {
        let nanos = match self.options.times {
            Times::Seconds => 0,
            Times::Full => u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        };
        let mut entry = Entry::new(path.as_os_str().as_bytes(), kind, stat.st_mode & 0o7777);
        entry.uid = stat.st_uid.into();
        entry.gid = stat.st_gid.into();
        entry.mtime = Mtime {
            seconds: stat.st_mtime,
            nanos,
        };
        entry
    }

    fn append(&mut self, entry: &Entry, content: impl Read) -> Result<(), ExportError> {
        self.entries += 1;
        self.tar
            .append(entry, content)
            .map_err(|source| ExportError::Tar { source })
    }
}

pub(super) fn read_error(path: &Path, source: io::Error) -> ExportError {
    ExportError::Read {
        name: name_of(path),
        source,
    }
}

/// The content of a file that others may write to: exactly as long as announced. What was cut off
/// meanwhile reads as zeros.
#[derive(Debug)]
struct Steady<'a> {
    file: &'a OwnedFd,
    /// Parts still to be read, the last one first.
    parts: Vec<(u64, u64)>,
}

impl<'a> Steady<'a> {
    fn new(file: &'a OwnedFd, entry: &Entry) -> Self {
        let mut parts = entry
            .sparse
            .clone()
            .unwrap_or_else(|| vec![(0, entry.size)]);
        parts.reverse();
        Self { file, parts }
    }
}

impl Read for Steady<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.parts.last().is_some_and(|(_, length)| *length == 0) {
            self.parts.pop();
        }
        let Some((offset, length)) = self.parts.last_mut() else {
            return Ok(0);
        };
        let room = usize::try_from(*length)
            .unwrap_or(usize::MAX)
            .min(out.len());
        let out = &mut out[..room];
        let mut read =
            rustix::io::retry_on_intr(|| rustix::io::pread(self.file, &mut *out, *offset))?;
        if read == 0 {
            out.fill(0);
            read = out.len();
        }
        *offset += read as u64;
        *length -= read as u64;
        Ok(read)
    }
}

/// The parts of a file that have data; `None` when it has none to tell, or too many.
fn parts(file: &OwnedFd, size: u64) -> io::Result<Option<Vec<(u64, u64)>>> {
    let mut map = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match seek(file, SeekFrom::Data(position)) {
            Ok(start) => start.min(size),
            // No data from here to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(file, SeekFrom::Hole(start)).map_or(size, |end| end.min(size));
        if end <= start {
            break;
        }
        map.push((start, end - start));
        if map.len() > PARTS {
            return Ok(None);
        }
        position = end;
    }
    // GNU tar marks the real end with an empty part.
    if map
        .last()
        .is_none_or(|(offset, length)| offset + length < size)
    {
        map.push((size, 0));
    }
    Ok(Some(map))
}

fn wanted(name: &[u8]) -> bool {
    !overlay::is_steering(name) && !HOST_XATTRS.contains(&name)
}

pub(super) fn open_xattrs(file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let file = file.as_fd();
    let mut found = Vec::new();
    for name in list_xattrs(file)? {
        if wanted(&name)
            && let Some(value) = get_xattr(file, OsStr::from_bytes(&name))?
        {
            found.push((name, value));
        }
    }
    found.sort();
    Ok(found)
}

/// Of what cannot be opened, through the descriptor of its directory.
pub(super) fn named_xattrs(
    dir: BorrowedFd<'_>,
    name: &OsStr,
) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = PathBuf::from(format!("/proc/thread-self/fd/{}", dir.as_raw_fd())).join(name);
    let mut names = vec![0_u8; 64 * 1024];
    let length = match llistxattr(&path, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || !wanted(name) {
            continue;
        }
        let mut value = vec![0_u8; 64 * 1024];
        match lgetxattr(&path, OsStr::from_bytes(name), &mut value) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    found.sort();
    Ok(found)
}
