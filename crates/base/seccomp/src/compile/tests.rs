//! The compiler against a direct reading of the rules, by an interpreter of its programs.

use oci_spec::runtime::{
    Arch, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSyscall,
    LinuxSyscallBuilder,
};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::asm::{AND, JA, LD, RET};
use crate::profile::KernelVersion;
use crate::{Profile, default_profile};

const ALLOW: Answer = 0x7fff_0000;
const EPERM: Answer = ERRNO | 1;
const NOSYS: Answer = ERRNO | ENOSYS;
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

/// Runs a program as the kernel does (kernel/seccomp.c, net/core/filter.c).
fn run(program: &[SockFilter], arch: u32, nr: u32, args: [u64; 6]) -> Answer {
    let mut data = vec![nr, arch, 0, 0];
    for arg in args {
        let (low, high) = halves(arg);
        data.extend([low, high]);
    }
    let (mut a, mut at) = (0, 0);
    loop {
        let i = program[at];
        at += 1;
        let test = match i.code {
            LD => {
                a = data[usize::try_from(i.k).expect("offset") / 4];
                continue;
            }
            AND => {
                a &= i.k;
                continue;
            }
            JA => {
                at += usize::try_from(i.k).expect("distance");
                continue;
            }
            RET => return i.k,
            JEQ => a == i.k,
            JGT => a > i.k,
            JGE => a >= i.k,
            other => panic!("operation {other:#x} is not used"),
        };
        at += usize::from(if test { i.jt } else { i.jf });
    }
}

fn oci(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).expect("a valid profile")
}

fn compiled(json: &str) -> Vec<SockFilter> {
    compile(&oci(json)).expect("it compiles")
}

fn default_filter(caps: &[&str]) -> Vec<SockFilter> {
    let kernel = KernelVersion {
        kernel: 6,
        major: 18,
    };
    let resolved = default_profile().resolve(caps, Arch::ScmpArchX86_64, kernel);
    compile(&resolved.expect("it resolves")).expect("it compiles")
}

#[test]
fn the_default_profile_answers_as_docker_documents() {
    let filter = default_filter(&["CAP_CHOWN", "CAP_SYS_CHROOT"]);
    let ask = |nr, arg| run(&filter, X86_64, nr, [arg, 0, 0, 0, 0, 0]);
    assert_eq!(ask(0, 0), ALLOW, "read");
    assert_eq!(ask(59, 0), ALLOW, "execve");
    assert_eq!(ask(161, 0), ALLOW, "chroot, by its capability");
    assert_eq!(ask(165, 0), EPERM, "mount");
    assert_eq!(ask(272, 0), EPERM, "unshare");
    assert_eq!(ask(425, 0), EPERM, "io_uring_setup");
    assert_eq!(ask(435, 0), NOSYS, "clone3");
    assert_eq!(ask(250, 0), EPERM, "keyctl");
    assert_eq!(ask(321, 0), EPERM, "bpf");
    assert_eq!(ask(56, 17), ALLOW, "clone as fork does");
    assert_eq!(ask(56, 0x1000_0000), EPERM, "clone with a user namespace");
    assert_eq!(ask(101, 0), ALLOW, "ptrace on a new kernel");
    for family in 0..64 {
        let want = if family == 38 || family == 40 {
            EPERM
        } else {
            ALLOW
        };
        assert_eq!(ask(41, family), want, "socket of family {family}");
    }
    assert_eq!(ask(135, 0xffff_ffff), ALLOW, "personality");
    assert_eq!(
        ask(135, 0x004_0000),
        EPERM,
        "personality without address randomisation"
    );
    for unknown in [337, 400, 470, 600, 0x3fff_ffff, 0x4000_0000 + 600, u32::MAX] {
        assert_eq!(ask(unknown, 0), NOSYS, "{unknown:#x}");
    }
}

#[test]
fn the_other_interfaces_get_the_same_profile() {
    let filter = default_filter(&[]);
    let ask = |arch, nr, arg| run(&filter, arch, nr, [arg, 0, 0, 0, 0, 0]);
    assert_eq!(ask(I386, 3, 0), ALLOW, "read");
    assert_eq!(ask(I386, 21, 0), EPERM, "mount");
    assert_eq!(
        ask(I386, 120, 0x0002_0000),
        EPERM,
        "clone with a mount namespace"
    );
    assert_eq!(ask(I386, 120, 0), ALLOW, "clone");
    assert_eq!(ask(I386, 359, 38), EPERM, "socket AF_ALG");
    assert_eq!(ask(I386, 435, 0), NOSYS, "clone3");
    assert_eq!(ask(I386, 600, 0), NOSYS, "unknown");
    assert_eq!(ask(X86_64, X32_BIT, 0), ALLOW, "read");
    assert_eq!(ask(X86_64, X32_BIT + 165, 0), EPERM, "mount");
    assert_eq!(ask(X86_64, X32_BIT + 41, 40), EPERM, "socket AF_VSOCK");
    assert_eq!(ask(X86_64, X32_BIT + 520, 0), ALLOW, "execve");
    assert_eq!(ask(X86_64, 520, 0), NOSYS, "that number without the bit");
    assert_eq!(ask(0xc000_00b7, 0, 0), KILL_PROCESS, "a foreign machine");
}

