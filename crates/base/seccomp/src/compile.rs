//! The compiler: rules to a filter.
//!
//! For each architecture the numbers are cut into intervals that get the same answer, and a
//! binary search over the intervals finds the one of a call: seven or eight comparisons for
//! Docker's profile, where a list would take hundreds. A call that nobody knows is answered with
//! ENOSYS, so that a C library newer than the profile falls back to what it did before.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};

use crate::arch::{Abi, AuditArch, X32_BIT, abis};
use crate::asm::{ARCH, Backwards, JEQ, JGE, JGT, NR, SockFilter, Target, arg_offsets};
use crate::error::SeccompError;
use crate::rule::{Answer, Condition, ENOSYS, ERRNO, KILL_PROCESS, Rule, Verdict, answer};
use crate::table;

/// The kernel's limit (linux/bpf_common.h, `BPF_MAXINSNS`).
const MAX_LENGTH: usize = 4096;

/// Compiles a filter for the native architecture and those of the list.
///
/// A name that no architecture has is passed over, as runc does: profiles list calls of all
/// machines.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Vec<SockFilter>, SeccompError> {
    let default = answer(seccomp.default_action(), seccomp.default_errno_ret())?;
    let unknown = unknown_answer(seccomp.default_action(), default);
    let verdicts = checked(seccomp)?;
    let list = seccomp.architectures().as_deref().unwrap_or_default();
    let mut by_arch: BTreeMap<AuditArch, Vec<Abi>> = BTreeMap::new();
    for abi in abis(list) {
        by_arch.entry(abi.audit).or_default().push(abi);
    }
    by_arch
        .values_mut()
        .for_each(|abis| abis.sort_by_key(|abi| abi.base));
    // Written from the last architecture to the first, so that the native one is asked for
    // first. A foreign one is not part of the profile: nothing can be said of its numbers.
    let mut code = Backwards::default();
    let mut otherwise = Target::Answer(KILL_PROCESS);
    for (audit, abis) in by_arch.into_iter().rev() {
        let intervals = intervals(&abis, &verdicts, default, unknown);
        let found = search(&mut code, audit, default, &intervals);
        code.settle(found);
        let section = code.load(NR);
        otherwise = code.test(JEQ, audit.number(), section, otherwise);
    }
    code.settle(otherwise);
    code.load(ARCH);
    let program = code.finish();
    if program.len() > MAX_LENGTH {
        return Err(SeccompError::TooLong {
            length: program.len(),
        });
    }
    Ok(program)
}

/// The answer for a call that is in no table: ENOSYS where the default refuses.
fn unknown_answer(action: LinuxSeccompAction, default: Answer) -> Answer {
    use LinuxSeccompAction::{
        ScmpActAllow, ScmpActErrno, ScmpActKill, ScmpActKillProcess, ScmpActKillThread, ScmpActLog,
        ScmpActNotify, ScmpActTrace, ScmpActTrap,
    };
    match action {
        ScmpActErrno | ScmpActKill | ScmpActKillProcess | ScmpActKillThread | ScmpActTrap => {
            ERRNO | ENOSYS
        }
        ScmpActAllow | ScmpActLog | ScmpActNotify | ScmpActTrace => default,
    }
}

/// What the rules say, by the row of the call in the table.
fn checked(seccomp: &LinuxSeccomp) -> Result<Vec<Verdict>, SeccompError> {
    let mut verdicts = vec![Verdict::default(); table::ROWS];
    for syscall in seccomp.syscalls().iter().flatten() {
        let rule = Rule::new(syscall)?;
        for name in syscall.names() {
            if let Some(verdict) = table::row(name).and_then(|row| verdicts.get_mut(row)) {
                verdict.add(&rule);
            }
        }
    }
    Ok(verdicts)
}

/// What happens to the numbers from one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf<'a> {
    Answer(Answer),
    Conditional(&'a Verdict),
}

impl<'a> Leaf<'a> {
    fn of(verdict: &'a Verdict, default: Answer) -> Self {
        match verdict.always {
            Some(answer) => Self::Answer(answer),
            None if verdict.cases.is_empty() => Self::Answer(default),
            None => Self::Conditional(verdict),
        }
    }
}

