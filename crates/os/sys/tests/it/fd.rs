//! Sealed memory files, the read-only copy of the own program, mount attributes.

use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};

use havre_sys::fd::{Reader, close_range_cloexec, memfd_sealed, self_exe_readonly};
use havre_sys::mount::{Depth, MountAttr, MountAttrFlags, Propagation, mount_setattr};
use havre_sys::mounts::mountinfo;
use havre_sys::namespace::unshare;
use havre_sys::testing::in_child;
use rustix::fs::{
    CWD, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_get_seals, fstatvfs, open, openat,
};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

#[test]
fn a_sealed_file_reads_back_and_cannot_change() {
    let fd = memfd_sealed(c"test", &b"content"[..]).expect("it can be made");
    assert_eq!(rustix::io::pwrite(&fd, b"X", 0), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(&fd, 0), Err(Errno::PERM));
    assert!(fcntl_getfd(&fd).expect("flags").contains(FdFlags::CLOEXEC));
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0)).expect("seek");
    let mut text = String::new();
    Reader(fd.as_fd()).read_to_string(&mut text).expect("read");
    assert_eq!(text, "content");
}

#[test]
fn the_own_program_cannot_be_opened_for_writing() {
    let exe = self_exe_readonly().expect("the program can be cloned or copied");
    // While the program runs, writing gives ETXTBSY anyway; what matters is what comes after.
    let readonly_mount = fstatvfs(&exe)
        .expect("statvfs")
        .f_flag
        .contains(StatVfsMountFlags::RDONLY);
    let sealed = fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    assert!(readonly_mount || sealed);
    let link = format!("/proc/self/fd/{}", exe.as_raw_fd());
    open(&link, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).expect_err("not writable");
    open(&link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("it can be read");
}

#[test]
fn every_descriptor_becomes_close_on_exec() {
    in_child(|| {
        let fd = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 30).expect("a copy");
        fcntl_setfd(&fd, FdFlags::empty()).expect("flags");
        assert!(!fcntl_getfd(&fd).expect("flags").contains(FdFlags::CLOEXEC));
        close_range_cloexec(30).expect("close_range works");
        assert!(fcntl_getfd(&fd).expect("flags").contains(FdFlags::CLOEXEC));
    });
}

#[test]
fn mount_attributes_reach_the_whole_tree() {
    in_child(|| {
        unshare(UnshareFlags::NEWNS).expect("a mount namespace");
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .expect("private");
        let none = MountFlags::empty();
        mount("tmpfs", "/mnt", "tmpfs", none, None).expect("tmpfs");
        rustix::fs::mkdir("/mnt/below", Mode::RWXU).expect("mkdir");
        mount("tmpfs", "/mnt/below", "tmpfs", none, None).expect("tmpfs");
        let attr = MountAttr {
            set: MountAttrFlags::RDONLY | MountAttrFlags::NODEV,
            propagation: Some(Propagation::Slave),
            ..MountAttr::default()
        };
        mount_setattr(CWD, c"/mnt", Depth::Recursive, &attr).expect("mount_setattr");
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let error = openat(CWD, "/mnt/below/file", flags, Mode::RWXU).map(drop);
        assert_eq!(error, Err(Errno::ROFS));
        let below = mountinfo().expect("mountinfo");
        let below = below
            .iter()
            .find(|m| m.mount_point.ends_with("below"))
            .expect("it is there");
        assert!(below.options.starts_with("ro,nodev"), "{below:?}");
        let clear = MountAttr {
            clear: MountAttrFlags::RDONLY,
            ..MountAttr::default()
        };
        mount_setattr(CWD, c"/mnt", Depth::One, &clear).expect("mount_setattr");
        openat(CWD, "/mnt/file", flags, Mode::RWXU).expect("writable again");
        assert_eq!(
            openat(CWD, "/mnt/below/file", flags, Mode::RWXU).map(drop),
            Err(Errno::ROFS)
        );
    });
}
