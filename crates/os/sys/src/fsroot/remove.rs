//! Removal of a tree that somebody else may be changing: by descriptor, one component at a time,
//! never through a symbolic link and never into another mount (CVE-2022-21658).

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, openat2, renameat, unlinkat};
use rustix::io::Errno;

/// Directories open at a time. A deeper tree is taken apart: what is below is moved to the top,
/// so neither descriptors nor the stack run out, however deep it is.
const MAX_DEPTH: usize = 64;

/// Removes `name` in `dir` and everything below it. What is missing is as good as removed; a
/// mount inside the tree is an error (EXDEV or EBUSY) and is left alone.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EPERM is what some file systems say for a directory, as POSIX allows.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let top = match open_dir(dir, name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut moved = 0;
    while empty(top.as_fd(), top.as_fd(), 0, &mut moved)? == Rest::Moved {}
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether something deep was moved to the top, which then has to be emptied once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Moved,
}

fn open_dir<N: rustix::path::Arg>(dir: BorrowedFd<'_>, name: N) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    openat2(dir, name, flags, Mode::empty(), resolve)
}

fn empty(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    depth: usize,
    moved: &mut u64,
) -> io::Result<Rest> {
    let mut rest = Rest::Nothing;
    for name in names(dir)? {
        match unlinkat(dir, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        if depth >= MAX_DEPTH {
            *moved += 1;
            renameat(dir, &name, top, format!(".havre-removing-{moved}"))?;
            rest = Rest::Moved;
            continue;
        }
        let child = match open_dir(dir, &name) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        if empty(top, child.as_fd(), depth + 1, moved)? == Rest::Moved {
            rest = Rest::Moved;
        }
        match unlinkat(dir, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(rest)
}

fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
