//! Seccomp profiles compiled to BPF.
//!
//! [`Profile`] is Docker's file format, with rules that depend on capabilities, architecture and
//! kernel; [`Profile::resolve`] settles these and gives the OCI form; [`compile`] turns that into
//! a filter. Nothing here loads a filter or asks the kernel anything.

mod arch;
mod asm;
mod compile;
mod default;
mod error;
mod profile;
mod rule;
mod table;

pub use asm::SockFilter;
pub use compile::compile;
pub use default::default_profile;
pub use error::SeccompError;
pub use profile::{ArchMap, Conditions, KernelVersion, Profile, ProfileSyscall};
