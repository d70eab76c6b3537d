//! What can be wrong with a profile.

/// An error of this crate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// No architecture of the list is one that this crate has numbers for.
    #[error("seccomp: none of the architectures is supported")]
    NoArchitecture,
    /// A condition on an argument that no system call has.
    #[error("seccomp: rule for `{syscall}` has a condition on argument {index}, the last is 5")]
    ArgumentIndex {
        /// The first name of the rule.
        syscall: String,
        /// The index.
        index: usize,
    },
    /// An error number that the kernel cannot return.
    #[error("seccomp: error number {errno} is out of range")]
    Errno {
        /// The number.
        errno: u32,
    },
    /// More instructions than the kernel takes.
    #[error("seccomp: the filter has {length} instructions, the kernel takes 4096")]
    TooLong {
        /// How many.
        length: usize,
    },
    /// Both forms of the list of architectures are given.
    #[error(
        "'architectures' and 'archMap' were specified in the seccomp profile, use either 'architectures' or 'archMap'"
    )]
    ArchitecturesAndArchMap,
    /// Both forms of the names are given.
    #[error(
        "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'"
    )]
    NameAndNames,
    /// A kernel version of another shape.
    #[error("invalid kernel version: {text}, expected \"<kernel>.<major>\"")]
    KernelVersion {
        /// The text.
        text: String,
    },
}
