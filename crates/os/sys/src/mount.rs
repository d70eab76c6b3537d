//! `mount_setattr`, the one call of the mount API that rustix lacks.

use std::ffi::CStr;
use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::check;

/// `MOUNT_ATTR_*` of linux/mount.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttrFlags(u64);

impl MountAttrFlags {
    /// No attribute.
    pub const NONE: Self = Self(0);
    /// Read-only.
    pub const RDONLY: Self = Self(0x1);
    /// Set-user-id bits and file capabilities are ignored.
    pub const NOSUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(0x4);
    /// Programs cannot be executed.
    pub const NOEXEC: Self = Self(0x8);
    /// All bits of the access-time mode: clear it to choose another mode.
    pub const ATIME: Self = Self(0x70);
    /// Access times are never written.
    pub const NOATIME: Self = Self(0x10);
    /// Access times are always written.
    pub const STRICTATIME: Self = Self(0x20);
    /// Access times of directories are never written.
    pub const NODIRATIME: Self = Self(0x80);
    /// Ids are mapped through the user namespace given with the call.
    pub const IDMAP: Self = Self(0x0010_0000);
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: Self = Self(0x0020_0000);

    /// The bits as the kernel numbers them.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// True if no flag is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for MountAttrFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for MountAttrFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The propagation type of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Nothing passes in either direction.
    Private,
    /// Events pass in both directions.
    Shared,
    /// Events pass only from the master.
    Slave,
    /// As private, and it cannot be bind-mounted.
    Unbindable,
}

/// What [`mount_setattr`] changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttr<'a> {
    /// Attributes to set.
    pub set: MountAttrFlags,
    /// Attributes to clear first.
    pub clear: MountAttrFlags,
    /// The new propagation type, if it changes.
    pub propagation: Option<Propagation>,
    /// The user namespace whose mapping the mount takes; adds `IDMAP` to `set`.
    pub idmap: Option<BorrowedFd<'a>>,
}

/// Whether [`mount_setattr`] changes one mount or the tree below it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The mount itself.
    One,
    /// The mount and all below it, or none of them.
    Recursive,
}

#[repr(C)]
struct RawMountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the attributes of the mount at `path`, relative to `dir`; an empty path means the
/// mount behind `dir` itself. The last component is never followed if it is a symbolic link.
pub fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    depth: Depth,
    attr: &MountAttr<'_>,
) -> io::Result<()> {
    let mut set = attr.set;
    if attr.idmap.is_some() {
        set |= MountAttrFlags::IDMAP;
    }
    let raw = RawMountAttr {
        attr_set: set.0,
        attr_clr: attr.clear.0,
        propagation: match attr.propagation {
            None => 0,
            Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Slave) => libc::MS_SLAVE,
            Some(Propagation::Shared) => libc::MS_SHARED,
        },
        userns_fd: attr
            .idmap
            .map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
    };
    let mut flags = libc::AT_SYMLINK_NOFOLLOW;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if depth == Depth::Recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `path` is null-terminated and `raw` has the layout of linux/mount.h; both outlive
    // the call, as do the borrowed descriptors.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const raw,
            size_of::<RawMountAttr>(),
        )
    };
    check(ret).map(drop)
}
