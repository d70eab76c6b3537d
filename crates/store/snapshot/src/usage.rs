//! Disk use of a tree: blocks of files, each inode once. Directories count as inodes alone: Docker shows 0 bytes for
//! what nobody has written to. Nothing outside the tree is looked at.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use crate::Usage;

/// Unit of `st_blocks`, whatever the file system's block size.
const BLOCK: u64 = 512;

pub(crate) fn of(root: BorrowedFd<'_>) -> io::Result<Usage> {
    let mut usage = Usage::default();
    let mut seen = BTreeSet::new();
    let mut pending = vec![open(root, c".".to_bytes())?];
    let own = rustix::fs::fstat(&pending[0])?;
    add(&mut usage, &own);
    while let Some(dir) = pending.pop() {
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let stat = match statat(&dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
                add(&mut usage, &stat);
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match open(dir.as_fd(), name) {
                    Ok(child) => pending.push(child),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(usage)
}

fn add(usage: &mut Usage, stat: &Stat) {
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK;
    }
    usage.inodes += 1;
}

fn open(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, OsStr::from_bytes(name), flags, Mode::empty())?)
}
