//! The default profile on the real kernel: every number of every interface, and a shell that
//! lives under it.
#![expect(
    unsafe_code,
    reason = "system calls by bare number, through each of the entry points"
)]

use std::io::{Read as _, Write as _, pipe};
use std::os::fd::AsFd as _;

use havre_seccomp::{KernelVersion, SockFilter as Compiled, compile, default_profile};
use havre_sys::process::{CloneArgs, CloneFlags, Exit, clone3, exec};
use havre_sys::seccomp::{SeccompFlags, SockFilter, load};
use havre_sys::testing::in_child;
use oci_spec::runtime::{Arch, LinuxSeccomp};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::thread::set_no_new_privs;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
/// What the prober gets for a call that would have been allowed: no kernel error has it.
const PROBED: u32 = 4000;
const X32_BIT: u32 = 0x4000_0000;
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

fn default_program() -> Vec<Compiled> {
    let kernel = KernelVersion {
        kernel: 6,
        major: 1,
    };
    let resolved = default_profile().resolve(&[], Arch::ScmpArchX86_64, kernel);
    compile(&resolved.expect("it resolves")).expect("it compiles")
}

fn loadable(program: &[Compiled]) -> Vec<SockFilter> {
    program
        .iter()
        .map(|i| SockFilter {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        })
        .collect()
}

/// The program's answer for a call whose arguments are all zero.
fn interpret(program: &[Compiled], arch: u32, nr: u32) -> u32 {
    let (mut a, mut at) = (0, 0);
    loop {
        let i = program[at];
        at += 1;
        let test = match i.code {
            0x20 => {
                a = [nr, arch]
                    .get(usize::try_from(i.k).expect("offset") / 4)
                    .copied()
                    .unwrap_or(0);
                continue;
            }
            0x54 => {
                a &= i.k;
                continue;
            }
            0x05 => {
                at += usize::try_from(i.k).expect("distance");
                continue;
            }
            0x06 => return i.k,
            0x15 => a == i.k,
            0x25 => a > i.k,
            _ => a >= i.k,
        };
        at += usize::from(if test { i.jt } else { i.jf });
    }
}

/// The error number of a 64-bit or x32 call.
fn call(nr: u32) -> u32 {
    // SAFETY: the filter in force answers every number except write and exit_group with an error
    // before the kernel looks at the arguments, and those two are not asked for.
    let ret = unsafe { libc::syscall(libc::c_long::from(nr), 0, 0, 0, 0, 0, 0) };
    assert_eq!(ret, -1, "{nr:#x} was executed");
    let error = std::io::Error::last_os_error().raw_os_error();
    error.map_or(0, i32::unsigned_abs)
}

