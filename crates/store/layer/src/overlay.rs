//! How overlayfs marks what an upper layer hides: a 0:0 character device for a name, an extended
//! attribute for the content of a directory below.
//!
//! <https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories>

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Mode, Stat, XattrFlags, fgetxattr, fsetxattr, makedev, mknodat};
use rustix::io::Errno;

pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";
/// Attributes with these prefixes steer overlayfs; an archive must not set them.
const STEERING: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn make_whiteout(dir: BorrowedFd<'_>, name: &std::ffi::OsStr) -> rustix::io::Result<()> {
    mknodat(
        dir,
        name,
        FileType::CharacterDevice,
        Mode::empty(),
        makedev(0, 0),
    )
}

pub(crate) fn set_opaque(dir: impl AsFd) -> rustix::io::Result<()> {
    fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())
}

/// `x` marks a directory that only may hold xattr whiteouts; it hides nothing by itself.
pub(crate) fn is_opaque(dir: impl AsFd) -> rustix::io::Result<bool> {
    let mut value = [0_u8; 4];
    match fgetxattr(dir, OPAQUE, &mut value) {
        Ok(length) => Ok(value.get(..length) == Some(b"y")),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn is_steering(name: &[u8]) -> bool {
    STEERING.iter().any(|prefix| name.starts_with(prefix))
}
