//! Policies against the kernel's rules, and the program against the policy.

use super::*;

/// Runs a program as the kernel does, for the few operations that are used.
fn run(program: &[BpfInsn], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let kind = match kind {
        Kind::Block => 1,
        Kind::Char => 2,
    };
    let context = [u32::from(access) << 16 | kind, major, minor];
    let mut registers = [0_u32; 11];
    let mut at = 0_usize;
    loop {
        let i = program[at];
        let (dst, src) = (usize::from(i.regs & 15), usize::from(i.regs >> 4));
        let operand = i.imm.cast_unsigned();
        let jump = match i.code {
            0x61 => {
                registers[dst] = context[usize::try_from(i.off).expect("offset") / 4];
                false
            }
            0xbc => {
                registers[dst] = registers[src];
                false
            }
            0x74 => {
                registers[dst] >>= operand;
                false
            }
            0x54 => {
                registers[dst] &= operand;
                false
            }
            0xb7 => {
                registers[dst] = operand;
                false
            }
            0x55 => registers[dst] != operand,
            0x15 => registers[dst] == operand,
            0x5d => registers[dst] != registers[src],
            0x95 => return registers[0] == 1,
            other => panic!("operation {other:#x} is not used"),
        };
        at += 1;
        if jump {
            at += usize::try_from(i.off).expect("jumps go forward");
        }
    }
}

fn rule(text: &str) -> LinuxDeviceCgroup {
    let words: Vec<&str> = text.split(' ').collect();
    let [verb, kind, numbers, access] = words[..] else {
        panic!("four words: {text}")
    };
    let (major, minor) = numbers.split_once(':').expect("two numbers");
    let mut out = LinuxDeviceCgroupBuilder::default()
        .allow(verb == "allow")
        .access(access);
    out = out.typ(match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        _ => LinuxDeviceType::C,
    });
    if major != "*" {
        out = out.major(major.parse::<i64>().expect("a number"));
    }
    if minor != "*" {
        out = out.minor(minor.parse::<i64>().expect("a number"));
    }
    out.build().expect("complete")
}

fn policy(rules: &[&str]) -> Policy {
    let rules: Vec<_> = rules.iter().map(|r| rule(r)).collect();
    Policy::from_oci(&rules).expect("valid rules")
}

/// Every access to some devices, decided by the policy and by the program.
fn check_program(policy: &Policy) {
    let program = policy.program();
    for kind in [Kind::Block, Kind::Char] {
        for major in [0, 1, 5, 8, 10, 136] {
            for minor in [0, 3, 5, 229] {
                for access in 1..=7 {
                    let want = policy.allows(kind, major, minor, access);
                    let got = run(&program, kind, major, minor, access);
                    assert_eq!(got, want, "{kind:?} {major}:{minor} {access} by {policy:?}");
                }
            }
        }
    }
}

#[test]
fn the_default_rules_allow_the_default_devices_only() {
    let mut rules = vec![rule("deny a *:* rwm"), rule("deny c 10:229 rwm")];
    rules.extend(runtime_defaults());
    let policy = Policy::from_oci(&rules).expect("valid");
    assert!(policy.allows(Kind::Char, 1, 3, EVERY), "null");
    assert!(
        policy.allows(Kind::Char, 136, 17, READ | WRITE),
        "a pseudo-terminal"
    );
    assert!(
        policy.allows(Kind::Block, 8, 0, MKNOD),
        "a node may be made"
    );
    assert!(!policy.allows(Kind::Block, 8, 0, READ), "but not read: sda");
    assert!(!policy.allows(Kind::Char, 1, 1, READ), "mem");
    assert!(!policy.allows(Kind::Char, 10, 229, READ), "fuse");
    check_program(&policy);
}

#[test]
fn rules_add_up_and_take_back() {
    let policy = policy(&[
        "allow c 1:3 r",
        "allow c 1:3 w",
        "allow b 8:* rwm",
        "allow c 10:229 rwm",
        "deny c 10:229 w",
    ]);
    assert!(
        policy.allows(Kind::Char, 1, 3, READ | WRITE),
        "both at once"
    );
    assert!(!policy.allows(Kind::Char, 1, 3, MKNOD));
    assert!(policy.allows(Kind::Block, 8, 229, EVERY));
    assert!(policy.allows(Kind::Char, 10, 229, READ));
    assert!(!policy.allows(Kind::Char, 10, 229, READ | WRITE));
    check_program(&policy);
    let lines = ["c 1:3 rw", "b 8:* rwm", "c 10:229 rm"]
        .map(str::to_owned)
        .to_vec();
    let expected = (("devices.deny", "a".to_owned()), ("devices.allow", lines));
    assert_eq!(policy.v1_writes(), expected);
}

#[test]
fn a_privileged_policy_can_have_exceptions() {
    let policy = policy(&[
        "allow c 1:3 rwm",
        "allow a *:* rwm",
        "deny c 5:* w",
        "deny b 8:0 rwm",
    ]);
    assert!(policy.allows(Kind::Char, 5, 0, READ));
    assert!(
        !policy.allows(Kind::Char, 5, 0, READ | WRITE),
        "any refused bit refuses"
    );
    assert!(!policy.allows(Kind::Block, 8, 0, MKNOD));
    assert!(policy.allows(Kind::Block, 8, 3, EVERY));
    check_program(&policy);
    assert_eq!(policy.v1_writes().0, ("devices.allow", "a".to_owned()));
}

#[test]
fn a_wide_denial_takes_narrow_permissions_back() {
    let policy = policy(&["allow c 5:0 rw", "allow c 5:3 rw", "deny c 5:* w"]);
    assert!(policy.allows(Kind::Char, 5, 3, READ));
    assert!(!policy.allows(Kind::Char, 5, 3, WRITE));
    check_program(&policy);
}

#[test]
fn a_hole_in_a_permission_is_refused_not_ignored() {
    let rules = [rule("allow c 10:* rwm"), rule("deny c 10:229 rwm")];
    let error = Policy::from_oci(&rules).expect_err("it cannot be expressed");
    assert_eq!(
        error.to_string(),
        "invalid value `deny c 10:229 rwm` for devices"
    );
}

#[test]
fn nonsense_is_refused() {
    for text in ["allow c 1:3 rx", "allow c 1048576:0 r", "allow c 1:-2 r"] {
        Policy::from_oci(&[rule(text)]).expect_err(text);
    }
}
