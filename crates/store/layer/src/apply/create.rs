//! Making one thing in one directory, and its metadata, in the order the kernel wants: owner, then
//! mode (chown clears set-user-id), then attributes (chown and writing clear file capabilities),
//! then times. Everything is by descriptor, or by one name in a descriptor's directory without
//! following it.
//!
//! <https://man7.org/linux/man-pages/man2/chown.2.html>

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use havre_sys::fsroot::remove_tree;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, fsetxattr, fstat, futimens, linkat, lsetxattr, makedev, mkdirat,
    mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::apply::dirs::replace_whiteout;
use crate::apply::{ApplyOptions, Whiteouts};
use crate::error::{EntryProblem, shown};
use crate::header::{Entry, Kind, Mtime};
use crate::overlay;

/// Linux has 12 bits of major and 20 of minor number.
/// <https://github.com/torvalds/linux/blob/master/include/linux/kdev_t.h>
const MAJORS: u32 = 1 << 12;
const MINORS: u32 = 1 << 20;

/// Whether new files already have the right owner without chown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// They are the process's, as long as no directory has the set-group-id bit.
    Ours {
        uid: u32,
        gid: u32,
    },
    Always,
}

impl Owner {
    pub(super) fn detect(root: BorrowedFd<'_>, whiteouts: Whiteouts) -> io::Result<Self> {
        let empty = whiteouts == Whiteouts::Overlay;
        if !empty || fstat(root)?.st_mode & 0o2000 != 0 {
            return Ok(Self::Always);
        }
        Ok(Self::Ours {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        })
    }

    /// What is made in a set-group-id directory gets the directory's group.
    pub(super) fn note(&mut self, directory: &Entry) {
        if directory.mode & 0o2000 != 0 {
            *self = Self::Always;
        }
    }

    fn needs_change(self, entry: &Entry) -> bool {
        match self {
            Self::Ours { uid, gid } => entry.uid != u64::from(uid) || entry.gid != u64::from(gid),
            Self::Always => true,
        }
    }
}

/// Refuses values that Linux cannot hold, instead of cutting bits off.
pub(super) fn check(entry: &Entry, options: &ApplyOptions) -> Result<(), EntryProblem> {
    for (field, value) in [("uid", entry.uid), ("gid", entry.gid)] {
        // The last one means "no change" to chown.
        if value >= u64::from(u32::MAX) {
            return Err(EntryProblem::Range { field, value });
        }
    }
    if entry.size > options.limits.file {
        return Err(EntryProblem::TooLarge {
            size: entry.size,
            limit: options.limits.file,
        });
    }
    if let Kind::Character { major, minor } | Kind::Block { major, minor } = entry.kind {
        if major >= MAJORS {
            return Err(EntryProblem::Range {
                field: "major",
                value: major.into(),
            });
        }
        if minor >= MINORS {
            return Err(EntryProblem::Range {
                field: "minor",
                value: minor.into(),
            });
        }
    }
    let whiteout = entry.kind == Kind::Character { major: 0, minor: 0 };
    if whiteout && options.whiteouts == Whiteouts::Overlay {
        return Err(EntryProblem::WhiteoutDevice);
    }
    Ok(())
}

/// Removes what is at `name`; whether that was a directory.
pub(super) fn clear(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::ISDIR) => remove_tree(dir, name).map(|()| true),
        Err(errno) => Err(errno.into()),
    }
}

/// Runs `make`, and once more after removing what is in its way.
fn replacing<T>(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    make: impl Fn() -> rustix::io::Result<T>,
) -> io::Result<(T, bool)> {
    match make() {
        Err(Errno::EXIST) => {
            let replaced = clear(dir, name)?;
            Ok((make()?, replaced))
        }
        other => Ok((other?, false)),
    }
}

/// A new empty file, and whether it took the place of a directory.
pub(super) fn file(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<(OwnedFd, bool)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    replacing(dir, name, || {
        openat(dir, name, flags, Mode::from_raw_mode(0o600))
    })
}

#[derive(Debug, Clone, Copy)]
pub(super) struct MadeDirectory {
    pub(super) is_new: bool,
    pub(super) replaced_directory: bool,
}

/// A directory, which may be there already; anything else is replaced by one.
pub(super) fn directory(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<MadeDirectory> {
    let made = |is_new| MadeDirectory {
        is_new,
        replaced_directory: false,
    };
    match mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => return Ok(made(true)),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Ok(made(false));
    }
    if !replace_whiteout(dir, name)? {
        unlinkat(dir, name, AtFlags::empty())?;
        mkdirat(dir, name, Mode::from_raw_mode(0o700))?;
    }
    // A link to a directory may have been among the kept ways.
    Ok(MadeDirectory {
        is_new: true,
        replaced_directory: true,
    })
}

pub(super) fn hard_link(
    from: BorrowedFd<'_>,
    existing: &OsStr,
    dir: BorrowedFd<'_>,
    name: &OsStr,
) -> io::Result<bool> {
    replacing(dir, name, || {
        linkat(from, existing, dir, name, AtFlags::empty())
    })
    .map(|((), replaced)| replaced)
}

