//! Architectures that a filter can be made for.

use oci_spec::runtime::Arch;

use crate::table::Column;

/// The bit that marks a call of the x32 interface (asm/unistd.h, `__X32_SYSCALL_BIT`).
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// What the kernel calls an architecture in `seccomp_data.arch` (linux/audit.h). x32 has none of
/// its own: it is x86_64 with a bit in the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AuditArch {
    X86_64,
    I386,
    Aarch64,
}

impl AuditArch {
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// True if arguments have 32 bits.
    pub(crate) const fn is_32_bit(self) -> bool {
        matches!(self, Self::I386)
    }
}

/// A set of numbers: an architecture, or the x32 part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abi {
    pub(crate) audit: AuditArch,
    pub(crate) column: Column,
    /// Added to each number of the table.
    pub(crate) base: u32,
}

const X86_64: Abi = Abi {
    audit: AuditArch::X86_64,
    column: Column::X86_64,
    base: 0,
};
const X32: Abi = Abi {
    audit: AuditArch::X86_64,
    column: Column::X32,
    base: X32_BIT,
};
const I386: Abi = Abi {
    audit: AuditArch::I386,
    column: Column::I386,
    base: 0,
};
const AARCH64: Abi = Abi {
    audit: AuditArch::Aarch64,
    column: Column::Aarch64,
    base: 0,
};

/// The architecture that this program runs on.
#[cfg(target_arch = "aarch64")]
const NATIVE: Abi = AARCH64;
#[cfg(not(target_arch = "aarch64"))]
const NATIVE: Abi = X86_64;

/// The sets of numbers of a list of architectures, the native one always and first. Those of
/// other machines have no table here and need none: a call of theirs cannot happen, and if it
/// did, the filter ends the process.
pub(crate) fn abis(list: &[Arch]) -> Vec<Abi> {
    let mut out = vec![NATIVE];
    for arch in list {
        let abi = match arch {
            Arch::ScmpArchNative => NATIVE,
            Arch::ScmpArchX86_64 => X86_64,
            Arch::ScmpArchX32 => X32,
            Arch::ScmpArchX86 => I386,
            Arch::ScmpArchAarch64 => AARCH64,
            _ => continue,
        };
        if !out.contains(&abi) {
            out.push(abi);
        }
    }
    out
}
