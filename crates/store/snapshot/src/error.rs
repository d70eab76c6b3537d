//! What can go wrong with snapshots; texts name the key.

use std::io;
use std::path::PathBuf;

use havre_layer::ApplyError;
use havre_meta::{ReadError, WriteError};
use havre_types::{Classify, ErrorKind};
use thiserror::Error;

use crate::Kind;

#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("failed to open snapshots in `{path}`")]
    Open { path: PathBuf, source: io::Error },
    #[error("failed to read the records of snapshots")]
    Records { source: ReadError },
    #[error("snapshot `{key}` not found")]
    NotFound { key: String },
    #[error("snapshot `{key}` already exists")]
    Exists { key: String },
    #[error("snapshot key is empty")]
    EmptyKey,
    #[error("snapshot `{key}` is {found:?}, which does not allow this")]
    WrongKind { key: String, found: Kind },
    #[error("snapshot `{key}` is the parent of `{child}`")]
    InUse { key: String, child: String },
    #[error("failed to record snapshot `{key}`")]
    Record { key: String, source: WriteError },
    #[error("failed to make snapshot `{key}`")]
    Make { key: String, source: io::Error },
    #[error("failed to complete layer `{key}` from its parents")]
    Complete { key: String, source: ApplyError },
    #[error("failed to remove snapshot `{key}`")]
    Remove { key: String, source: io::Error },
    #[error("failed to read snapshot `{key}`")]
    Read { key: String, source: io::Error },
}

impl Classify for SnapshotError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } | Self::InUse { .. } => ErrorKind::Conflict,
            Self::EmptyKey | Self::WrongKind { .. } => ErrorKind::InvalidParameter,
            Self::Record { source, .. } => source.kind(),
            Self::Records { source } => source.kind(),
            Self::Complete { source, .. } => source.kind(),
            Self::Open { source, .. }
            | Self::Make { source, .. }
            | Self::Remove { source, .. }
            | Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    ErrorKind::ResourceExhausted
                }
                _ => ErrorKind::Internal,
            },
        }
    }
}
