//! Creation of missing directories and files along a path, inside a root.
//!
//! openat2 cannot create what a dangling symbolic link points to, so here each component is
//! opened by itself (never through a link), and links are followed by hand on a stack of open
//! directories whose bottom is the root: `..` pops, and the bottom stays.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;

use super::is_type;

/// As many symbolic links as the kernel follows (fs/namei.c, MAXSYMLINKS).
const MAX_LINKS: u32 = 40;

/// The mode of directories that are made on the way to a file.
const DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// What the end of the path is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// A directory.
    Directory,
    /// Anything but a directory; an empty file is made.
    File,
}

/// Opens (`O_PATH`) what `path` leads to, and makes what is missing on the way.
pub(super) fn make(
    root: BorrowedFd<'_>,
    path: &Path,
    last: Last,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let mut stack: Vec<OwnedFd> = Vec::new();
    let mut todo: VecDeque<OsString> = VecDeque::new();
    prepend(&mut todo, path);
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            stack.pop();
            continue;
        }
        let dir = stack.last().map_or(root, |fd| fd.as_fd());
        let make_file = last == Last::File && todo.is_empty();
        let fd = open_or_make(
            dir,
            &name,
            make_file,
            if last == Last::File && !make_file {
                DIR_MODE
            } else {
                mode
            },
        )?;
        let stat = fstat(&fd)?;
        if is_type(&stat, FileType::Symlink) {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = readlinkat(&fd, c"", Vec::new())?;
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            if target.is_absolute() {
                stack.clear();
            }
            prepend(&mut todo, target);
            continue;
        }
        let is_dir = is_type(&stat, FileType::Directory);
        if make_file {
            return if is_dir {
                Err(Errno::ISDIR.into())
            } else {
                Ok(fd)
            };
        }
        if !is_dir {
            return Err(Errno::NOTDIR.into());
        }
        stack.push(fd);
    }
    match (last, stack.pop()) {
        (Last::File, _) => Err(Errno::ISDIR.into()),
        (Last::Directory, Some(fd)) => Ok(fd),
        (Last::Directory, None) => Ok(root.try_clone_to_owned()?),
    }
}

/// Follows the links of `path`, of which `read` gives the targets.
pub(super) fn follow(
    path: &Path,
    read: impl Fn(&Path) -> io::Result<Option<PathBuf>>,
) -> io::Result<PathBuf> {
    let mut reached = PathBuf::from("/");
    let mut todo: VecDeque<OsString> = VecDeque::new();
    prepend(&mut todo, path);
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            reached.pop();
            continue;
        }
        reached.push(&name);
        let Some(target) = read(&reached)? else {
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        if target.is_absolute() {
            reached = PathBuf::from("/");
        } else {
            reached.pop();
        }
        prepend(&mut todo, &target);
    }
    Ok(reached)
}

fn open_or_make(dir: BorrowedFd<'_>, name: &OsStr, file: bool, mode: Mode) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        match openat(dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let made = if file {
            let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            openat(dir, name, create, mode).map(drop)
        } else {
            mkdirat(dir, name, mode)
        };
        match made {
            // Somebody else was faster, which is as good.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Puts the components of `path` before what is still to be done.
fn prepend(todo: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => todo.push_front(name.to_os_string()),
            Component::ParentDir => todo.push_front(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}
