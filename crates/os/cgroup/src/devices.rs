//! Which devices a container may use: one policy, written as lines for version 1 and as a BPF
//! program for version 2.
//!
//! A policy is what the kernel's device controller keeps (security/device_cgroup.c): a default
//! and the exceptions from it. Rules of a specification are applied to it in their order, so
//! both versions of the kernel interface get the same answer.

use havre_sys::bpf::BpfInsn;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};

use crate::error::CgroupError;

/// The kind of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block,
    Char,
}

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const EVERY: u8 = MKNOD | READ | WRITE;

/// An exception from the default: a device, or many, and what is (or is not) allowed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    kind: Kind,
    /// None for all.
    major: Option<u32>,
    /// None for all.
    minor: Option<u32>,
    access: u8,
}

/// A default and the exceptions from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    allow_by_default: bool,
    exceptions: Vec<Rule>,
}

impl Policy {
    /// Applies the rules, in their order, to a policy that denies everything.
    pub fn from_oci(rules: &[LinuxDeviceCgroup]) -> Result<Self, CgroupError> {
        let mut policy = Self {
            allow_by_default: false,
            exceptions: Vec::new(),
        };
        for rule in rules {
            policy.apply(rule)?;
        }
        Ok(policy)
    }

    fn apply(&mut self, rule: &LinuxDeviceCgroup) -> Result<(), CgroupError> {
        let access = access_of(rule)?;
        let (major, minor) = (number(rule, rule.major())?, number(rule, rule.minor())?);
        let kinds: &[Kind] = match rule.typ() {
            Some(LinuxDeviceType::B) => &[Kind::Block],
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => &[Kind::Char],
            None | Some(LinuxDeviceType::A) => &[Kind::Block, Kind::Char],
            Some(LinuxDeviceType::P) => return Err(invalid(rule)),
        };
        if kinds.len() == 2 && major.is_none() && minor.is_none() && access == EVERY {
            self.allow_by_default = rule.allow();
            self.exceptions.clear();
            return Ok(());
        }
        for kind in kinds {
            let change = Rule {
                kind: *kind,
                major,
                minor,
                access,
            };
            if rule.allow() == self.allow_by_default {
                self.take_back(change).ok_or_else(|| invalid(rule))?;
            } else {
                self.except(change);
            }
        }
        Ok(())
    }

    fn except(&mut self, change: Rule) {
        match self.exceptions.iter_mut().find(|e| e.same_devices(&change)) {
            Some(known) => known.access |= change.access,
            None => self.exceptions.push(change),
        }
    }

    /// Takes an exception back. None if it is part of a wider one, where a hole would be
    /// needed, which the kernel of version 1 cannot express either.
    fn take_back(&mut self, change: Rule) -> Option<()> {
        let hole = |e: &Rule| {
            !e.same_devices(&change) && e.covers(&change) && e.access & change.access != 0
        };
        if self.exceptions.iter().any(hole) {
            return None;
        }
        // A wider change takes back the narrower exceptions too.
        for known in self.exceptions.iter_mut().filter(|e| change.covers(e)) {
            known.access &= !change.access;
        }
        self.exceptions.retain(|e| e.access != 0);
        Some(())
    }

    /// The answer of the kernel for one access (used by tests, and to explain a refusal).
    #[cfg(test)]
    fn allows(&self, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let wanted = Rule {
            kind,
            major: Some(major),
            minor: Some(minor),
            access,
        };
        let excepted = self.exceptions.iter().any(|e| {
            let granted = if self.allow_by_default {
                e.access & access != 0
            } else {
                e.access & access == access
            };
            e.covers(&wanted) && granted
        });
        excepted != self.allow_by_default
    }

    /// The writes of version 1: the file and line that set the default, then the file and lines
    /// of the exceptions.
    #[must_use]
    pub fn v1_writes(&self) -> ((&'static str, String), (&'static str, Vec<String>)) {
        let (default, exception) = if self.allow_by_default {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        };
        let lines = self.exceptions.iter().map(Rule::line).collect();
        ((default, "a".to_owned()), (exception, lines))
    }

    /// The program of version 2.
    #[must_use]
    pub fn program(&self) -> Vec<BpfInsn> {
        let mut out = vec![
            // r2 = access and type, r4 = major, r5 = minor (struct bpf_cgroup_dev_ctx).
            insn(0x61, 2, 1, 0, 0),
            insn(0x61, 4, 1, 4, 0),
            insn(0x61, 5, 1, 8, 0),
            // r3 = access, the upper half; r2 = type, the lower.
            insn(0xbc, 3, 2, 0, 0),
            insn(0x74, 3, 0, 0, 16),
            insn(0x54, 2, 0, 0, 0xffff),
        ];
        for rule in &self.exceptions {
            out.extend(rule.check(self.allow_by_default));
        }
        out.extend(answer(self.allow_by_default));
        out
    }
}

impl Rule {
    fn same_devices(&self, other: &Self) -> bool {
        self.kind == other.kind && self.major == other.major && self.minor == other.minor
    }

