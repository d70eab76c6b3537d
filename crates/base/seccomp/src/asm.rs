//! Classic BPF instructions, as far as seccomp filters use them (linux/bpf_common.h).

use std::collections::BTreeMap;

/// One instruction, the shape of `struct sock_filter` (linux/filter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    /// The operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jt: u8,
    /// Instructions to skip when false.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A = word of `struct seccomp_data` at offset k.
pub(crate) const LD: u16 = 0x20;
/// A &= k.
pub(crate) const AND: u16 = 0x54;
/// Jump by k.
pub(crate) const JA: u16 = 0x05;
/// A == k.
pub(crate) const JEQ: u16 = 0x15;
/// A > k, unsigned.
pub(crate) const JGT: u16 = 0x25;
/// A >= k, unsigned.
pub(crate) const JGE: u16 = 0x35;
/// The filter's answer is k.
pub(crate) const RET: u16 = 0x06;

/// Offset of the number of the call in `struct seccomp_data` (linux/seccomp.h).
pub(crate) const NR: u32 = 0;
/// Offset of the architecture.
pub(crate) const ARCH: u32 = 4;

/// Offsets of the lower and the upper half of an argument on a little-endian machine.
pub(crate) const fn arg_offsets(index: u32) -> (u32, u32) {
    (16 + 8 * index, 20 + 8 * index)
}

/// Where a jump goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To any instruction that gives this answer.
    Answer(u32),
    /// To an instruction that was written before.
    Label(usize),
}

/// A program written from its end to its beginning.
///
/// Jumps of BPF lead forward, so backwards every target is known when the jump is written. An
/// answer is written once and shared by all jumps that reach it; the eight bits of a distance
/// decide when it has to be written again.
#[derive(Debug, Default)]
pub(crate) struct Backwards {
    reversed: Vec<SockFilter>,
    /// The latest place of each answer.
    answers: BTreeMap<u32, usize>,
}

impl Backwards {
    /// `if code(A, k) { then } else { otherwise }`; nothing follows by itself.
    pub(crate) fn test(&mut self, code: u16, k: u32, then: Target, otherwise: Target) -> Target {
        // The second may add an instruction, so the first keeps some distance in reserve.
        let then = self.near(then, 2);
        let otherwise = self.near(otherwise, 0);
        let (jt, jf) = (self.distance(then), self.distance(otherwise));
        self.write(SockFilter { code, jt, jf, k })
    }

    /// Loads a word of the call's data; goes on with what was written last.
    pub(crate) fn load(&mut self, offset: u32) -> Target {
        self.write(SockFilter {
            code: LD,
            jt: 0,
            jf: 0,
            k: offset,
        })
    }

    /// Masks A; goes on with what was written last.
    pub(crate) fn mask(&mut self, mask: u32) -> Target {
        self.write(SockFilter {
            code: AND,
            jt: 0,
            jf: 0,
            k: mask,
        })
    }

    /// Makes the target what was written last.
    pub(crate) fn settle(&mut self, target: Target) {
        match target {
            Target::Label(label) if label + 1 == self.reversed.len() => {}
            Target::Label(label) => drop(self.jump(label)),
            Target::Answer(answer) => drop(self.answer(answer)),
        }
    }

    /// The program from its beginning.
    pub(crate) fn finish(mut self) -> Vec<SockFilter> {
        self.reversed.reverse();
        self.reversed
    }

    fn write(&mut self, instruction: SockFilter) -> Target {
        self.reversed.push(instruction);
        Target::Label(self.reversed.len() - 1)
    }

    fn answer(&mut self, answer: u32) -> usize {
        let at = self.reversed.len();
        self.write(SockFilter {
            code: RET,
            jt: 0,
            jf: 0,
            k: answer,
        });
        self.answers.insert(answer, at);
        at
    }

    fn jump(&mut self, label: usize) -> usize {
        let at = self.reversed.len();
        // A program too long for the kernel is refused at the end.
        let k = u32::try_from(at - label - 1).unwrap_or(u32::MAX);
        self.write(SockFilter {
            code: JA,
            jt: 0,
            jf: 0,
            k,
        });
        at
    }

    /// An instruction within the reach of a test that is written next, or `reserve` later.
    fn near(&mut self, target: Target, reserve: usize) -> usize {
        let reach = usize::from(u8::MAX) - reserve;
        let within = |label: &usize| self.reversed.len() - label <= reach;
        match target {
            Target::Answer(answer) => match self.answers.get(&answer).copied().filter(within) {
                Some(label) => label,
                None => self.answer(answer),
            },
            Target::Label(label) if within(&label) => label,
            Target::Label(label) => self.jump(label),
        }
    }

    fn distance(&self, label: usize) -> u8 {
        // `near` has seen to it that it fits.
        u8::try_from(self.reversed.len() - label - 1).unwrap_or(u8::MAX)
    }
}
