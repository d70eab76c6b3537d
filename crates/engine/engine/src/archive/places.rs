//! What the engine puts into a container's layer: at create Docker's marks, `/.dockerenv` and
//! `/etc/mtab`; at the first start, where the image has none, places to mount on. None of it is a
//! change of the container's. Nothing here follows a symbolic link.
//!
//! <https://github.com/moby/moby/blob/master/daemon/initlayer/setup_unix.go>

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use havre_layer::{Child, Level, Stack, copy_metadata};
use havre_snapshot::Trees;
use havre_sys::fsroot::Root;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fchmod, mkdirat, openat, readlinkat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

/// By this file programs see that they are in a container.
const MARK: &str = ".dockerenv";
const MTAB: &str = "mtab";
/// Where `/etc/mtab` leads (man 8 mount).
const MOUNTS: &str = "/proc/mounts";

/// What the engine makes, inner ones first.
const PLACES: [&str; 10] = [
    MARK,
    "etc/mtab",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "dev/shm",
    "dev/pts",
    "dev",
    "proc",
    "sys",
];

/// Makes the marks in the layer of a new container, in place of what the image has there. A directory
/// of the image stays, and nothing is made behind a link.
pub(crate) fn make(trees: &Trees) -> io::Result<()> {
    let root = directory(trees.own.as_fd(), OsStr::new("."))?;
    let below = trees.parents.root()?;
    if vacate(&root, &below, OsStr::new(MARK))? {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mark = openat(&root, MARK, flags, Mode::empty())?;
        // The umask must not decide what containers see.
        fchmod(&mark, Mode::from_raw_mode(0o755))?;
    }
    let name = OsStr::new("etc");
    match below.child(name)? {
        Some(Child::Directory(level, stat)) => {
            let etc = made(&root, name)?;
            if vacate(&etc, &level, OsStr::new(MTAB))? {
                symlinkat(MOUNTS, &etc, MTAB)?;
            }
            match level.top() {
                Some(top) => copy_metadata(top, &stat, &etc),
                None => Ok(()),
            }
        }
        Some(Child::Other { .. }) => Ok(()),
        None => {
            let etc = made(&root, name)?;
            fchmod(&etc, Mode::from_raw_mode(0o755))?;
            Ok(symlinkat(MOUNTS, &etc, MTAB)?)
        }
    }
}

/// Makes a name free in a directory of the layer; false when a directory has it.
fn vacate(dir: &OwnedFd, below: &Level, name: &OsStr) -> io::Result<bool> {
    if matches!(below.child(name)?, Some(Child::Directory(..))) {
        return Ok(false);
    }
    // The layer of a driver that copies has what the image has.
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

fn made(dir: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => directory(dir.as_fd(), name),
        Err(errno) => Err(errno.into()),
    }
}

fn directory(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// The places in a container's layer that are as the engine made them.
pub(super) fn places(trees: &Trees) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for place in PLACES.map(Path::new) {
        if is_untouched(&trees.own, place, &found)
            && (is_mark(place) || !is_in(&trees.parents, place))
        {
            found.insert(place.to_owned());
        }
    }
    // A directory that is in the layer only because of them.
    let etc = Path::new("etc");
    if found.iter().any(|place| place.starts_with(etc))
        && is_untouched(&trees.own, etc, &found)
        && is_as_below(trees, etc)
    {
        found.insert(etc.to_owned());
    }
    found
}

/// These are made whatever the image has.
fn is_mark(place: &Path) -> bool {
    [Path::new(MARK), Path::new("etc/mtab")].contains(&place)
}

/// An empty file, the link to the mounts, or a directory in which nothing is but such places.
fn is_untouched(own: &Root, place: &Path, found: &BTreeSet<PathBuf>) -> bool {
    let Ok(stat) = own.lstat(place) else {
        return false;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => stat.st_size == 0,
        FileType::Symlink => own.parent(place).is_ok_and(|(dir, name)| {
            readlinkat(&dir, &name, Vec::new()).is_ok_and(|to| to.to_bytes() == MOUNTS.as_bytes())
        }),
        FileType::Directory => {
            let children = children(own, place);
            children.is_some_and(|names| names.iter().all(|name| found.contains(&place.join(name))))
        }
        _ => false,
    }
}

fn children(own: &Root, place: &Path) -> Option<Vec<OsString>> {
    let (dir, name) = own.parent(place).ok()?;
    let dir = directory(dir.as_fd(), &name).ok()?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&dir).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Some(names)
}

fn is_in(parents: &Stack, place: &Path) -> bool {
    !parents.is_empty() && !matches!(parents.lookup(place), Ok(None))
}

/// Whether a directory of the layer has nothing of its own that would show.
fn is_as_below(trees: &Trees, place: &Path) -> bool {
    let rights = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
    let Ok(own) = trees.own.lstat(place) else {
        return false;
    };
    if trees.parents.is_empty() {
        return true;
    }
    match trees.parents.lookup(place) {
        Ok(Some((_, Child::Directory(_, below)))) => rights(&own) == rights(&below),
        Ok(None) => true,
        Ok(Some(_)) | Err(_) => false,
    }
}
