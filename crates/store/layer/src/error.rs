//! What can go wrong with archives and trees; texts name the entry.

use std::io;

use havre_types::{Classify, ErrorKind};
use thiserror::Error;

/// An archive that cannot be read, or not in one way only.
#[derive(Debug, Error)]
pub enum TarError {
    #[error("failed to read archive at byte {offset}")]
    Read { offset: u64, source: io::Error },
    #[error("archive ends early at byte {offset}")]
    Truncated { offset: u64 },
    #[error("archive header at byte {offset} is invalid: {problem}")]
    Header { offset: u64, problem: &'static str },
    #[error("archive extension at byte {offset} is invalid: {problem}")]
    Extension { offset: u64, problem: &'static str },
    #[error("archive extension at byte {offset} has {size} bytes, more than {limit}")]
    ExtensionSize { offset: u64, size: u64, limit: u64 },
    #[error("entry `{name}` has type {found:?}, which is not supported")]
    Type { name: String, found: char },
    #[error("sparse map of `{name}` is invalid: {problem}")]
    Sparse { name: String, problem: &'static str },
    #[error("failed to write entry `{name}`")]
    Write { name: String, source: io::Error },
    #[error("entry `{name}` has {actual} bytes of data, {expected} were announced")]
    Length {
        name: String,
        expected: u64,
        actual: u64,
    },
}

/// Why one entry of a layer was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EntryProblem {
    #[error("its path leaves the root")]
    Escape,
    #[error("its path is longer than {limit} bytes")]
    PathTooLong { limit: usize },
    #[error("a component of its path is longer than 255 bytes")]
    NameTooLong,
    #[error("its path is deeper than {limit} directories")]
    TooDeep { limit: usize },
    #[error("the target `{target}` of the hard link leaves the root")]
    LinkEscape { target: String },
    #[error("the target `{target}` of the hard link does not exist")]
    LinkMissing { target: String },
    #[error("the root must be a directory")]
    Root,
    #[error("it has no name to hide")]
    Whiteout,
    #[error("it is a device that overlayfs takes for a whiteout")]
    WhiteoutDevice,
    #[error("its {field} {value} is out of range")]
    Range { field: &'static str, value: u64 },
    #[error("it would replace a directory by something else")]
    OverDirectory,
    #[error("it would replace something else by a directory")]
    OverOther,
    #[error("its size {size} is above the limit of {limit} bytes")]
    TooLarge { size: u64, limit: u64 },
}

/// Why a layer could not be applied.
#[derive(Debug, Error)]
pub enum ApplyError {
    #[error("failed to read layer")]
    Tar {
        #[from]
        source: TarError,
    },
    #[error("entry `{name}` refused")]
    Refused { name: String, source: EntryProblem },
    #[error("failed to create `{name}`")]
    Create { name: String, source: io::Error },
    #[error("layer has more than {limit} entries")]
    TooManyEntries { limit: u64 },
    #[error("layer expands to more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("layer expands to {ratio} times its compressed size, more than {limit} times")]
    Ratio { ratio: u64, limit: u64 },
    #[error("failed to decompress layer")]
    Decompress { source: io::Error },
    #[error("failed to start the threads of an unpacker")]
    Thread { source: io::Error },
    #[error("failed to take over `{name}` from the layers below")]
    FixUp { name: String, source: io::Error },
}

/// Why a tree could not be written as an archive.
#[derive(Debug, Error)]
pub enum ExportError {
    #[error("failed to read `{name}`")]
    Read { name: String, source: io::Error },
    #[error("failed to write archive")]
    Tar { source: TarError },
    #[error("failed to write archive")]
    Write { source: io::Error },
    #[error("`{name}` is deeper than {limit} directories")]
    TooDeep { name: String, limit: usize },
}

impl Classify for TarError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Write { .. } => ErrorKind::Internal,
            Self::Truncated { .. }
            | Self::Header { .. }
            | Self::Extension { .. }
            | Self::ExtensionSize { .. }
            | Self::Type { .. }
            | Self::Sparse { .. }
            | Self::Length { .. } => ErrorKind::InvalidParameter,
        }
    }
}

impl Classify for ApplyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Tar { source } => source.kind(),
            Self::Refused { .. } | Self::Decompress { .. } => ErrorKind::InvalidParameter,
            Self::TooManyEntries { .. } | Self::TooLarge { .. } | Self::Ratio { .. } => {
                ErrorKind::InvalidParameter
            }
            Self::Create { source, .. } | Self::FixUp { source, .. } => io_kind(source),
            Self::Thread { .. } => ErrorKind::Internal,
        }
    }
}

impl Classify for ExportError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } | Self::Write { source } => io_kind(source),
            Self::Tar { source } => source.kind(),
            Self::TooDeep { .. } => ErrorKind::InvalidParameter,
        }
    }
}

fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Internal,
    }
}

/// An entry's name for a message: printable, and not longer than a line should be.
pub(crate) fn shown(name: &[u8]) -> String {
    const LIMIT: usize = 256;
    let text: String = String::from_utf8_lossy(&name[..name.len().min(LIMIT)])
        .chars()
        .map(|found| {
            if found.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                found
            }
        })
        .collect();
    if name.len() > LIMIT {
        format!("{text}…")
    } else {
        text
    }
}
