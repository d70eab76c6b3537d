//! The terminal of a process, made from the container's own devpts.
//!
//! The slave comes from the master by TIOCGPTPEER, never by its name, and is bound on
//! `/dev/console` by descriptor: nothing in the image can stand in for it (CVE-2025-52565).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use havre_sys::fsroot::Root;
use rustix::fs::{Mode, OFlags, fstatfs};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::child::devices::is_character_device;
use crate::error::{RuntimeError, Step as _};
use crate::tree;

/// Major numbers of the slaves (Documentation/admin-guide/devices.txt).
const PTS_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// Both sides of a terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

impl Terminal {
    /// Opens a new terminal of the container whose root this is.
    pub(crate) fn open(root: &Root, size: Option<(u16, u16)>) -> Result<Self, RuntimeError> {
        let open = || -> io::Result<Self> {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let master = root.open_at(Path::new("/dev/pts/ptmx"), flags, Mode::empty())?;
            if fstatfs(&master)?.f_type != tree::DEVPTS_MAGIC {
                return Err(io::Error::other("/dev/pts is not devpts"));
            }
            unlockpt(&master)?;
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let slave = ioctl_tiocgptpeer(&master, flags)?;
            if !is_character_device(slave.as_fd(), PTS_MAJORS)? {
                return Err(io::Error::other("the terminal is not one"));
            }
            if let Some((rows, columns)) = size {
                let size = Winsize {
                    ws_row: rows,
                    ws_col: columns,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                tcsetwinsize(&master, size)?;
            }
            Ok(Self { master, slave })
        };
        open().step(|| "make a terminal".to_owned())
    }

    /// Puts the slave on `/dev/console`.
    pub(crate) fn bind_console(&self, root: &Root) -> Result<(), RuntimeError> {
        let bind = || -> io::Result<()> {
            let target = root.ensure_file(Path::new("/dev/console"), Mode::from_raw_mode(0o620))?;
            let tree = tree::bind_fd(self.slave.as_fd(), false)?;
            tree::attach(tree.as_fd(), target.as_fd())
        };
        bind().step(|| "mount the terminal on `/dev/console`".to_owned())
    }
}