/// A symbolic link, device or FIFO with its owner and mode.
pub(super) fn node(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    entry: &Entry,
    owner: Owner,
) -> io::Result<bool> {
    let mode = Mode::from_raw_mode(entry.mode);
    let make = |kind, device| mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device);
    let ((), replaced) = replacing(dir, name, || match &entry.kind {
        Kind::Symlink { target } => symlinkat(OsStr::from_bytes(target), dir, name),
        Kind::Character { major, minor } => {
            make(FileType::CharacterDevice, makedev(*major, *minor))
        }
        Kind::Block { major, minor } => make(FileType::BlockDevice, makedev(*major, *minor)),
        Kind::Fifo => make(FileType::Fifo, 0),
        Kind::File | Kind::Directory | Kind::HardLink { .. } => Err(Errno::INVAL),
    })?;
    // Held by descriptor from here on: a container may be at work in the directory, and what has the
    // name by now need not be what was made.
    let made = openat(
        dir,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if !is_made_of(&fstat(&made)?, entry) {
        return Err(io::Error::other(
            "something else took its place while it was made",
        ));
    }
    if owner.needs_change(entry) {
        let (uid, gid) = ids(entry);
        chownat(&made, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    if !matches!(entry.kind, Kind::Symlink { .. }) {
        let link = format!("/proc/thread-self/fd/{}", made.as_raw_fd());
        chmodat(rustix::fs::CWD, link, mode, AtFlags::empty())?;
    }
    Ok(replaced)
}

/// Whether a file is of the kind that the entry asked for, and has one name only.
fn is_made_of(stat: &Stat, entry: &Entry) -> bool {
    let (kind, device) = match entry.kind {
        Kind::Symlink { .. } => (FileType::Symlink, 0),
        Kind::Character { major, minor } => (FileType::CharacterDevice, makedev(major, minor)),
        Kind::Block { major, minor } => (FileType::BlockDevice, makedev(major, minor)),
        Kind::Fifo => (FileType::Fifo, 0),
        Kind::File | Kind::Directory | Kind::HardLink { .. } => return false,
    };
    FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == device && stat.st_nlink == 1
}

/// Owner, mode and attributes of an open file or directory.
pub(super) fn metadata(
    file: BorrowedFd<'_>,
    entry: &Entry,
    owner: Owner,
    skipped: &mut Vec<String>,
) -> io::Result<()> {
    if owner.needs_change(entry) {
        let (uid, gid) = ids(entry);
        fchown(file, Some(uid), Some(gid))?;
    }
    fchmod(file, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in &entry.xattrs {
        set_xattr(entry, name, skipped, |name| {
            fsetxattr(file, name, value, XattrFlags::empty())
        })?;
    }
    Ok(())
}

/// Attributes of what cannot be opened, through the descriptor of its directory.
pub(super) fn xattrs_by_name(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    entry: &Entry,
    skipped: &mut Vec<String>,
) -> io::Result<()> {
    if entry.xattrs.is_empty() {
        return Ok(());
    }
    let path = PathBuf::from(format!("/proc/thread-self/fd/{}", dir.as_raw_fd())).join(name);
    for (attribute, value) in &entry.xattrs {
        set_xattr(entry, attribute, skipped, |attribute| {
            lsetxattr(&path, attribute, value, XattrFlags::empty())
        })?;
    }
    Ok(())
}

fn set_xattr(
    entry: &Entry,
    name: &[u8],
    skipped: &mut Vec<String>,
    set: impl Fn(&OsStr) -> rustix::io::Result<()>,
) -> io::Result<()> {
    let mut skip = || {
        skipped.push(format!("{}: {}", shown(&entry.path), shown(name)));
        Ok(())
    };
    if overlay::is_steering(name) {
        return skip();
    }
    match set(OsStr::from_bytes(name)) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => skip(),
        // Links and devices can have no attributes of users.
        Err(Errno::PERM) if name.starts_with(b"user.") => skip(),
        // Those that guard what a file may do are root's to give.
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => skip(),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn times(file: impl AsFd, mtime: Mtime) -> io::Result<()> {
    Ok(futimens(file, &timestamps(mtime))?)
}

pub(super) fn times_by_name(dir: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> io::Result<()> {
    Ok(utimensat(
        dir,
        name,
        &timestamps(entry.mtime),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Writes all of it, at `offset` or where the last write ended.
pub(super) fn write_all(file: &OwnedFd, bytes: &[u8], offset: Option<u64>) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let done = (bytes.len() - rest.len()) as u64;
        let written = rustix::io::retry_on_intr(|| match offset {
            Some(offset) => rustix::io::pwrite(file, rest, offset + done),
            None => rustix::io::write(file, rest),
        })?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = &rest[written..];
    }
    Ok(())
}

fn timestamps(mtime: Mtime) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// In range: [`check`] has looked.
fn ids(entry: &Entry) -> (Uid, Gid) {
    let id = |value: u64| u32::try_from(value).unwrap_or(u32::MAX - 1);
    (Uid::from_raw(id(entry.uid)), Gid::from_raw(id(entry.gid)))
}
