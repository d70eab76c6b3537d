//! What can go wrong with a cgroup.

use std::io;
use std::path::PathBuf;

use havre_types::{Classify, ErrorKind};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The mounts of this host cannot be read.
    #[error("failed to find the cgroup mounts of this host")]
    Detect {
        /// The cause.
        source: io::Error,
    },
    /// No hierarchy is mounted at all.
    #[error("no cgroup file system is mounted on this host")]
    NotMounted,
    /// A resource was asked for whose controller this host lacks.
    #[error("this host has no cgroup controller `{controller}`, which `{field}` needs")]
    NoController {
        /// The controller.
        controller: &'static str,
        /// The field of the resources.
        field: &'static str,
    },
    /// A path that is empty or leaves its parent.
    #[error("invalid cgroup path `{}`", path.display())]
    InvalidPath {
        /// The path.
        path: PathBuf,
    },
    /// A resource value that makes no sense.
    #[error("invalid value `{value}` for {field}")]
    InvalidValue {
        /// The field of the resources.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// The group exists and has processes.
    #[error("cgroup `{}` is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A directory cannot be made.
    #[error("failed to create cgroup `{}`", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("failed to write `{value}` to `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A process cannot be put into the group.
    #[error("failed to join cgroup `{}`", path.display())]
    Join {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The device program cannot be loaded or attached.
    #[error("failed to restrict devices of cgroup `{}`", path.display())]
    Devices {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The group did not reach a state in time.
    #[error("cgroup `{}` was not {state} in time", path.display())]
    Timeout {
        /// The directory.
        path: PathBuf,
        /// The state.
        state: &'static str,
    },
    /// A directory cannot be removed.
    #[error("failed to remove cgroup `{}`", path.display())]
    Delete {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Classify for CgroupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotMounted | Self::NoController { .. } => ErrorKind::NotImplemented,
            Self::InvalidPath { .. } | Self::InvalidValue { .. } => ErrorKind::InvalidParameter,
            Self::NotEmpty { .. } => ErrorKind::Conflict,
            Self::Timeout { .. } => ErrorKind::DeadlineExceeded,
            // The kernel refuses a value that it cannot use with these.
            Self::Write { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::ResourceBusy
                ) =>
            {
                ErrorKind::InvalidParameter
            }
            Self::Detect { .. }
            | Self::Create { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::Join { .. }
            | Self::Devices { .. }
            | Self::Delete { .. } => ErrorKind::Internal,
        }
    }
}
