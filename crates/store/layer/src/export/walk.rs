//! Walking a merged tree, or an upper directory, in the order of names. No recursion: the depth is
//! the tree's, and the tree is a stranger's.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;

use crate::error::ExportError;
use crate::export::node::{Sink, name_of, read_error};
use crate::overlay;
use crate::stack::{Child, Level, open_dir, read_dir};

pub(super) struct Frame<D> {
    pub(super) dir: D,
    pub(super) path: PathBuf,
    /// Names still to come, the last one first.
    pub(super) names: Vec<OsString>,
}

pub(super) fn check_depth<T>(frames: &[T], path: &Path, limit: usize) -> Result<(), ExportError> {
    if frames.len() > limit {
        return Err(ExportError::TooDeep {
            name: name_of(path),
            limit,
        });
    }
    Ok(())
}

pub(super) fn tree<W: Write>(root: Level, sink: &mut Sink<'_, W>) -> Result<(), ExportError> {
    let mut frames = vec![level_frame(root, PathBuf::new())?];
    while let Some(frame) = frames.last_mut() {
        let Some(name) = frame.names.pop() else {
            frames.pop();
            continue;
        };
        let path = frame.path.join(&name);
        let child = frame
            .dir
            .child(&name)
            .map_err(|source| read_error(&path, source))?;
        match child {
            None => {}
            Some(Child::Other { dir, stat }) => {
                if let Some(dir) = frame.dir.dir(dir) {
                    sink.other(&path, dir, &stat)?;
                }
            }
            Some(Child::Directory(level, stat)) => {
                if let Some(top) = level.top() {
                    sink.directory(&path, top, &stat)?;
                }
                frames.push(level_frame(level, path.clone())?);
                check_depth(&frames, &path, sink.options.depth)?;
            }
        }
    }
    Ok(())
}

fn level_frame(dir: Level, path: PathBuf) -> Result<Frame<Level>, ExportError> {
    let mut names = dir.names().map_err(|source| read_error(&path, source))?;
    names.reverse();
    Ok(Frame { dir, path, names })
}

pub(super) fn changes<W: Write>(
    upper: BorrowedFd<'_>,
    sink: &mut Sink<'_, W>,
) -> Result<(), ExportError> {
    let root = open_dir(upper, OsString::from(".").as_os_str())
        .map_err(|source| read_error(Path::new("/"), source))?;
    let mut frames = vec![upper_frame(root, PathBuf::new(), sink)?];
    while let Some(frame) = frames.last_mut() {
        let Some(name) = frame.names.pop() else {
            frames.pop();
            continue;
        };
        let path = frame.path.join(&name);
        if sink.options.omit.contains(&path) {
            continue;
        }
        let dir = frame.dir.as_fd();
        let stat = match statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(read_error(&path, errno.into())),
        };
        if overlay::is_whiteout(&stat) {
            sink.whiteout(&path)?;
        } else if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            sink.other(&path, dir, &stat)?;
        } else {
            let Ok(inner) = open_dir(dir, &name) else {
                continue;
            };
            let stat = fstat(&inner).map_err(|errno| read_error(&path, errno.into()))?;
            sink.directory(&path, inner.as_fd(), &stat)?;
            let frame = upper_frame(inner, path.clone(), sink)?;
            frames.push(frame);
            check_depth(&frames, &path, sink.options.depth)?;
        }
    }
    Ok(())
}

/// The mark of an opaque directory comes before what is in it.
fn upper_frame<W: Write>(
    dir: OwnedFd,
    path: PathBuf,
    sink: &mut Sink<'_, W>,
) -> Result<Frame<OwnedFd>, ExportError> {
    let read = |source| read_error(&path, source);
    if overlay::is_opaque(&dir).map_err(|errno| read(errno.into()))? {
        sink.opaque(&path)?;
    }
    let entries = read_dir(dir.as_fd()).map_err(read)?;
    let mut names: Vec<OsString> = entries.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(Frame { dir, path, names })
}
