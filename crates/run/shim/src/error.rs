//! Failures: those that end the shim, and those that are the answer to a call.

use std::io;

use havre_types::{Classify, ErrorKind, chain};
use thiserror::Error;

/// Why the shim cannot run (further).
#[derive(Debug, Error)]
pub enum ShimError {
    /// A system call on which everything depends failed.
    #[error("failed to {what}")]
    System {
        /// The step, as a verb with its subject.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The arguments or the environment lack something.
    #[error("{what} is missing")]
    Missing {
        /// The thing.
        what: &'static str,
    },
    /// The bundle's configuration cannot be used.
    #[error("failed to read the container's configuration: {reason}")]
    Config {
        /// Why.
        reason: String,
    },
}

impl Classify for ShimError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::System { .. } => ErrorKind::Internal,
            Self::Missing { .. } | Self::Config { .. } => ErrorKind::InvalidParameter,
        }
    }
}

/// Names the step that a system error belongs to.
pub(crate) trait Step<T> {
    fn step(self, what: &'static str) -> Result<T, ShimError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: &'static str) -> Result<T, ShimError> {
        self.map_err(|error| ShimError::System {
            what,
            source: error.into(),
        })
    }
}

/// A call that failed, as its caller is told.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// An error of a lower crate with all its causes.
    pub(crate) fn of(error: &impl Classify) -> Self {
        Self {
            kind: error.kind(),
            message: chain(error),
        }
    }

    pub(crate) fn internal(what: &str, error: impl Into<io::Error>) -> Self {
        Self::new(
            ErrorKind::Internal,
            format!("failed to {what}: {}", error.into()),
        )
    }
}

/// Writes one line to the shim's own log, which is its standard error.
pub(crate) fn note(text: &str) {
    let line = format!("{text}\n");
    if rustix::io::write(rustix::stdio::stderr(), line.as_bytes()).is_err() {
        // Nobody is left to tell.
    }
}
