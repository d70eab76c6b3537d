//! What a layer that was unpacked without its parents takes over from them afterwards: the owner and
//! mode of directories the archive did not mention, and files its hard links name. Nothing in the
//! parents is ever changed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use havre_sys::fsroot::Root;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, fchmod,
    fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, openat, readlinkat, symlinkat,
};
use rustix::io::Errno;

use crate::error::{ApplyError, shown};
use crate::overlay;
use crate::stack::{Child, Stack, open_dir};

/// A hard link whose target is not in its own layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeferredLink {
    pub path: PathBuf,
    pub target: PathBuf,
}

/// What is left to do once the parents of a layer are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fixups {
    /// Directories made only because something in them was unpacked, parents before children. The
    /// root is the empty path.
    pub implicit_dirs: Vec<PathBuf>,
    pub links: Vec<DeferredLink>,
}

/// Completes the layer in `root` with what `parents` (the topmost first) have. A directory that the
/// parents do not have keeps mode 0755 and owner root; a hard link to nothing is an error.
pub fn fix_up(root: &Root, parents: &Stack, fixups: &Fixups) -> Result<(), ApplyError> {
    for path in &fixups.implicit_dirs {
        let named = |source| ApplyError::FixUp {
            name: name_of(path),
            source,
        };
        take_over_directory(root, parents, path).map_err(named)?;
    }
    for link in &fixups.links {
        let named = |source| ApplyError::FixUp {
            name: name_of(&link.target),
            source,
        };
        if !take_over_file(root, parents, &link.target).map_err(named)? {
            return Err(ApplyError::Refused {
                name: name_of(&link.path),
                source: crate::error::EntryProblem::LinkMissing {
                    target: name_of(&link.target),
                },
            });
        }
        let named = |source| ApplyError::FixUp {
            name: name_of(&link.path),
            source,
        };
        make_link(root, link).map_err(named)?;
    }
    // Last, because links change the times of the directories they are made in.
    for path in &fixups.implicit_dirs {
        let named = |source| ApplyError::FixUp {
            name: name_of(path),
            source,
        };
        take_over_directory(root, parents, path).map_err(named)?;
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

fn make_link(root: &Root, link: &DeferredLink) -> io::Result<()> {
    let parent = link.path.parent().unwrap_or(Path::new(""));
    drop(root.mkdir_all(parent, Mode::from_raw_mode(0o755))?);
    let dir = root.open_at(parent, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    keeping_times(&dir, || root.hard_link(&link.target, &link.path))
}

/// Adds something to a directory whose times are those of the archive.
fn keeping_times<T>(dir: &OwnedFd, add: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = fstat(dir)?;
    let added = add()?;
    futimens(dir, &times(&before))?;
    Ok(added)
}

fn take_over_directory(root: &Root, parents: &Stack, path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let dir = match root.open_at(path, flags, Mode::empty()) {
        Ok(dir) => dir,
        // A later entry of the archive put something else there.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if path.as_os_str().is_empty() {
        let level = parents.root()?;
        if let Some(below) = level.top() {
            copy_metadata(below, &fstat(below)?, &dir)?;
        }
    } else if let Some((_, Child::Directory(level, stat))) = parents.lookup(path)?
        && let Some(below) = level.top()
    {
        copy_metadata(below, &stat, &dir)?;
    }
    Ok(())
}

/// Copies a file up, as overlayfs does when it is linked; `false` when there is none.
fn take_over_file(root: &Root, parents: &Stack, path: &Path) -> io::Result<bool> {
    match root.lstat(path) {
        // A name that this very layer hides is not there for its links.
        Ok(stat) => return Ok(!overlay::is_whiteout(&stat)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) => {}
        Err(error) => return Err(error),
    }
    let Some((level, Child::Other { dir, stat })) = parents.lookup(path)? else {
        return Ok(false);
    };
    let Some(below) = level.dir(dir) else {
        return Ok(false);
    };
    let Some(name) = path.file_name() else {
        return Ok(false);
    };
    let parent = copy_up_parents(root, parents, path.parent().unwrap_or(Path::new("")))?;
    keeping_times(&parent, || {
        copy_node(below, name, &stat, parent.as_fd(), name)
    })?;
    Ok(true)
}

fn copy_up_parents(root: &Root, parents: &Stack, path: &Path) -> io::Result<OwnedFd> {
    let mut here = open_dir(root.as_fd(), OsStr::new("."))?;
    let mut so_far = PathBuf::new();
    for component in path.components() {
        let name = component.as_os_str();
        so_far.push(name);
        let made = keeping_times(&here, || {
            Ok(rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o755)))
        })?;
        match made {
            Ok(()) => {
                here = open_dir(here.as_fd(), name)?;
                if let Some((_, Child::Directory(level, stat))) = parents.lookup(&so_far)?
                    && let Some(below) = level.top()
                {
                    copy_metadata(below, &stat, &here)?;
                }
            }
            Err(Errno::EXIST) => here = open_dir(here.as_fd(), name)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(here)
}

/// Copies one file, link, FIFO or device with its metadata. Sockets become nothing.
pub(crate) fn copy_node(
    from: BorrowedFd<'_>,
    name: &OsStr,
    stat: &Stat,
    to: BorrowedFd<'_>,
    as_name: &OsStr,
) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let source = openat(
                from,
                name,
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let target = openat(
                to,
                as_name,
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o600),
            )?;
            copy_data(&source, &target)?;
            copy_metadata(source.as_fd(), stat, &target)
        }
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?, to, as_name)?;
            copy_metadata_by_name(stat, to, as_name)
        }
        FileType::Socket => Ok(()),
        kind => {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::mknodat(to, as_name, kind, mode, stat.st_rdev)?;
            rustix::fs::chmodat(to, as_name, mode, AtFlags::empty())?;
            copy_metadata_by_name(stat, to, as_name)
        }
    }
}

fn copy_data(source: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(source, &mut buffer))?;
        if read == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(target, rest))?;
            rest = &rest[written..];
        }
    }
}

fn copy_metadata_by_name(stat: &Stat, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::utimensat(dir, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Owner, then mode (chown clears set-user-id), then attributes (chown clears capabilities), then
/// times.
pub fn copy_metadata(from: BorrowedFd<'_>, stat: &Stat, to: &OwnedFd) -> io::Result<()> {
    fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for name in list_xattrs(from)? {
        if overlay::is_steering(&name) {
            continue;
        }
        let name = OsStr::from_bytes(&name);
        if let Some(value) = get_xattr(from, name)? {
            match fsetxattr(to, name, &value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(futimens(to, &times(stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    let modified = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
    };
    Timestamps {
        last_access: modified,
        last_modification: modified,
    }
}

pub(crate) fn list_xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![0_u8; 64 * 1024];
    match flistxattr(file, &mut buffer) {
        Ok(length) => Ok(buffer[..length]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect()),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(errno.into()),
    }
}

/// `None` when it vanished meanwhile.
pub(crate) fn get_xattr(file: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0_u8; 64 * 1024];
    match fgetxattr(file, name, &mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
