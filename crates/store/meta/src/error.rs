//! What can go wrong with the metadata store; texts name the file or the document.

use std::path::PathBuf;
use std::sync::Arc;

use havre_types::{Classify, ErrorKind};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum OpenError {
    #[error("failed to open metadata store `{path}`")]
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error(
        "metadata store `{path}` was written by a newer version (format {found}, known up to {known})"
    )]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("`{path}` is a database of another program")]
    Foreign { path: PathBuf },
    #[error("failed to set damaged metadata store `{path}` aside")]
    SetAside {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("failed to sync the directory of metadata store `{path}`")]
    Sync {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("failed to start the metadata writer")]
    Thread { source: std::io::Error },
}

#[derive(Debug, Error)]
pub enum ReadError {
    #[error("failed to read {kind} `{id}`")]
    Get {
        kind: String,
        id: String,
        source: rusqlite::Error,
    },
    #[error("failed to list documents of kind {kind}")]
    List {
        kind: String,
        source: rusqlite::Error,
    },
    #[error("{kind} `{id}` is damaged")]
    Damaged { kind: String, id: String },
}

/// Shared by all batches of one commit, hence the `Arc`.
#[derive(Debug, Clone, Error)]
pub enum WriteError {
    #[error("failed to write metadata")]
    Commit { source: Arc<rusqlite::Error> },
    #[error("the metadata store is closed")]
    Closed,
}

impl Classify for OpenError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Sqlite { source, .. } => sqlite_kind(source),
            Self::Newer { .. } | Self::Foreign { .. } => ErrorKind::InvalidParameter,
            Self::SetAside { .. } | Self::Sync { .. } | Self::Thread { .. } => ErrorKind::Internal,
        }
    }
}

impl Classify for ReadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Get { source, .. } | Self::List { source, .. } => sqlite_kind(source),
            Self::Damaged { .. } => ErrorKind::DataLoss,
        }
    }
}

impl Classify for WriteError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Commit { source } => sqlite_kind(source),
            Self::Closed => ErrorKind::Unavailable,
        }
    }
}

fn sqlite_kind(error: &rusqlite::Error) -> ErrorKind {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ErrorKind::ResourceExhausted,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::DataLoss,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}
