//! Descriptors: close-on-exec in bulk, sealed memory files, and a copy of the own program that
//! nobody can write.

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create, open,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::check;
use crate::mount::{Depth, MountAttr, MountAttrFlags, mount_setattr};

/// Marks every descriptor from `first` on as close-on-exec.
///
/// This works on numbers, so it reaches descriptors that a parent left open by mistake.
pub fn close_range_cloexec(first: u32) -> io::Result<()> {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing, so no owned descriptor becomes invalid; the
    // call takes no pointers.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    check(ret).map(drop)
}

/// Stops sharing the table of descriptors with whoever shares it; the new one has only those below `end`.
///
/// Async-signal-safe.
pub(crate) fn own_table_below(end: u32) -> io::Result<()> {
    // SAFETY: the call takes no pointers. What it leaves out stays open in the table of the others.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            end,
            u32::MAX,
            libc::CLOSE_RANGE_UNSHARE,
        )
    };
    check(ret).map(drop)
}

/// Makes `number` a copy of `from` that a program to be executed keeps, whatever was there before.
///
/// For a process about to execute a program, which knows its descriptors by number: an owner of
/// what was at `number` must not use it any more.
pub fn place(from: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    loop {
        // SAFETY: dup2 takes numbers only. That no owner in this process relies on `number` is
        // the caller's promise, stated above; a broken one is a wrong file, not wrong memory.
        let ret = unsafe { libc::dup2(from.as_raw_fd(), number) };
        match check(ret.into()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// Copies `reader` to the end into a memory file and seals it: nobody, not even root, can
/// change it afterwards. The file may be executed.
pub fn memfd_sealed(name: &CStr, mut reader: impl Read) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match memfd_create(name, flags | MemfdFlags::EXEC) {
        // MFD_EXEC is known since Linux 6.3; before that memory files are always executable.
        Err(Errno::INVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    let mut file = Writer(fd);
    io::copy(&mut reader, &mut file)?;
    fcntl_add_seals(
        &file.0,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(file.0)
}

/// A descriptor of the running program that can be executed but never written through, not even
/// by root of a container that finds it as `/proc/PID/exe` (CVE-2019-5736).
///
/// A program that already runs from a sealed memory file is returned as it is. Otherwise a
/// private read-only clone of its mount is made, which costs no copy; where that is impossible
/// (no CAP_SYS_ADMIN, a file system outside of this mount namespace) the program is copied.
pub fn self_exe_readonly() -> io::Result<OwnedFd> {
    let exe = open(
        c"/proc/self/exe",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SealFlags::WRITE)) {
        return Ok(exe);
    }
    if let Ok(clone) = clone_readonly(c"/proc/self/exe") {
        return Ok(clone);
    }
    memfd_sealed(c"havre-self", Reader(exe.as_fd()))
}

fn clone_readonly(path: &CStr) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags)?;
    let attr = MountAttr {
        set: MountAttrFlags::RDONLY,
        ..MountAttr::default()
    };
    mount_setattr(tree.as_fd(), c"", Depth::One, &attr)?;
    Ok(tree)
}

/// Reads a small file of `/proc` or `/sys` to its end.
pub(crate) fn read_whole(path: &CStr) -> io::Result<Vec<u8>> {
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut out = Vec::new();
    Reader(fd.as_fd()).read_to_end(&mut out)?;
    Ok(out)
}

/// `Read` on a borrowed descriptor.
#[derive(Debug)]
pub struct Reader<'a>(pub BorrowedFd<'a>);

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buf)?)
    }
}

struct Writer(OwnedFd);

impl io::Write for Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, buf)?)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
