//! The default profile: which calls a container may make.
//!
//! The lists are Docker's, as of `profiles/seccomp` v0.2.3, so that what runs there runs here
//! (<https://github.com/moby/profiles/blob/main/seccomp/default_linux.go>): calls outside of them
//! fail with EPERM. AF_ALG and AF_VSOCK sockets are refused (CVE-2026-31431; on i386 only the
//! direct `socket` call can be told apart, `socketcall` takes its arguments from memory).

use oci_spec::runtime::{
    Arch, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
};

use crate::profile::{ArchMap, Conditions, KernelVersion, Profile, ProfileSyscall};

mod names;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Namespaces that `clone` must not make without CAP_SYS_ADMIN: mount, cgroup, UTS, IPC, user,
/// PID and network (linux/sched.h).
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// Execution domains that change nothing but what a program is told: none, 32-bit, the old
/// kernel version, both, and the question which one is set (`man 2 personality`).
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Calls that a capability of the bounding set opens.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_SYS_ADMIN", names::SYS_ADMIN),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    (
        "CAP_SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    (
        "CAP_SYS_TIME",
        "settimeofday stime clock_settime clock_settime64",
    ),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    (
        "CAP_SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Calls of some architectures only.
const BY_ARCHITECTURE: [(&[&str], &str); 3] = [
    (
        &["arm", "arm64"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (&["amd64", "x32"], "arch_prctl"),
    (&["amd64", "x32", "x86"], "modify_ldt"),
];

/// The default profile.
#[must_use]
pub fn default_profile() -> Profile {
    let mut rules = vec![allow(names::ALWAYS)];
    // Before 4.8 a tracer could change the number of a call after the filter had seen it.
    rules.push(ProfileSyscall {
        includes: Some(Conditions {
            min_kernel: Some(KernelVersion {
                kernel: 4,
                major: 8,
            }),
            ..Conditions::default()
        }),
        ..allow("process_vm_readv process_vm_writev ptrace")
    });
    use LinuxSeccompOperator::{ScmpCmpEq, ScmpCmpGt, ScmpCmpLt, ScmpCmpMaskedEq};
    // Every family but two: below, between and above them.
    rules.push(when("socket", arg(ScmpCmpLt, AF_ALG)));
    rules.push(when("socket", arg(ScmpCmpEq, AF_ALG + 1)));
    rules.push(when("socket", arg(ScmpCmpGt, AF_VSOCK)));
    rules.extend(PERSONALITIES.map(|p| when("personality", arg(ScmpCmpEq, p))));
    rules.extend(BY_ARCHITECTURE.map(|(arches, calls)| ProfileSyscall {
        includes: Some(Conditions {
            arches: Some(strings(arches)),
            ..Conditions::default()
        }),
        ..allow(calls)
    }));
    rules.extend(BY_CAPABILITY.map(|(cap, calls)| ProfileSyscall {
        includes: Some(caps(cap)),
        ..allow(calls)
    }));
    let unprivileged = Some(caps("CAP_SYS_ADMIN"));
    rules.push(ProfileSyscall {
        excludes: unprivileged.clone(),
        ..when("clone", arg(ScmpCmpMaskedEq, CLONE_NAMESPACES))
    });
    // Its flags are in memory, where a filter cannot look: programs have to fall back to clone.
    rules.push(ProfileSyscall {
        action: LinuxSeccompAction::ScmpActErrno,
        errno_ret: Some(ENOSYS),
        excludes: unprivileged,
        ..allow("clone3")
    });
    Profile {
        default_action: LinuxSeccompAction::ScmpActErrno,
        default_errno_ret: Some(EPERM),
        architectures: None,
        arch_map: Some(arch_map()),
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: Some(rules),
    }
}

fn arch_map() -> Vec<ArchMap> {
    let entry = |architecture, others: &[Arch]| ArchMap {
        architecture,
        sub_architectures: Some(others.to_vec()),
    };
    vec![
        entry(
            Arch::ScmpArchX86_64,
            &[Arch::ScmpArchX86, Arch::ScmpArchX32],
        ),
        entry(Arch::ScmpArchAarch64, &[Arch::ScmpArchArm]),
    ]
}

fn allow(calls: &str) -> ProfileSyscall {
    let names = calls.split_whitespace().map(str::to_owned).collect();
    ProfileSyscall {
        names: Some(names),
        action: LinuxSeccompAction::ScmpActAllow,
        ..ProfileSyscall::default()
    }
}

fn when(call: &str, arg: LinuxSeccompArg) -> ProfileSyscall {
    ProfileSyscall {
        args: Some(vec![arg]),
        ..allow(call)
    }
}

/// A condition on the first argument; masked ones compare with zero.
fn arg(op: LinuxSeccompOperator, value: u64) -> LinuxSeccompArg {
    // The builder fails only for fields without a default, and has none.
    LinuxSeccompArgBuilder::default()
        .index(0_usize)
        .op(op)
        .value(value)
        .build()
        .unwrap_or_default()
}

fn caps(cap: &str) -> Conditions {
    Conditions {
        caps: Some(strings(&[cap])),
        ..Conditions::default()
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}
