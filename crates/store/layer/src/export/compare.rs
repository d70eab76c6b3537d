//! The differences between two trees. Files are compared by metadata first and by content only where
//! size and modification time agree but the inode does not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, openat, readlinkat};

use crate::error::ExportError;
use crate::export::node::{name_of, named_xattrs, open_xattrs, read_error};
use crate::export::{Change, ChangeKind};
use crate::stack::{Child, Level, Stack};

/// One difference, parents before children.
#[derive(Debug, Clone, Copy)]
pub(super) enum Difference<'a> {
    Directory {
        path: &'a Path,
        dir: BorrowedFd<'a>,
        stat: &'a Stat,
        kind: ChangeKind,
    },
    Other {
        path: &'a Path,
        dir: BorrowedFd<'a>,
        stat: &'a Stat,
        kind: ChangeKind,
    },
    Deleted {
        path: &'a Path,
    },
}

impl Difference<'_> {
    pub(super) fn change(&self) -> Change {
        let (path, kind) = match self {
            Self::Directory { path, kind, .. } | Self::Other { path, kind, .. } => (path, *kind),
            Self::Deleted { path } => (path, ChangeKind::Deleted),
        };
        Change {
            path: path.to_path_buf(),
            kind,
        }
    }
}

type Report<'a> = &'a mut dyn FnMut(Difference<'_>) -> Result<(), ExportError>;

/// How trees are compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Like<'a> {
    pub(super) depth: usize,
    pub(super) omit: &'a BTreeSet<PathBuf>,
    /// Whether a directory with another time differs.
    pub(super) directory_times: bool,
}

struct Frame {
    /// Missing below a directory that is new.
    base: Option<Level>,
    new: Level,
    path: PathBuf,
    names: Vec<OsString>,
}

pub(super) fn diff(
    base: &Stack,
    new: &Stack,
    like: Like<'_>,
    report: Report<'_>,
) -> Result<(), ExportError> {
    let root = |stack: &Stack| {
        stack
            .root()
            .map_err(|source| read_error(Path::new("/"), source))
    };
    let base = if base.is_empty() {
        None
    } else {
        Some(root(base)?)
    };
    let mut frames = vec![frame(base, root(new)?, PathBuf::new())?];
    while let Some(top) = frames.last_mut() {
        let Some(name) = top.names.pop() else {
            frames.pop();
            continue;
        };
        let path = top.path.join(&name);
        if like.omit.contains(&path) {
            continue;
        }
        if let Some(next) = step(top, &name, &path, like, report)? {
            frames.push(next);
        }
        if frames.len() > like.depth {
            return Err(ExportError::TooDeep {
                name: name_of(&path),
                limit: like.depth,
            });
        }
    }
    Ok(())
}

