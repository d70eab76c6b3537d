//! What a user sees of a pull: Docker's progress messages, without their JSON.

use std::sync::Arc;

/// Receives messages, from any thread. It must not block.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// One message. The texts are those the docker command line knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The layer's short digest, or the tag; empty for a line of its own.
    pub id: String,
    /// What goes on.
    pub status: String,
    /// How far it is, and how far it goes, in bytes.
    pub bytes: Option<(u64, u64)>,
}

/// The states of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerState {
    Announced,
    Waiting,
    Downloading { current: u64, total: u64 },
    Retrying { seconds: u64 },
    Verifying,
    Downloaded,
    Extracting { total: u64 },
    Complete,
    Exists,
}

impl LayerState {
    pub(crate) fn message(self, id: &str) -> Progress {
        let (status, bytes) = match self {
            Self::Announced => ("Pulling fs layer".to_owned(), None),
            Self::Waiting => ("Waiting".to_owned(), None),
            Self::Downloading { current, total } => {
                ("Downloading".to_owned(), Some((current, total)))
            }
            Self::Retrying { seconds } => {
                let plural = if seconds == 1 { "" } else { "s" };
                (format!("Retrying in {seconds} second{plural}"), None)
            }
            Self::Verifying => ("Verifying Checksum".to_owned(), None),
            Self::Downloaded => ("Download complete".to_owned(), None),
            Self::Extracting { total } => ("Extracting".to_owned(), Some((total, total))),
            Self::Complete => ("Pull complete".to_owned(), None),
            Self::Exists => ("Already exists".to_owned(), None),
        };
        Progress {
            id: id.to_owned(),
            status,
            bytes,
        }
    }
}

/// A line that belongs to no layer.
pub(crate) fn line(id: &str, status: String) -> Progress {
    Progress {
        id: id.to_owned(),
        status,
        bytes: None,
    }
}