/// The error number of an i386 call.
fn call_i386(nr: u32) -> u32 {
    let ret: i32;
    // SAFETY: as for `call`; the 32-bit entry changes no register but eax, and r8 to r11, which
    // are given up. rbx cannot be named as an operand, so it is saved by hand.
    unsafe {
        std::arch::asm!(
            "mov {saved}, rbx",
            "xor ebx, ebx",
            "int 0x80",
            "mov rbx, {saved}",
            saved = out(reg) _,
            inlateout("eax") nr => ret,
            in("ecx") 0, in("edx") 0, in("esi") 0, in("edi") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    ret.unsigned_abs()
}

#[test]
fn every_number_of_every_interface_is_answered_as_compiled() {
    let program = default_program();
    // The same program, but what would be allowed gives an error, so that nothing is executed;
    // before it, two calls of the prober itself are let through.
    let mut probing = vec![
        SockFilter {
            code: 0x20,
            jt: 0,
            jf: 0,
            k: 4,
        },
        SockFilter {
            code: 0x15,
            jt: 0,
            jf: 4,
            k: X86_64,
        },
        SockFilter {
            code: 0x20,
            jt: 0,
            jf: 0,
            k: 0,
        },
        SockFilter {
            code: 0x15,
            jt: 1,
            jf: 0,
            k: 231,
        },
        SockFilter {
            code: 0x15,
            jt: 0,
            jf: 1,
            k: 1,
        },
        SockFilter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: ALLOW,
        },
    ];
    probing.extend(loadable(&program).into_iter().map(|mut i| {
        if i.code == 0x06 && i.k == ALLOW {
            i.k = ERRNO | PROBED;
        }
        i
    }));
    let mut wrong = Vec::with_capacity(4096);
    in_child(|| {
        set_no_new_privs(true).expect("no_new_privs");
        load(&probing, SeccompFlags::NONE).expect("the kernel accepts the filter");
        for nr in 0..=600_u32 {
            let expected = |arch, nr| match interpret(&program, arch, nr) {
                ALLOW => PROBED,
                answer => answer & 0xffff,
            };
            let mut compare = |abi, got, want| {
                if got != want {
                    wrong.push((abi, nr, got, want));
                }
            };
            // write and exit_group are the prober's own; uretprobe and uprobe pass by every filter
            // (kernel/seccomp.c, since 6.13) and end whoever calls them by hand.
            if ![1, 231, 335, 336].contains(&nr) {
                compare("x86_64", call(nr), expected(X86_64, nr));
            }
            compare("x32", call(nr | X32_BIT), expected(X86_64, nr | X32_BIT));
            compare("i386", call_i386(nr), expected(I386, nr));
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    });
}

#[test]
fn a_shell_lives_under_the_default_profile() {
    let filter = loadable(&default_program());
    in_child(|| {
        let (mut reader, writer) = pipe().expect("a pipe");
        let child = clone3(&CloneArgs::new(CloneFlags::NONE), || {
            rustix::stdio::dup2_stdout(&writer).expect("stdout");
            set_no_new_privs(true).expect("no_new_privs");
            load(&filter, SeccompFlags::NONE).expect("the kernel accepts the filter");
            let script = c"ls / | grep -c etc; unshare -U true 2>/dev/null || echo refused";
            let argv = [c"sh".into(), c"-c".into(), script.into()];
            drop(exec(c"/bin/sh", &argv, &[c"PATH=/usr/bin:/bin".into()]));
            126
        })
        .expect("clone3");
        drop(writer);
        let mut out = String::new();
        reader.read_to_string(&mut out).expect("output");
        assert_eq!(out, "1\nrefused\n");
        assert_eq!(child.wait().expect("it ends"), Exit::Code(0));
    });
}

#[test]
fn refused_calls_give_the_profiles_errors() {
    let filter = loadable(&default_program());
    in_child(|| {
        set_no_new_privs(true).expect("no_new_privs");
        load(&filter, SeccompFlags::LOG).expect("the kernel accepts the filter");
        let errno =
            |result: std::io::Result<()>| result.err().and_then(|e| e.raw_os_error()).unwrap_or(0);
        let unshare = havre_sys::namespace::unshare(rustix::thread::UnshareFlags::NEWUTS);
        assert_eq!(errno(unshare), libc::EPERM);
        let clone = clone3(&CloneArgs::new(CloneFlags::NONE), || 0).map(drop);
        assert_eq!(
            errno(clone),
            libc::EPERM,
            "the check for threads is by unshare"
        );
        for (family, want) in [
            (38, libc::EPERM),
            (40, libc::EPERM),
            (1, 0),
            (2, 0),
            (16, 0),
        ] {
            // SAFETY: the call takes numbers only; a descriptor is closed when the child ends.
            let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
            let got = if fd < 0 {
                errno(Err(std::io::Error::last_os_error()))
            } else {
                0
            };
            assert_eq!(got, want, "socket of family {family}");
        }
        // SAFETY: the filter refuses the call before its arguments are looked at.
        let ret = unsafe { libc::syscall(libc::SYS_clone3, 0, 0) };
        assert_eq!(ret, -1);
        assert_eq!(
            std::io::Error::last_os_error().raw_os_error(),
            Some(libc::ENOSYS)
        );
    });
}

#[test]
fn a_notifying_filter_gives_its_listener() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
        "syscalls":[{"names":["mseal"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    let seccomp: LinuxSeccomp = serde_json::from_str(json).expect("valid");
    let filter = loadable(&compile(&seccomp).expect("it compiles"));
    in_child(|| {
        set_no_new_privs(true).expect("no_new_privs");
        let listener = load(&filter, SeccompFlags::NEW_LISTENER).expect("it loads");
        let listener = listener.expect("a listener was asked for");
        assert!(
            fcntl_getfd(listener.as_fd())
                .expect("flags")
                .contains(FdFlags::CLOEXEC)
        );
    });
    std::io::stdout().flush().expect("stdout");
}

#[test]
fn a_broken_filter_is_refused() {
    in_child(|| {
        set_no_new_privs(true).expect("no_new_privs");
        let error = load(&[], SeccompFlags::NONE).expect_err("no instruction");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        let endless = [SockFilter {
            code: 0x20,
            jt: 0,
            jf: 0,
            k: 0,
        }];
        let error = load(&endless, SeccompFlags::NONE).expect_err("no answer");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    });
}
