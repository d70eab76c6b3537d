//! One file, or one directory with all below it, as it shows through the mounts of a container that
//! may be running: by descriptor, and never into what the kernel makes up.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, fstat, fstatfs, statat};
use rustix::io::Errno;

use crate::error::ExportError;
use crate::export::node::{Sink, read_error};
use crate::export::walk::{Frame, check_depth};
use crate::stack::{has_moved, open_dir, read_dir};

/// File systems without files of their own, whose content may be endless, block, or act when it is
/// read (linux/magic.h; the kernel's own sources for bpf, configfs and efivarfs).
const VIRTUAL: [i64; 16] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x6265_6570, // configfs
    0xf97c_ff8c, // selinuxfs
    0x4249_4e4d, // binfmt_misc
    0x6e73_6673, // nsfs
];

/// Whether a file lies on a file system that the kernel makes up.
pub fn is_virtual(file: impl AsFd) -> io::Result<bool> {
    let kind = fstatfs(file)?.f_type;
    Ok(VIRTUAL.contains(&kind))
}

pub(super) fn write<W: Write>(
    dir: BorrowedFd<'_>,
    base: &OsStr,
    name: &Path,
    sink: &mut Sink<'_, W>,
) -> Result<(), ExportError> {
    let failed = |errno: Errno| read_error(name, errno.into());
    let stat = statat(dir, base, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return sink.named(name, dir, base, &stat);
    }
    let top = open_dir(dir, base).map_err(|source| read_error(name, source))?;
    let mut frames = vec![enter(top, name, None, sink)?.0];
    let mut devices = vec![stat.st_dev];
    while let Some(frame) = frames.last_mut() {
        let Some(name) = frame.names.pop() else {
            frames.pop();
            devices.pop();
            continue;
        };
        let path = frame.path.join(&name);
        let stat = match statat(&frame.dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(read_error(&path, errno.into())),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            sink.other(&path, frame.dir.as_fd(), &stat)?;
            continue;
        }
        let inner = match open_dir(frame.dir.as_fd(), &name) {
            Ok(inner) => inner,
            Err(error) if has_moved(&error) => continue,
            Err(source) => return Err(read_error(&path, source)),
        };
        let (frame, device) = enter(inner, &path, devices.last().copied(), sink)?;
        frames.push(frame);
        devices.push(device);
        check_depth(&frames, &path, sink.options.depth)?;
    }
    Ok(())
}

/// Writes a directory's own entry; its names, or none of a file system that is made up. `above` is the
/// device of the directory that holds it: only another one needs to be looked at.
fn enter<W: Write>(
    dir: OwnedFd,
    path: &Path,
    above: Option<u64>,
    sink: &mut Sink<'_, W>,
) -> Result<(Frame<OwnedFd>, u64), ExportError> {
    let failed = |source| read_error(path, source);
    let stat = fstat(&dir).map_err(|errno| failed(errno.into()))?;
    sink.directory(path, dir.as_fd(), &stat)?;
    let made_up = above != Some(stat.st_dev) && is_virtual(&dir).map_err(failed)?;
    let mut names: Vec<OsString> = if made_up {
        Vec::new()
    } else {
        let entries = read_dir(dir.as_fd()).map_err(failed)?;
        entries.into_iter().map(|(name, _)| name).collect()
    };
    names.sort_unstable_by(|one, other| other.cmp(one));
    let frame = Frame {
        dir,
        path: path.to_owned(),
        names,
    };
    Ok((frame, stat.st_dev))
}