fn frame(base: Option<Level>, new: Level, path: PathBuf) -> Result<Frame, ExportError> {
    let read = |source| read_error(&path, source);
    let mut names = new.names().map_err(read)?;
    if let Some(base) = &base {
        names.extend(base.names().map_err(read)?);
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    names.dedup();
    Ok(Frame {
        base,
        new,
        path,
        names,
    })
}

/// Reports what is different about one name; the frame of a directory to go into.
fn step(
    top: &Frame,
    name: &OsStr,
    path: &Path,
    like: Like<'_>,
    report: Report<'_>,
) -> Result<Option<Frame>, ExportError> {
    let read = |source| read_error(path, source);
    let old = match &top.base {
        Some(base) => base.child(name).map_err(read)?,
        None => None,
    };
    let kind = if old.is_some() {
        ChangeKind::Modified
    } else {
        ChangeKind::Added
    };
    match (old, top.new.child(name).map_err(read)?) {
        (None, None) => Ok(None),
        (Some(_), None) => report(Difference::Deleted { path }).map(|()| None),
        (old, Some(Child::Directory(level, stat))) => {
            let Some(dir) = level.top() else {
                return Ok(None);
            };
            let base = match old {
                // The same directories merge into both: so does all below them.
                Some(Child::Directory(base, base_stat))
                    if (base_stat.st_dev, base_stat.st_ino) == (stat.st_dev, stat.st_ino)
                        && base.is_same(&level).map_err(read)? =>
                {
                    return Ok(None);
                }
                Some(Child::Directory(base, base_stat)) => {
                    if !same_directory((&base, base_stat), dir, &stat, like).map_err(read)? {
                        report(Difference::Directory {
                            path,
                            dir,
                            stat: &stat,
                            kind,
                        })?;
                    }
                    Some(base)
                }
                // A directory in the place of something else hides it by itself.
                Some(Child::Other { .. }) | None => {
                    report(Difference::Directory {
                        path,
                        dir,
                        stat: &stat,
                        kind,
                    })?;
                    None
                }
            };
            frame(base, level, path.to_owned()).map(Some)
        }
        (old, Some(Child::Other { dir, stat })) => {
            let Some(dir) = top.new.dir(dir) else {
                return Ok(None);
            };
            let same = match (&top.base, old) {
                (
                    Some(base),
                    Some(Child::Other {
                        dir: index,
                        stat: old,
                    }),
                ) => match base.dir(index) {
                    Some(old_dir) => {
                        same_node((old_dir, &old), (dir, &stat), name).map_err(read)?
                    }
                    None => false,
                },
                _ => false,
            };
            if !same {
                report(Difference::Other {
                    path,
                    dir,
                    stat: &stat,
                    kind,
                })?;
            }
            Ok(None)
        }
    }
}

fn same_metadata(old: &Stat, new: &Stat) -> bool {
    (old.st_mode, old.st_uid, old.st_gid, old.st_rdev)
        == (new.st_mode, new.st_uid, new.st_gid, new.st_rdev)
        && (old.st_mtime, old.st_mtime_nsec) == (new.st_mtime, new.st_mtime_nsec)
}

fn same_directory(
    (base, mut base_stat): (&Level, Stat),
    dir: BorrowedFd<'_>,
    stat: &Stat,
    like: Like<'_>,
) -> io::Result<bool> {
    if !like.directory_times {
        (base_stat.st_mtime, base_stat.st_mtime_nsec) = (stat.st_mtime, stat.st_mtime_nsec);
    }
    let Some(base) = base.top() else {
        return Ok(false);
    };
    if (base_stat.st_dev, base_stat.st_ino) == (stat.st_dev, stat.st_ino) {
        return Ok(true);
    }
    Ok(same_metadata(&base_stat, stat) && open_xattrs(base)? == open_xattrs(dir)?)
}

fn same_node(
    (old_dir, old): (BorrowedFd<'_>, &Stat),
    (new_dir, new): (BorrowedFd<'_>, &Stat),
    name: &OsStr,
) -> io::Result<bool> {
    if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) {
        return Ok(true);
    }
    if !same_metadata(old, new) || old.st_size != new.st_size {
        return Ok(false);
    }
    match FileType::from_raw_mode(new.st_mode) {
        FileType::RegularFile => same_file(old_dir, new_dir, name),
        FileType::Symlink => {
            let target = |dir| readlinkat(dir, name, Vec::new());
            Ok(target(old_dir)? == target(new_dir)?)
        }
        _ => Ok(named_xattrs(old_dir, name)? == named_xattrs(new_dir, name)?),
    }
}

fn same_file(old: BorrowedFd<'_>, new: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let (old, new) = (
        openat(old, name, flags, Mode::empty())?,
        openat(new, name, flags, Mode::empty())?,
    );
    if open_xattrs(old.as_fd())? != open_xattrs(new.as_fd())? {
        return Ok(false);
    }
    let mut buffers = (vec![0; 128 * 1024], vec![0; 128 * 1024]);
    let mut offset = 0;
    loop {
        let count = rustix::io::pread(&old, &mut buffers.0, offset)?;
        if count == 0 {
            return Ok(true);
        }
        let mut filled = 0;
        while filled < count {
            let at = offset + filled as u64;
            match rustix::io::pread(&new, &mut buffers.1[filled..count], at)? {
                0 => return Ok(false),
                read => filled += read,
            }
        }
        if buffers.0[..count] != buffers.1[..count] {
            return Ok(false);
        }
        offset += count as u64;
    }
}

/// Adds the directories above each change, as `docker diff` lists them.
pub(super) fn with_parents(found: Vec<Change>) -> Vec<Change> {
    let mut all = BTreeMap::new();
    for change in &found {
        for parent in change.path.ancestors().skip(1) {
            if !parent.as_os_str().is_empty() {
                all.entry(parent.to_owned()).or_insert(ChangeKind::Modified);
            }
        }
    }
    for change in found {
        all.insert(change.path, change.kind);
    }
    all.into_iter()
        .map(|(path, kind)| Change { path, kind })
        .collect()
}