#[test]
fn capabilities_open_what_they_stand_for() {
    let filter = default_filter(&["CAP_SYS_ADMIN", "CAP_SYS_TIME", "CAP_BPF"]);
    let ask = |nr, arg| run(&filter, X86_64, nr, [arg, 0, 0, 0, 0, 0]);
    for nr in [165, 272, 435, 164, 227, 321, 442] {
        assert_eq!(ask(nr, 0), ALLOW, "{nr}");
    }
    assert_eq!(ask(56, 0x7e02_0000), ALLOW, "clone with every namespace");
    assert_eq!(ask(175, 0), EPERM, "init_module");
    assert_eq!(ask(246, 0), EPERM, "kexec_load");
}

#[test]
fn the_filter_is_short_and_searches_are_shallow() {
    let filter = default_filter(&[]);
    assert!(filter.len() < 500, "{} instructions", filter.len());
    let steps = |nr| {
        let mut at = 0;
        let mut count = 0;
        let mut a = 0;
        loop {
            let i = filter[at];
            (at, count) = (at + 1, count + 1);
            let test = match i.code {
                RET => return count,
                LD => {
                    a = if i.k == NR { nr } else { X86_64 };
                    continue;
                }
                JA => {
                    at += usize::try_from(i.k).expect("distance");
                    continue;
                }
                JEQ => a == i.k,
                _ => a >= i.k,
            };
            at += usize::from(if test { i.jt } else { i.jf });
        }
    };
    let longest = (0..470)
        .filter(|nr| ![41, 56, 135].contains(nr))
        .map(steps)
        .max();
    assert!(longest.is_some_and(|n| n <= 20), "{longest:?}");
}

#[test]
fn compilation_does_not_grow_with_the_square_of_the_rules() {
    // An optimised build takes about 0.05 ms for the default profile. This bound is for a debug
    // build on a busy machine; a compiler that compares each rule with each would pass it by far.
    let before = std::time::Instant::now();
    let filters: Vec<_> = (0..20).map(|_| default_filter(&[])).collect();
    let each = before.elapsed() / 20;
    assert_eq!(filters.len(), 20);
    assert!(each < std::time::Duration::from_millis(50), "{each:?}");
}

#[test]
fn dockers_json_reads_and_writes_back() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
        "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
        "syscalls":[
        {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[],"comment":"","includes":{},"excludes":{}},
        {"name":"write","action":"SCMP_ACT_ALLOW","args":null},
        {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
        {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
        {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"excludes":{"caps":["CAP_SYS_ADMIN"]}},
        {"names":["s390_runtime_instr"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}}]}"#;
    let profile: Profile = serde_json::from_str(json).expect("it reads");
    let old = KernelVersion {
        kernel: 4,
        major: 7,
    };
    let names = |caps: &[&str], kernel| -> Vec<String> {
        let resolved = profile
            .resolve(caps, Arch::ScmpArchX86_64, kernel)
            .expect("it resolves");
        let syscalls = resolved.syscalls().clone().expect("rules");
        syscalls.iter().flat_map(|s| s.names().clone()).collect()
    };
    assert_eq!(names(&[], old), ["read", "write", "clone3"]);
    let new = KernelVersion::of_release("6.18.44-amd64").expect("a version");
    assert_eq!(
        names(&["CAP_SYS_ADMIN"], new),
        ["read", "write", "ptrace", "mount"]
    );
    let again: Profile = serde_json::from_value(serde_json::to_value(&profile).expect("JSON"))
        .expect("it reads again");
    assert_eq!(again, profile);
}