    /// True if every device of `other` is one of `self`.
    fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    /// The line that devices.allow and devices.deny take.
    fn line(&self) -> String {
        let kind = match self.kind {
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .into_iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .map(|(_, letter)| letter)
            .collect();
        format!(
            "{kind} {}:{} {access}",
            number(self.major),
            number(self.minor)
        )
    }

    /// Instructions that answer if the exception matches, and else fall through.
    fn check(&self, allow_by_default: bool) -> Vec<BpfInsn> {
        let kind = match self.kind {
            Kind::Block => 1,
            Kind::Char => 2,
        };
        // Conditions first, each "skip the rest unless"; offsets are filled in at the end.
        let mut out = vec![insn(0x55, 2, 0, 0, kind)];
        if self.access != EVERY {
            // r1 = wanted & excepted. A default-deny policy needs all that is wanted excepted, a
            // default-allow one refuses if any is.
            out.push(insn(0xbc, 1, 3, 0, 0));
            out.push(insn(0x54, 1, 0, 0, self.access.into()));
            let skip = if allow_by_default {
                insn(0x15, 1, 0, 0, 0)
            } else {
                insn(0x5d, 1, 3, 0, 0)
            };
            out.push(skip);
        }
        for (register, number) in [(4, self.major), (5, self.minor)] {
            if let Some(number) = number {
                out.push(insn(0x55, register, 0, 0, number.cast_signed()));
            }
        }
        out.extend(answer(!allow_by_default));
        let end = out.len();
        for (index, i) in out.iter_mut().enumerate() {
            if matches!(i.code, 0x55 | 0x15 | 0x5d) {
                i.off = i16::try_from(end - index - 1).unwrap_or(i16::MAX);
            }
        }
        out
    }
}

/// `r0 = allow; exit`.
fn answer(allow: bool) -> [BpfInsn; 2] {
    [insn(0xb7, 0, 0, 0, allow.into()), insn(0x95, 0, 0, 0, 0)]
}

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> BpfInsn {
    BpfInsn {
        code,
        regs: src << 4 | dst,
        off,
        imm,
    }
}

fn access_of(rule: &LinuxDeviceCgroup) -> Result<u8, CgroupError> {
    let Some(text) = rule.access().as_deref().filter(|a| !a.is_empty()) else {
        return Ok(EVERY);
    };
    text.bytes().try_fold(0, |bits, letter| match letter {
        b'r' => Ok(bits | READ),
        b'w' => Ok(bits | WRITE),
        b'm' => Ok(bits | MKNOD),
        _ => Err(invalid(rule)),
    })
}

/// A major or minor number; -1 and nothing mean all.
fn number(rule: &LinuxDeviceCgroup, value: Option<i64>) -> Result<Option<u32>, CgroupError> {
    match value {
        None | Some(-1) => Ok(None),
        // Device numbers have 12 and 20 bits.
        Some(n @ 0..=0xf_ffff) => Ok(u32::try_from(n).ok()),
        Some(_) => Err(invalid(rule)),
    }
}

fn invalid(rule: &LinuxDeviceCgroup) -> CgroupError {
    let number = |n: Option<i64>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let value = format!(
        "{} {} {}:{} {}",
        if rule.allow() { "allow" } else { "deny" },
        letter(rule.typ()),
        number(rule.major()),
        number(rule.minor()),
        rule.access().as_deref().unwrap_or("rwm"),
    );
    CgroupError::InvalidValue {
        field: "devices",
        value,
    }
}

const fn letter(kind: Option<LinuxDeviceType>) -> &'static str {
    match kind {
        None | Some(LinuxDeviceType::A) => "a",
        Some(LinuxDeviceType::B) => "b",
        Some(LinuxDeviceType::C) => "c",
        Some(LinuxDeviceType::U) => "u",
        Some(LinuxDeviceType::P) => "p",
    }
}

/// The rules that a runtime adds so that the devices it makes in every container can be used
/// (<https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#default-devices>),
/// and any node can be made, which without the right to open it is harmless.
#[must_use]
pub fn runtime_defaults() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{B, C};
    [
        (C, None, None, "m"),
        (B, None, None, "m"),
        // null, zero, full, random, urandom
        (C, Some(1), Some(3), "rwm"),
        (C, Some(1), Some(5), "rwm"),
        (C, Some(1), Some(7), "rwm"),
        (C, Some(1), Some(8), "rwm"),
        (C, Some(1), Some(9), "rwm"),
        // tty, console, ptmx, pts/*
        (C, Some(5), Some(0), "rwm"),
        (C, Some(5), Some(1), "rwm"),
        (C, Some(5), Some(2), "rwm"),
        (C, Some(136), None, "rwm"),
    ]
    .into_iter()
    .filter_map(|(kind, major, minor, access)| {
        let mut rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(kind)
            .access(access);
        if let Some(major) = major {
            rule = rule.major(major);
        }
        if let Some(minor) = minor {
            rule = rule.minor(minor);
        }
        rule.build().ok()
    })
    .collect()
}

#[cfg(test)]
mod tests;
