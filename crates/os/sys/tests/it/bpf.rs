//! Device programs on a cgroup v2 directory.

use std::os::fd::AsFd;
use std::path::Path;

use havre_sys::bpf::{BpfInsn, attach_device, detach_device, device_programs, load_device_program};
use rustix::fs::{Mode, OFlags, open};

/// `r0 = value; exit`.
fn answer(value: i32) -> [BpfInsn; 2] {
    [
        BpfInsn {
            code: 0xb7,
            regs: 0,
            off: 0,
            imm: value,
        },
        BpfInsn {
            code: 0x95,
            regs: 0,
            off: 0,
            imm: 0,
        },
    ]
}

#[test]
fn programs_are_attached_replaced_and_detached() {
    let base = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .find(|p| Path::new(p).join("cgroup.controllers").exists())
        .expect("cgroup v2 is mounted");
    let path = format!("{base}/havre-test-bpf-{}", std::process::id());
    std::fs::create_dir(&path).expect("a cgroup can be made");
    let dir = open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("dir");
    let deny = load_device_program(&answer(0)).expect("the verifier accepts it");
    attach_device(dir.as_fd(), deny.as_fd(), None).expect("it attaches");
    assert_eq!(device_programs(dir.as_fd()).expect("query").len(), 1);

    let allow = load_device_program(&answer(1)).expect("the verifier accepts it");
    let old = device_programs(dir.as_fd()).expect("query");
    attach_device(dir.as_fd(), allow.as_fd(), old.first().map(AsFd::as_fd)).expect("it replaces");
    assert_eq!(device_programs(dir.as_fd()).expect("query").len(), 1);
    detach_device(dir.as_fd(), allow.as_fd()).expect("it detaches");
    assert_eq!(device_programs(dir.as_fd()).expect("query").len(), 0);
    std::fs::remove_dir(&path).expect("the test's cgroup is empty");

    let error = load_device_program(&answer(1)[..1]).expect_err("no exit instruction");
    assert_eq!(error.raw_os_error(), Some(22));
}