#[test]
fn contradictions_in_a_profile_are_errors() {
    let kernel = KernelVersion {
        kernel: 6,
        major: 1,
    };
    let resolve = |json: &str| {
        let profile: Profile = serde_json::from_str(json).expect("it reads");
        profile
            .resolve(&[], Arch::ScmpArchX86_64, kernel)
            .expect_err("a contradiction")
    };
    let both = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
        "archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#;
    assert_eq!(resolve(both), SeccompError::ArchitecturesAndArchMap);
    let both = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"read","names":["write"],
        "action":"SCMP_ACT_ERRNO"}]}"#;
    assert_eq!(resolve(both), SeccompError::NameAndNames);
    let version = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],
        "action":"SCMP_ACT_ERRNO","includes":{"minKernel":"4"}}]}"#;
    let error = serde_json::from_str::<Profile>(version).expect_err("not a version");
    assert!(
        error.to_string().contains("expected \"<kernel>.<major>\""),
        "{error}"
    );
}

#[test]
fn rules_that_the_kernel_cannot_follow_are_errors() {
    let rule = |text: &str| {
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{text}]}}"#);
        compile(&oci(&json)).expect_err("it must be refused")
    };
    let error = rule(
        r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#,
    );
    assert_eq!(
        error,
        SeccompError::ArgumentIndex {
            syscall: "read".to_owned(),
            index: 6
        }
    );
    let error = rule(r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":4096}"#);
    assert_eq!(error, SeccompError::Errno { errno: 4096 });
    let many: Vec<String> = (0..2000)
        .map(|n| {
            format!(
                r#"{{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{{"index":0,"value":{n},"op":"SCMP_CMP_EQ"}}]}}"#
            )
        })
        .collect();
    assert!(matches!(
        rule(&many.join(",")),
        SeccompError::TooLong { .. }
    ));
}

#[test]
fn every_action_has_its_code() {
    let codes = [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
        ("SCMP_ACT_TRAP", 0x0003_0000),
        ("SCMP_ACT_ERRNO", ERRNO | 7),
        ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
        ("SCMP_ACT_TRACE", 0x7ff0_0007),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_ALLOW", ALLOW),
    ];
    for (action, code) in codes {
        let filter = compiled(&format!(
            r#"{{"defaultAction":"SCMP_ACT_TRAP","architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{{"names":["read"],"action":"{action}","errnoRet":7}}]}}"#
        ));
        assert_eq!(run(&filter, X86_64, 0, [0; 6]), code, "{action}");
    }
}

