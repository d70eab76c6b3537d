//! What a path of a request means inside a container: Docker's rules for `.`, `..`, a slash at the end
//! and symbolic links. Nothing is opened but inside the container's root.
//!
//! <https://github.com/moby/moby/blob/master/daemon/archive_unix.go>

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::PathStat;
use havre_layer::is_virtual;
use havre_types::{ErrorKind, Timestamp};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, StatxAttributes, StatxFlags, fstat, statx,
};
use rustix::io::Errno;

use super::view::View;

/// A path of a request, made plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// As it was asked for, for messages.
    asked: String,
    container: String,
    /// Absolute, without `.` and `..`.
    clean: PathBuf,
    /// It ended with a slash or `/.`: only a directory will do, and a link there is followed.
    directory: bool,
    /// It ended with `/.`.
    dot: bool,
}

/// What was found at a place.
#[derive(Debug)]
pub(super) struct Found {
    /// The directory that holds it, or of a directory itself; and its name there.
    pub dir: OwnedFd,
    pub base: OsString,
    pub stat: PathStat,
}

impl Place {
    pub(super) fn new(path: &str, container: &str) -> Self {
        let mut clean = PathBuf::from("/");
        for part in Path::new(path).components() {
            match part {
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => {
                    clean.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        let last = path.trim_end_matches('/').rsplit('/').next();
        let dot = last == Some(".");
        Self {
            asked: path.to_owned(),
            container: container.to_owned(),
            directory: dot || path.ends_with('/') || clean == Path::new("/"),
            dot,
            clean,
        }
    }

    /// The name the thing has in an archive, and in its stat.
    pub(super) fn name(&self) -> String {
        if self.dot {
            return ".".to_owned();
        }
        self.clean.file_name().map_or_else(
            || "/".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    pub(super) fn stat(&self, view: &View) -> ApiResult<PathStat> {
        let (found, _) = self.look(view)?;
        self.path_stat(view, &found)
    }

    /// Finds it, ready to be archived.
    pub(super) fn find(&self, view: &View) -> ApiResult<Found> {
        let (stat, fd) = self.look(view)?;
        let shown = self.path_stat(view, &stat)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(Found {
                dir: fd,
                base: OsString::from("."),
                stat: shown,
            });
        }
        let (dir, base) = view
            .root
            .parent(&self.clean)
            .map_err(|err| self.failed(&err))?;
        Ok(Found {
            dir,
            base,
            stat: shown,
        })
    }

    /// The directory to unpack into, with all links followed, and its path.
    pub(super) fn directory(&self, view: &View) -> ApiResult<(OwnedFd, PathBuf)> {
        let path = view
            .root
            .follow(&self.clean)
            .map_err(|err| self.failed(&err))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        match view.root.open_at(&path, flags, Mode::empty()) {
            Ok(fd) if is_virtual(&fd).map_err(|err| self.failed(&err))? => Err(ApiError::invalid(
                format!("cannot copy to {}: the kernel makes it up", self.asked),
            )),
            Ok(fd) => Ok((fd, path)),
            Err(err) if err.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) => {
                Err(ApiError::invalid("extraction point is not a directory"))
            }
            Err(err) => Err(self.failed(&err)),
        }
    }

    fn look(&self, view: &View) -> ApiResult<(Stat, OwnedFd)> {
        let flags = if self.directory {
            OFlags::PATH | OFlags::DIRECTORY
        } else {
            OFlags::PATH | OFlags::NOFOLLOW
        };
        let failed = |err: io::Error| self.failed(&err);
        let fd = view
            .root
            .open_at(&self.clean, flags, Mode::empty())
            .map_err(failed)?;
        // What the kernel makes up is no file of the container; Docker shows the directory below.
        if is_virtual(&fd).map_err(failed)? && !is_mount_root(&fd).map_err(failed)? {
            return Err(self.missing());
        }
        let stat = fstat(&fd).map_err(|errno| failed(errno.into()))?;
        Ok((stat, fd))
    }

    fn path_stat(&self, view: &View, stat: &Stat) -> ApiResult<PathStat> {
        let link_target = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = view.root.follow(&self.clean);
            let target = target.map_err(|err| self.failed(&err))?;
            String::from_utf8_lossy(target.as_os_str().as_bytes()).into_owned()
        } else {
            String::new()
        };
        Ok(PathStat {
            name: self.name(),
            size: stat.st_size,
            mode: PathStat::go_mode(stat.st_mode),
            mtime: Timestamp {
                secs: stat.st_mtime,
                nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            link_target,
        })
    }

    fn missing(&self) -> ApiError {
        ApiError::not_found(format!(
            "Could not find the file {} in container {}",
            self.asked, self.container
        ))
    }

    fn failed(&self, err: &io::Error) -> ApiError {
        let is = |errno: Errno| err.raw_os_error() == Some(errno.raw_os_error());
        if err.kind() == io::ErrorKind::NotFound {
            return self.missing();
        }
        let path = &self.asked;
        if is(Errno::NOTDIR) {
            return ApiError::invalid(format!("lstat {path}: not a directory"));
        }
        if is(Errno::LOOP) {
            return ApiError::invalid(format!("lstat {path}: too many levels of symbolic links"));
        }
        if is(Errno::NAMETOOLONG) || err.kind() == io::ErrorKind::InvalidInput {
            return ApiError::invalid(format!("lstat {path}: {err}"));
        }
        ApiError::new(ErrorKind::Internal, format!("lstat {path}: {err}"))
    }
}

fn is_mount_root(fd: &OwnedFd) -> io::Result<bool> {
    let empty = OsStr::new("");
    let found = statx(fd.as_fd(), empty, AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_they_mean_to_docker() {
        for (path, clean, name, directory) in [
            ("/a/b", "/a/b", "b", false),
            ("/a/b/", "/a/b", "b", true),
            ("/a/b/.", "/a/b", ".", true),
            ("/a/b/./", "/a/b", ".", true),
            ("a/b", "/a/b", "b", false),
            ("/a/b/..", "/a", "a", false),
            ("/../../a", "/a", "a", false),
            ("/", "/", "/", true),
            ("/.", "/", ".", true),
            (".", "/", ".", true),
            ("..", "/", "/", true),
        ] {
            let place = Place::new(path, "c");
            assert_eq!(place.clean, Path::new(clean), "{path}");
            assert_eq!(place.name(), name, "{path}");
            assert_eq!(place.directory, directory, "{path}");
        }
    }
}
