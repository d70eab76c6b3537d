//! Namespace changes of the calling thread.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Moves the calling thread into new namespaces.
///
/// `UnshareFlags::FILES` is refused: a thread with a descriptor table of its own would break
/// what `OwnedFd` promises to the other threads. Call it in a process or thread that no pool
/// reuses: the change lasts as long as the thread.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the one hazard that rustix names, CLONE_FILES, is refused above.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// Moves the calling thread into the namespace behind `ns`, of whatever type it is; with `kind`
/// the kernel refuses any other type.
pub fn enter(ns: BorrowedFd<'_>, kind: Option<LinkNameSpaceType>) -> io::Result<()> {
    Ok(move_into_link_name_space(ns, kind)?)
}
