//! Descriptors of the directories on the way to the current entry. Archives are sorted, so the next
//! entry mostly lies in the same directory or near it, and opening from the root again would cost
//! more than the entry itself. No symbolic link is followed here, except by the kernel inside the
//! root.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use havre_sys::fsroot::Root;
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::overlay;

/// Descriptors kept; deeper directories are walked to from the last of them.
const KEPT: usize = 48;

#[derive(Debug)]
pub(super) struct Dirs {
    root: Root,
    chain: Vec<(OsString, OwnedFd)>,
    /// Directories that no entry has described so far.
    made: BTreeSet<PathBuf>,
    root_made: bool,
    /// Whether a file in the way of a directory makes room for it, as in layers.
    clears: bool,
}

/// How a directory was reached.
#[derive(Debug)]
pub(super) enum Reached<'a> {
    Kept(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl Reached<'_> {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kept(fd) => *fd,
            Self::Opened(fd) => fd.as_fd(),
        }
    }
}

impl Dirs {
    pub(super) fn new(root: BorrowedFd<'_>, clears: bool) -> io::Result<Self> {
        // Opened for reading, not as a mere reference: attributes are set through it.
        let root = crate::stack::open_dir(root, OsStr::new("."))?;
        Ok(Self {
            root: Root::from_fd(root),
            chain: Vec::new(),
            made: BTreeSet::new(),
            root_made: true,
            clears,
        })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Directories that no entry described, parents before children.
    pub(super) fn into_made(self) -> Vec<PathBuf> {
        let root = self.root_made.then(PathBuf::new);
        root.into_iter().chain(self.made).collect()
    }

    /// An entry describes this directory after all.
    pub(super) fn is_explicit(&mut self, names: &[&OsStr]) {
        if !self.made.is_empty() {
            self.made.remove(&names.iter().collect::<PathBuf>());
        }
    }

    pub(super) fn root_is_explicit(&mut self) {
        self.root_made = false;
    }

    pub(super) fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.root.open_at(path, flags, Mode::empty())
    }

    /// Forgets descriptors: something that was a directory may be one no longer.
    pub(super) fn forget(&mut self) {
        self.chain.clear();
    }

    /// The directory at `names`. Missing ones are made (and noted); a file in the way is replaced;
    /// a symbolic link is followed inside the root, as an unpacked system expects of its
    /// `lib -> usr/lib`.
    pub(super) fn make(&mut self, names: &[&OsStr]) -> io::Result<Reached<'_>> {
        let known = self.known(names);
        self.chain.truncate(known);
        let mut deep: Option<OwnedFd> = None;
        for (index, name) in names.iter().enumerate().skip(known) {
            let here = match &deep {
                Some(fd) => fd.as_fd(),
                None => self.last(),
            };
            let next = match open_plain(here, name) {
                Err(Errno::NOENT) => {
                    make_dir(here, name)?;
                    self.made.insert(names[..=index].iter().collect());
                    let here = match &deep {
                        Some(fd) => fd.as_fd(),
                        None => self.last(),
                    };
                    open_plain(here, name)?
                }
                Err(Errno::LOOP | Errno::NOTDIR)
                    if !self.clears || !replace_whiteout(here, name)? =>
                {
                    return self.through_link(names).map(Reached::Opened);
                }
                Err(Errno::LOOP | Errno::NOTDIR) => open_plain(here, name)?,
                other => other?,
            };
            if self.chain.len() < KEPT {
                self.chain.push(((*name).to_os_string(), next));
            } else {
                deep = Some(next);
            }
        }
        Ok(match deep {
            Some(fd) => Reached::Opened(fd),
            None => Reached::Kept(self.last()),
        })
    }

    /// The directory at `names` if it exists; links are followed inside the root.
    pub(super) fn find(&self, names: &[&OsStr]) -> io::Result<Option<Reached<'_>>> {
        let known = self.known(names);
        if known == names.len() {
            let fd = if known == 0 {
                self.root.as_fd()
            } else {
                self.chain[known - 1].1.as_fd()
            };
            return Ok(Some(Reached::Kept(fd)));
        }
        let path: PathBuf = names.iter().collect();
        match self
            .root
            .open_at(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        {
            Ok(fd) => Ok(Some(Reached::Opened(fd))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) || error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How many leading names the kept descriptors already stand for.
    fn known(&self, names: &[&OsStr]) -> usize {
        self.chain
            .iter()
            .zip(names)
            .take_while(|((kept, _), name)| kept == *name)
            .count()
    }

    fn last(&self) -> BorrowedFd<'_> {
        self.chain
            .last()
            .map_or_else(|| self.root.as_fd(), |(_, fd)| fd.as_fd())
    }

    fn through_link(&mut self, names: &[&OsStr]) -> io::Result<OwnedFd> {
        if self.clears {
            self.clear_way(names)?;
        }
        let path: PathBuf = names.iter().collect();
        drop(self.root.mkdir_all(&path, Mode::from_raw_mode(0o755))?);
        self.root
            .open_at(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Removes the first thing on the way that is neither directory nor link.
    fn clear_way(&mut self, names: &[&OsStr]) -> io::Result<()> {
        for length in 1..=names.len() {
            let path: PathBuf = names[..length].iter().collect();
            match self
                .root
                .open_at(&path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            {
                Ok(_exists) => {}
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    let (dir, name) = self.root.parent(&path)?;
                    unlinkat(&dir, &name, AtFlags::empty())?;
                    return Ok(());
                }
                Err(_missing) => return Ok(()),
            }
        }
        Ok(())
    }
}

fn open_plain(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// A directory in the place of what this layer hid shows nothing of what is below; `false` when
/// there is no whiteout.
pub(super) fn replace_whiteout(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    if !overlay::is_whiteout(&statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?) {
        return Ok(false);
    }
    unlinkat(dir, name, AtFlags::empty())?;
    make_dir(dir, name)?;
    overlay::set_opaque(open_plain(dir, name)?)?;
    Ok(true)
}

pub(super) fn make_dir(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
    // Whatever the umask is.
    fchmod(open_plain(dir, name)?, Mode::from_raw_mode(0o755))
}
