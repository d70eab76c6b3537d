//! Classic BPF instructions, as far as seccomp filters use them (linux/bpf_common.h).

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

pub(crate) const fn op(code: u16, k: u32) -> SockFilter {
    SockFilter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

pub(crate) const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

/// `if cond(A, k) { then } else { otherwise }`, where both parts end with an answer. The parts
/// may be of any length.
pub(crate) fn branch(
    code: u16,
    k: u32,
    then: Vec<SockFilter>,
    otherwise: Vec<SockFilter>,
) -> Vec<SockFilter> {
    let mut out = Vec::with_capacity(then.len() + otherwise.len() + 2);
    // The part that is taken when false comes first.
    match u8::try_from(otherwise.len()) {
        Ok(skip) => out.push(jump(code, k, skip, 0)),
        Err(_far) => {
            out.push(jump(code, k, 0, 1));
            // A filter longer than u32 fails the kernel's limit anyway.
            out.push(op(JA, u32::try_from(otherwise.len()).unwrap_or(u32::MAX)));
        }
    }
    out.extend(otherwise);
    out.extend(then);
    out
}