#[test]
fn an_allowing_default_lets_unknown_calls_pass_but_no_other_interface() {
    let filter =
        compiled(r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"]}"#);
    assert_eq!(run(&filter, X86_64, 600, [0; 6]), ALLOW);
    assert_eq!(
        run(&filter, X86_64, X32_BIT, [0; 6]),
        NOSYS,
        "x32 was not listed"
    );
    assert_eq!(
        run(&filter, I386, 3, [0; 6]),
        KILL_PROCESS,
        "i386 was not listed"
    );
}

#[test]
fn negative_numbers_match_where_arguments_have_32_bits() {
    let filter = compiled(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
        "syscalls":[{"names":["close"],"action":"SCMP_ACT_ERRNO",
        "args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]}]}"#,
    );
    assert_eq!(run(&filter, X86_64, 3, [u64::MAX, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(run(&filter, X86_64, 3, [0xffff_ffff, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(run(&filter, I386, 6, [0xffff_ffff, 0, 0, 0, 0, 0]), EPERM);
}

// === against a direct reading ===

/// What the rules say of a call, read as a person would.
fn direct(seccomp: &LinuxSeccomp, name: Option<&str>, args: [u64; 6]) -> Answer {
    let default = answer(seccomp.default_action(), seccomp.default_errno_ret()).expect("valid");
    let Some(name) = name else {
        return unknown_answer(seccomp.default_action(), default);
    };
    let all = seccomp.syscalls().iter().flatten();
    let rules: Vec<_> = all
        .filter(|s| s.names().iter().any(|n| n == name))
        .collect();
    let args_of = |rule: &LinuxSyscall| rule.args().clone().unwrap_or_default();
    let code = |rule: &LinuxSyscall| answer(rule.action(), rule.errno_ret()).expect("valid");
    if let Some(always) = rules.iter().find(|rule| args_of(rule).is_empty()) {
        return code(always);
    }
    for rule in rules {
        let conditions = args_of(rule);
        let repeated = (0..6).any(|i| conditions.iter().filter(|c| c.index() == i).count() > 1);
        let mut met = conditions.iter().map(|c| holds(c, args[c.index()]));
        if if repeated {
            met.any(|m| m)
        } else {
            met.all(|m| m)
        } {
            return code(rule);
        }
    }
    default
}

fn holds(condition: &LinuxSeccompArg, value: u64) -> bool {
    let want = condition.value();
    match condition.op() {
        LinuxSeccompOperator::ScmpCmpNe => value != want,
        LinuxSeccompOperator::ScmpCmpLt => value < want,
        LinuxSeccompOperator::ScmpCmpLe => value <= want,
        LinuxSeccompOperator::ScmpCmpEq => value == want,
        LinuxSeccompOperator::ScmpCmpGe => value >= want,
        LinuxSeccompOperator::ScmpCmpGt => value > want,
        LinuxSeccompOperator::ScmpCmpMaskedEq => value & want == condition.value_two().unwrap_or(0),
    }
}

/// Numbers near the places where comparisons of halves go wrong.
fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4_u64,
        Just(0xffff_ffff),
        Just(0x1_0000_0000),
        Just(0x1_0000_0001),
        Just(0x2_0000_0000),
        Just(0xffff_ffff_0000_0000),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

fn conditions() -> impl Strategy<Value = LinuxSeccompArg> {
    use LinuxSeccompOperator::{
        ScmpCmpEq, ScmpCmpGe, ScmpCmpGt, ScmpCmpLe, ScmpCmpLt, ScmpCmpMaskedEq, ScmpCmpNe,
    };
    let op = prop_oneof![
        Just(ScmpCmpNe),
        Just(ScmpCmpLt),
        Just(ScmpCmpLe),
        Just(ScmpCmpEq),
        Just(ScmpCmpGe),
        Just(ScmpCmpGt),
        Just(ScmpCmpMaskedEq),
    ];
    (0..6_usize, op, numbers(), numbers()).prop_map(|(index, op, value, two)| {
        // Half of the masked comparisons are ones that can be met.
        let two = if two & 1 == 0 { two & value } else { two };
        LinuxSeccompArgBuilder::default()
            .index(index)
            .op(op)
            .value(value)
            .value_two(two)
            .build()
            .expect("complete")
    })
}

fn actions() -> impl Strategy<Value = LinuxSeccompAction> {
    use LinuxSeccompAction::{
        ScmpActAllow, ScmpActErrno, ScmpActKillProcess, ScmpActLog, ScmpActNotify, ScmpActTrace,
        ScmpActTrap,
    };
    prop_oneof![
        Just(ScmpActAllow),
        Just(ScmpActErrno),
        Just(ScmpActKillProcess),
        Just(ScmpActLog),
        Just(ScmpActNotify),
        Just(ScmpActTrace),
        Just(ScmpActTrap),
    ]
}

const NAMES: [&str; 12] = [
    "read",
    "write",
    "open",
    "close",
    "socket",
    "clone",
    "mount",
    "ptrace",
    "no_such_call",
    "bpf",
    "mseal",
    "personality",
];

fn rules() -> impl Strategy<Value = LinuxSyscall> {
    let names = vec(0..NAMES.len(), 1..4);
    (names, actions(), 0..4096_u32, vec(conditions(), 0..5)).prop_map(
        |(names, action, errno, args)| {
            LinuxSyscallBuilder::default()
                .names(
                    names
                        .into_iter()
                        .map(|n| NAMES[n].to_owned())
                        .collect::<Vec<_>>(),
                )
                .action(action)
                .errno_ret(errno)
                .args(args)
                .build()
                .expect("complete")
        },
    )
}

/// The calls that rules are made of, some that they never name, and numbers of no call.
fn calls() -> Vec<(u32, Option<&'static str>)> {
    let named = NAMES.into_iter().chain(["stat", "uname", "statmount"]);
    let known = named.filter_map(|name| {
        let number = table::number(name, table::Column::X86_64)?;
        Some((u32::from(number), Some(name)))
    });
    known
        .chain([337, 423, 600, 1000, 0x3fff_ffff].map(|number| (number, None)))
        .collect()
}

proptest! {
    #[test]
    fn a_filter_says_what_its_rules_say(
        default in actions(),
        rules in vec(rules(), 0..25),
        args in vec(numbers(), 6),
    ) {
        let seccomp = LinuxSeccompBuilder::default()
            .default_action(default)
            .architectures(vec![Arch::ScmpArchX86_64])
            .syscalls(rules)
            .build()
            .expect("complete");
        let filter = compile(&seccomp).expect("it compiles");
        let args: [u64; 6] = args.try_into().expect("six");
        for (number, name) in calls() {
            prop_assert_eq!(
                run(&filter, X86_64, number, args),
                direct(&seccomp, name, args),
                "call {} with {:?}", number, args
            );
        }
    }
}
