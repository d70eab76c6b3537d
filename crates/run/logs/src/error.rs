//! What can go wrong with log files.

use std::io;
use std::path::PathBuf;

use havre_types::{Classify, ErrorKind};
use thiserror::Error;

/// Failure of one operation on the log at `path`.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("failed to open log `{path}`")]
    Open {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A link, device or pipe stands where the log should be.
    #[error("log `{path}` is not a regular file")]
    NotRegular {
        /// The log.
        path: PathBuf,
    },
    /// Records were lost, for example because the disk is full.
    #[error("failed to write log `{path}`")]
    Write {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file grows on over its limit.
    #[error("failed to rotate log `{path}`")]
    Rotate {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("failed to read log `{path}`")]
    Read {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel gives no inotify instance (`fs.inotify.max_user_instances`).
    #[error("failed to watch log `{path}`")]
    Watch {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Classify for LogError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Watch { .. } => ErrorKind::ResourceExhausted,
            Self::Open { .. }
            | Self::NotRegular { .. }
            | Self::Write { .. }
            | Self::Rotate { .. }
            | Self::Read { .. } => ErrorKind::Internal,
        }
    }
}
