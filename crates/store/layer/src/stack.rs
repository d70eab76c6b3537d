//! Trees lying on each other as overlayfs would show them, looked at without mounting anything.
//! Lookups are by descriptor and by one name at a time: no symbolic link is ever followed.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use havre_sys::fsroot::Root;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use crate::overlay;

/// Layers, the topmost first.
#[derive(Debug, Default)]
pub struct Stack {
    layers: Vec<Root>,
}

/// One directory as seen through the stack: the directories that merge into it, topmost first.
#[derive(Debug)]
pub struct Level {
    dirs: Vec<OwnedFd>,
}

/// What a name in a [`Level`] stands for.
#[derive(Debug)]
pub enum Child {
    Directory(Level, Stat),
    /// Anything else; `dir` is the place in the level of the directory that holds it.
    Other {
        dir: usize,
        stat: Stat,
    },
}

impl Stack {
    #[must_use]
    pub const fn new(layers: Vec<Root>) -> Self {
        Self { layers }
    }

    #[must_use]
    pub fn into_layers(self) -> Vec<Root> {
        self.layers
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The merged root directory.
    pub fn root(&self) -> io::Result<Level> {
        let mut dirs = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let dir = open_dir(layer.as_fd(), OsStr::new("."))?;
            let opaque = overlay::is_opaque(&dir)?;
            dirs.push(dir);
            if opaque {
                break;
            }
        }
        Ok(Level { dirs })
    }

    /// The level that holds the last name of `path`, and what that name stands for there; `None`
    /// when it, or a directory on the way, does not exist. `path` must be relative and plain.
    pub fn lookup(&self, path: &Path) -> io::Result<Option<(Level, Child)>> {
        let mut level = self.root()?;
        let mut names = path.components().peekable();
        while let Some(component) = names.next() {
            let Component::Normal(name) = component else {
                return Ok(None);
            };
            let Some(child) = level.child(name)? else {
                return Ok(None);
            };
            if names.peek().is_none() {
                return Ok(Some((level, child)));
            }
            let Child::Directory(next, _) = child else {
                return Ok(None);
            };
            level = next;
        }
        Ok(None)
    }
}

impl Level {
    /// The topmost directory: the one whose owner, mode and times show.
    #[must_use]
    pub fn top(&self) -> Option<BorrowedFd<'_>> {
        self.dirs.first().map(|dir| dir.as_fd())
    }

    /// The directory that a [`Child::Other`] names.
    #[must_use]
    pub fn dir(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.dirs.get(index).map(|dir| dir.as_fd())
    }

    pub fn child(&self, name: &OsStr) -> io::Result<Option<Child>> {
        let mut merged = Vec::new();
        let mut shown = None;
        for (index, dir) in self.dirs.iter().enumerate() {
            let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if overlay::is_whiteout(&stat) {
                break;
            }
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                if merged.is_empty() {
                    return Ok(Some(Child::Other { dir: index, stat }));
                }
                break;
            }
            let opened = match open_dir(dir.as_fd(), name) {
                Ok(opened) => opened,
                // Gone, or something else by now.
                Err(error) if has_moved(&error) => continue,
                Err(error) => return Err(error),
            };
            let opaque = overlay::is_opaque(&opened)?;
            merged.push(opened);
            shown.get_or_insert(stat);
            if opaque {
                break;
            }
        }
        Ok(shown.map(|stat| Child::Directory(Self { dirs: merged }, stat)))
    }

    /// Whether the same directories merge into both.
    pub(crate) fn is_same(&self, other: &Self) -> io::Result<bool> {
        if self.dirs.len() != other.dirs.len() {
            return Ok(false);
        }
        for (one, two) in self.dirs.iter().zip(&other.dirs) {
            let (one, two) = (fstat(one)?, fstat(two)?);
            if (one.st_dev, one.st_ino) != (two.st_dev, two.st_ino) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The names that show, sorted by their bytes.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        // True: shows. A name met higher up decides.
        let mut names: BTreeMap<OsString, bool> = BTreeMap::new();
        for dir in &self.dirs {
            for (name, file_type) in read_dir(dir.as_fd())? {
                if names.contains_key(&name) {
                    continue;
                }
                let hidden = match file_type {
                    FileType::CharacterDevice | FileType::Unknown => {
                        match statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                            Ok(stat) => overlay::is_whiteout(&stat),
                            Err(Errno::NOENT) => continue,
                            Err(errno) => return Err(errno.into()),
                        }
                    }
                    _ => false,
                };
                names.insert(name, !hidden);
            }
        }
        Ok(names
            .into_iter()
            .filter_map(|(name, shows)| shows.then_some(name))
            .collect())
    }
}

pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// What a lookup says of a name that was a directory a moment ago.
pub(crate) fn has_moved(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP]
        .iter()
        .any(|moved| errno == Some(moved.raw_os_error()))
}

/// The entries of one directory, without `.` and `..`, in no order.
pub(crate) fn read_dir(dir: BorrowedFd<'_>) -> io::Result<Vec<(OsString, FileType)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            let name = OsStr::from_bytes(name.to_bytes()).to_os_string();
            entries.push((name, entry.file_type()));
        }
    }
    Ok(entries)
}
