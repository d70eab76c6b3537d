//! Rules of the OCI form, checked, with what they mean for one system call.
//!
//! Where the specification is silent this follows what runc and libseccomp do: a rule without
//! conditions decides for its call whatever else is said of it (the first such rule, if there
//! are several), and a rule that has two conditions on one argument is met by either of its
//! conditions, not only by both
//! (<https://github.com/opencontainers/runc/blob/main/libcontainer/seccomp/seccomp_linux.go>).

use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use crate::error::SeccompError;

/// The answer of a filter, as the kernel encodes it (linux/seccomp.h).
pub(crate) type Answer = u32;

/// The error number of an action that carries none.
const EPERM: u32 = 1;
pub(crate) const ENOSYS: u32 = 38;
/// The highest error number of the kernel (linux/err.h).
const MAX_ERRNO: u32 = 4095;

pub(crate) const KILL_PROCESS: Answer = 0x8000_0000;
pub(crate) const ERRNO: Answer = 0x0005_0000;

/// Encodes an action with its error number.
pub(crate) fn answer(
    action: LinuxSeccompAction,
    errno: Option<u32>,
) -> Result<Answer, SeccompError> {
    use LinuxSeccompAction::{
        ScmpActAllow, ScmpActErrno, ScmpActKill, ScmpActKillProcess, ScmpActKillThread, ScmpActLog,
        ScmpActNotify, ScmpActTrace, ScmpActTrap,
    };
    let errno = errno.unwrap_or(EPERM);
    if errno > MAX_ERRNO {
        return Err(SeccompError::Errno { errno });
    }
    Ok(match action {
        ScmpActKill | ScmpActKillThread => 0,
        ScmpActKillProcess => KILL_PROCESS,
        ScmpActTrap => 0x0003_0000,
        ScmpActErrno => ERRNO | errno,
        ScmpActNotify => 0x7fc0_0000,
        ScmpActTrace => 0x7ff0_0000 | errno,
        ScmpActLog => 0x7ffc_0000,
        ScmpActAllow => 0x7fff_0000,
    })
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) index: u32,
    pub(crate) op: LinuxSeccompOperator,
    pub(crate) value: u64,
    /// For a masked comparison, what the masked argument must be.
    pub(crate) value_two: u64,
}

impl Condition {
    /// The same for an architecture whose arguments have 32 bits: a number that was meant as
    /// negative loses its upper half, which no argument there could ever have.
    pub(crate) fn narrowed(mut self) -> Self {
        for value in [&mut self.value, &mut self.value_two] {
            if *value >> 31 == 0x1_ffff_ffff {
                *value &= 0xffff_ffff;
            }
        }
        self
    }
}

/// What is said of one system call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The answer of a rule without conditions.
    pub(crate) always: Option<Answer>,
    /// Else: conditions that must all hold, and the answer then; the first that holds counts.
    pub(crate) cases: Vec<(Vec<Condition>, Answer)>,
}

impl Verdict {
    /// Adds a rule.
    pub(crate) fn add(&mut self, rule: &Rule) {
        if rule.alternatives.is_empty() {
            self.always.get_or_insert(rule.answer);
        } else if self.always.is_none() {
            let cases = rule
                .alternatives
                .iter()
                .map(|all| (all.clone(), rule.answer));
            self.cases.extend(cases);
        }
    }
}

/// A checked rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) answer: Answer,
    /// Lists of conditions, of which one has to hold whole; empty for "always".
    pub(crate) alternatives: Vec<Vec<Condition>>,
}

impl Rule {
    pub(crate) fn new(rule: &LinuxSyscall) -> Result<Self, SeccompError> {
        let answer = answer(rule.action(), rule.errno_ret())?;
        let args = rule.args().as_deref().unwrap_or_default();
        let all: Vec<Condition> = args
            .iter()
            .map(|arg| condition(rule, arg))
            .collect::<Result<_, _>>()?;
        let repeated = all.iter().enumerate().any(|(at, condition)| {
            all.iter()
                .take(at)
                .any(|earlier| earlier.index == condition.index)
        });
        let alternatives = match (all.is_empty(), repeated) {
            (true, _) => Vec::new(),
            (false, false) => vec![all],
            (false, true) => all.into_iter().map(|condition| vec![condition]).collect(),
        };
        Ok(Self {
            answer,
            alternatives,
        })
    }
}

fn condition(rule: &LinuxSyscall, arg: &LinuxSeccompArg) -> Result<Condition, SeccompError> {
    let index = u32::try_from(arg.index()).ok().filter(|index| *index < 6);
    let Some(index) = index else {
        let syscall = rule.names().first().cloned().unwrap_or_default();
        return Err(SeccompError::ArgumentIndex {
            syscall,
            index: arg.index(),
        });
    };
    let value_two = arg.value_two().unwrap_or(0);
    Ok(Condition {
        index,
        op: arg.op(),
        value: arg.value(),
        value_two,
    })
}
