//! What can go wrong with blobs; texts name the digest or the arrival's key.

use std::io;
use std::path::PathBuf;

use havre_types::{Classify, Digest, ErrorKind};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ContentError {
    #[error("failed to open content store `{path}`")]
    Open { path: PathBuf, source: io::Error },
    #[error("failed to list blobs in `{path}`")]
    List { path: PathBuf, source: io::Error },
    #[error("blob `{digest}` not found")]
    NotFound { digest: Digest },
    #[error("failed to read blob `{digest}`")]
    Read { digest: Digest, source: io::Error },
    #[error("failed to delete blob `{digest}`")]
    Delete { digest: Digest, source: io::Error },
    #[error("blob `{digest}` of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        digest: Digest,
        size: u64,
        limit: u64,
    },
    #[error("blob `{digest}` is damaged: its content does not match its digest")]
    Damaged { digest: Digest },
}

#[derive(Debug, Error)]
pub enum IngestError {
    #[error("failed to store `{key}`")]
    Io { key: String, source: io::Error },
    #[error("`{key}` is being stored by someone else")]
    Busy { key: String },
    #[error("`{key}` has {actual} bytes, expected {expected}")]
    Size {
        key: String,
        expected: u64,
        actual: u64,
    },
    #[error("`{key}` has digest `{actual}`, expected `{expected}`")]
    Digest {
        key: String,
        expected: Digest,
        actual: Digest,
    },
    #[error("key of {length} bytes is too long or empty")]
    Key { length: usize },
}

impl Classify for ContentError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::TooLarge { .. } => ErrorKind::InvalidParameter,
            Self::Damaged { .. } => ErrorKind::DataLoss,
            Self::Open { source, .. }
            | Self::List { source, .. }
            | Self::Read { source, .. }
            | Self::Delete { source, .. } => io_kind(source),
        }
    }
}

impl Classify for IngestError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => io_kind(source),
            Self::Busy { .. } => ErrorKind::Conflict,
            Self::Size { .. } | Self::Digest { .. } => ErrorKind::DataLoss,
            Self::Key { .. } => ErrorKind::InvalidParameter,
        }
    }
}

fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Internal,
    }
}