/// The first number of each interval and its leaf, in order, from 0.
fn intervals<'a>(
    abis: &[Abi],
    verdicts: &'a [Verdict],
    default: Answer,
    unknown: Answer,
) -> Vec<(u32, Leaf<'a>)> {
    let mut out = Intervals::default();
    // In the order of their numbers: x32 has its bit.
    for abi in abis {
        let mut slots = vec![Leaf::Answer(unknown); table::LIMIT];
        for (row, number) in table::numbers(abi.column) {
            if let (Some(slot), Some(verdict)) =
                (slots.get_mut(usize::from(number)), verdicts.get(row))
            {
                *slot = Leaf::of(verdict, default);
            }
        }
        for (number, leaf) in (abi.base..).zip(slots) {
            out.push(number, leaf);
        }
    }
    // If x32 was not asked for, its numbers give ENOSYS as on a kernel without x32, also where
    // unknown calls are allowed.
    let native = abis.iter().any(|abi| abi.audit == AuditArch::X86_64);
    if native && abis.iter().all(|abi| abi.base == 0) {
        out.push(X32_BIT, Leaf::Answer(ERRNO | ENOSYS));
    }
    out.0
}

/// Intervals, of which neighbours with the same leaf are one.
#[derive(Default)]
struct Intervals<'a>(Vec<(u32, Leaf<'a>)>);

impl<'a> Intervals<'a> {
    fn push(&mut self, start: u32, leaf: Leaf<'a>) {
        if self.0.last().is_none_or(|(_, last)| *last != leaf) {
            self.0.push((start, leaf));
        }
    }
}

/// A binary search for the interval of the number that is in A.
fn search(
    code: &mut Backwards,
    audit: AuditArch,
    default: Answer,
    intervals: &[(u32, Leaf<'_>)],
) -> Target {
    let (low, high) = intervals.split_at(intervals.len() / 2);
    match (low, high) {
        ([], [(_, Leaf::Conditional(verdict))]) => conditional(code, audit, default, verdict),
        ([], [(_, Leaf::Answer(answer))]) => Target::Answer(*answer),
        (_, [(start, _), ..]) => {
            let at_least = search(code, audit, default, high);
            let below = search(code, audit, default, low);
            code.test(JGE, *start, at_least, below)
        }
        // There is always an interval: the first starts at 0.
        (_, []) => Target::Answer(default),
    }
}

/// The cases of a verdict in order, then the default.
fn conditional(
    code: &mut Backwards,
    audit: AuditArch,
    default: Answer,
    verdict: &Verdict,
) -> Target {
    let mut otherwise = Target::Answer(default);
    for (conditions, answer) in verdict.cases.iter().rev() {
        let mut met = Target::Answer(*answer);
        for condition in conditions.iter().rev() {
            let condition = if audit.is_32_bit() {
                condition.narrowed()
            } else {
                *condition
            };
            met = comparison(code, &condition, met, otherwise);
        }
        otherwise = met;
    }
    otherwise
}

/// Goes to `met` if the condition holds, and else to `unmet`.
fn comparison(code: &mut Backwards, condition: &Condition, met: Target, unmet: Target) -> Target {
    use LinuxSeccompOperator::{
        ScmpCmpEq, ScmpCmpGe, ScmpCmpGt, ScmpCmpLe, ScmpCmpLt, ScmpCmpMaskedEq, ScmpCmpNe,
    };
    // Words have 32 bits: the upper halves decide, unless they are equal. What is done last is
    // written first.
    let (low_at, high_at) = arg_offsets(condition.index);
    let (low, high) = halves(condition.value);
    let mut ordered = |last, above, not_above| {
        code.test(last, low, above, not_above);
        let lower = code.load(low_at);
        let equal = code.test(JEQ, high, lower, not_above);
        code.test(JGT, high, above, equal);
        code.load(high_at)
    };
    match condition.op {
        ScmpCmpGt => ordered(JGT, met, unmet),
        ScmpCmpGe => ordered(JGE, met, unmet),
        ScmpCmpLe => ordered(JGT, unmet, met),
        ScmpCmpLt => ordered(JGE, unmet, met),
        ScmpCmpEq => equality(code, condition, met, unmet),
        ScmpCmpNe => equality(code, condition, unmet, met),
        ScmpCmpMaskedEq => {
            let (low_two, high_two) = halves(condition.value_two);
            code.test(JEQ, low_two, met, unmet);
            code.mask(low);
            let lower = code.load(low_at);
            code.test(JEQ, high_two, lower, unmet);
            code.mask(high);
            code.load(high_at)
        }
    }
}

fn equality(code: &mut Backwards, condition: &Condition, same: Target, other: Target) -> Target {
    let (low_at, high_at) = arg_offsets(condition.index);
    let (low, high) = halves(condition.value);
    code.test(JEQ, low, same, other);
    let lower = code.load(low_at);
    code.test(JEQ, high, lower, other);
    code.load(high_at)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is what is wanted"
)]
const fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

#[cfg(test)]
mod tests;
