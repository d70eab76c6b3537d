//! Paths that come from an image, an archive, a spec or a request, resolved inside a root.
//!
//! Every lookup is done by the kernel with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`:
//! `..`, absolute paths and symbolic links mean what they mean after chroot, also while somebody
//! renames things, and links of `/proc` lead nowhere. Nothing here takes a path apart in
//! order to judge whether it is safe.

mod remove;
mod walk;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dev, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, linkat, mknodat, open, openat,
    openat2, readlinkat, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::fd::Reader;

pub use remove::remove_tree;

/// How often a lookup is repeated when a concurrent rename made the kernel give up (EAGAIN).
const RETRIES: u32 = 128;

/// A directory that paths are resolved in and cannot leave.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens a directory of the host, by a path that is trusted.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(open(path, flags, Mode::empty())?))
    }

    /// Takes an open directory.
    #[must_use]
    pub const fn from_fd(dir: OwnedFd) -> Self {
        Self(dir)
    }

    /// A second handle of the same directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// A root at a directory inside this one.
    pub fn subroot(&self, path: &Path) -> io::Result<Self> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .map(Self)
    }

    /// Opens what `path` leads to, with symbolic links followed unless the flags say NOFOLLOW.
    /// Mind that opening a FIFO may block and opening a device may act: see
    /// [`Root::open_regular`] for content that is not trusted.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.resolve(path, flags, mode)
    }

    /// Opens what `path` leads to as a mere reference (`O_PATH`), with symbolic links followed.
    pub fn open_path(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH, Mode::empty())
    }

    /// As [`Root::open_path`], but a symbolic link at the end is itself what is opened.
    pub fn open_path_nofollow(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Opens a regular file for reading. Anything else is refused before it is opened, so that
    /// no device of the image acts and no FIFO blocks.
    pub fn open_regular(&self, path: &Path) -> io::Result<OwnedFd> {
        let reference = self.open_path(path)?;
        if !is_type(&fstat(&reference)?, FileType::RegularFile) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        // The very file that was judged, not whatever has its name by now.
        let link = format!("/proc/thread-self/fd/{}", reference.as_raw_fd());
        Ok(open(link, flags, Mode::empty())?)
    }

    /// Reads a regular file of at most `max` bytes; a larger one is an error of kind
    /// `FileTooLarge`.
    pub fn read_limited(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let file = self.open_regular(path)?;
        let size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        let capacity = usize::try_from(size.min(max)).unwrap_or(0);
        let mut out = Vec::with_capacity(capacity);
        // The size is a hint only: files of /proc say 0, and any file may grow meanwhile.
        Reader(file.as_fd())
            .take(max.saturating_add(1))
            .read_to_end(&mut out)?;
        if out.len() as u64 > max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(out)
    }

    /// The directory that holds the last component of `path`, and that component.
    pub fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let name = last_name(path)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((
            self.resolve(parent, flags, Mode::empty())?,
            name.to_os_string(),
        ))
    }

    /// Makes the directory at `path` and those above it that are missing, with this mode less
    /// the umask, and opens it as a reference. Existing symbolic links are followed inside the
    /// root, and where one leads to nothing, its target is made.
    pub fn mkdir_all(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                walk::make(self.as_fd(), path, walk::Last::Directory, mode)
            }
            other => other,
        }
    }

    /// Makes sure that something other than a directory is at `path`, if need be an empty file,
    /// and opens it as a reference: a place to mount a file on. As [`Root::mkdir_all`] follows
    /// symbolic links and makes the directories above (mode 0755).
    pub fn ensure_file(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                walk::make(self.as_fd(), path, walk::Last::File, mode)
            }
            Ok(fd) if is_type(&fstat(&fd)?, FileType::Directory) => {
                Err(io::ErrorKind::IsADirectory.into())
            }
            other => other,
        }
    }

    /// Makes a new file for writing; an existing one, even a dangling symbolic link, is an error.
    pub fn create_file(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(openat(&dir, &name, flags | OFlags::NOFOLLOW, mode)?)
    }

    /// Makes a device node, FIFO or socket file. A symbolic link at the end is not followed.
    pub fn mknod(&self, path: &Path, kind: FileType, mode: Mode, dev: Dev) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(mknodat(&dir, &name, kind, mode, dev)?)
    }

    /// Makes a symbolic link at `path` with this text as its target.
    pub fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(symlinkat(target, &dir, &name)?)
    }

    /// Makes `path` a second name of what is at `existing`, which is not followed if it is a
    /// symbolic link.
    pub fn hard_link(&self, existing: &Path, path: &Path) -> io::Result<()> {
        let (from_dir, from) = self.parent(existing)?;
        let (dir, name) = self.parent(path)?;
        Ok(linkat(&from_dir, &from, &dir, &name, AtFlags::empty())?)
    }

    /// Renames, in the root, replacing a file that is at `to`.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from) = self.parent(from)?;
        let (to_dir, to) = self.parent(to)?;
        Ok(renameat(&from_dir, &from, &to_dir, &to)?)
    }

    /// The status of what is at `path`; a symbolic link at the end is not followed.
    pub fn lstat(&self, path: &Path) -> io::Result<Stat> {
        Ok(fstat(self.open_path_nofollow(path)?)?)
    }

    /// The target of the symbolic link at `path`.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let fd = self.open_path_nofollow(path)?;
        let target = readlinkat(&fd, c"", Vec::new())?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// Where `path` leads when all symbolic links in it are followed, as a path below the root. From
    /// the first component on that does not exist, it stays as it is written. What others rename
    /// meanwhile may make the answer wrong, but open it and you are still inside.
    pub fn follow(&self, path: &Path) -> io::Result<PathBuf> {
        walk::follow(path, |link| match self.read_link(link) {
            Ok(target) => Ok(Some(target)),
            // Something else, or nothing (man 2 readlink).
            Err(error)
                if error.raw_os_error() == Some(libc::EINVAL)
                    || error.kind() == io::ErrorKind::NotFound
                    || error.kind() == io::ErrorKind::NotADirectory =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        })
    }

    /// Removes one file, link or empty directory.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        match unlinkat(&dir, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => Ok(unlinkat(&dir, &name, AtFlags::REMOVEDIR)?),
            other => Ok(other?),
        }
    }

    /// Removes what is at `path` and everything below it; see [`remove_tree`].
    pub fn remove_all(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        remove_tree(dir.as_fd(), &name)
    }

    /// True if something, even a dangling symbolic link, is at `path`.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        let Ok(_name) = last_name(path) else {
            return Ok(true);
        };
        match self.parent(path) {
            Ok((dir, name)) => match statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        resolve_at(self.as_fd(), path, flags, mode, resolve)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn resolve_at(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    // openat2 takes no empty path; the root itself is meant.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let mut left = RETRIES;
    loop {
        match openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) if left > 0 => left -= 1,
            other => return Ok(other?),
        }
    }
}

/// The last component, if it is a name: not `..`, not the root.
fn last_name(path: &Path) -> io::Result<&OsStr> {
    path.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path does not end with a name",
        )
    })
}

fn is_type(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}
