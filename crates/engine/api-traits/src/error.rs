//! The one error that crosses the seam: a kind, from which status and retry follow, and the text
//! that the user reads. It carries no source: the engine has logged or folded the cause into the text.

use havre_types::{Classify, ErrorKind, chain};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// The whole text for the user, as Docker words it.
    pub message: String,
}

impl ApiError {
    /// An error of `kind` with `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The request cannot be right, whatever the state of the engine.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }

    /// The named thing does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// The state of the named thing forbids the request.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// Nothing to do: it is already so (HTTP 304, as for starting what runs).
    pub fn not_modified() -> Self {
        Self::new(ErrorKind::NotModified, "not modified")
    }

    /// Havre cannot do this yet.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotImplemented, message)
    }

    /// The engine failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Takes the kind of `error` and the text of it and all its causes.
    pub fn from_classified<E: Classify>(error: &E) -> Self {
        Self::new(error.kind(), chain(error))
    }
}

impl Classify for ApiError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}
