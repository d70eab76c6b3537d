//! Why a log cannot be sent.

use std::io;

use havre_logs::options::LogOptionError;
use thiserror::Error;

/// Failure of the helper as a whole. What keeps a container from starting is told to the shim instead.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The shim is not what it should be.
    #[error("failed to talk to the shim")]
    Shim {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a driver cannot begin, in Docker's words.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Option(LogOptionError),
    #[error("dial {network} {address}: {reason}")]
    Dial {
        network: &'static str,
        address: String,
        reason: String,
    },
    #[error("gelf: cannot connect to GELF endpoint: {endpoint} {source}")]
    Gelf { endpoint: String, source: Box<Self> },
    #[error("journald is not enabled on this host")]
    NoJournal,
    #[error("Unix syslog delivery error")]
    NoSyslog,
    #[error("{0}")]
    Tls(String),
    #[error("invalid sink: {0}")]
    Sink(serde_json::Error),
}

/// An error of the system in Go's words: `connection refused`, without its number.
pub(crate) fn go_text(error: &io::Error) -> String {
    if matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    ) {
        return "i/o timeout".to_owned();
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}
