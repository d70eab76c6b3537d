//! The one list of error kinds that crosses every boundary: HTTP status, ttrpc code and exit status follow from it.
//!
//! Nobody decides by the text of an error; texts are for people.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;

/// What went wrong, as far as a caller has to care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request makes no sense as written.
    InvalidParameter,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The caller may not do this.
    Forbidden,
    /// The object does not exist.
    NotFound,
    /// The object is already in the state that was asked for.
    NotModified,
    /// The state of the object does not allow the operation.
    Conflict,
    /// A service that is needed does not answer now.
    Unavailable,
    /// This engine or this kernel cannot do it.
    NotImplemented,
    /// A deadline passed.
    DeadlineExceeded,
    /// The caller gave up.
    Cancelled,
    /// Stored data is damaged.
    DataLoss,
    /// Memory, disk, descriptors or a limit of the protocol ran out.
    ResourceExhausted,
    /// A failure whose cause nobody classified, usually of a peer.
    Unknown,
    /// A failure of ours.
    Internal,
}

/// An error that knows its [`ErrorKind`].
pub trait Classify: Error {
    /// The kind that HTTP status, ttrpc code and exit status are made of.
    fn kind(&self) -> ErrorKind;
}

impl ErrorKind {
    /// The HTTP status, as moby maps it
    /// (<https://github.com/moby/moby/blob/master/daemon/server/httpstatus/status.go>).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidParameter => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::NotModified => 304,
            Self::Conflict => 409,
            Self::Unavailable => 503,
            Self::NotImplemented => 501,
            Self::Cancelled => 499,
            Self::DeadlineExceeded
            | Self::DataLoss
            | Self::ResourceExhausted
            | Self::Unknown
            | Self::Internal => 500,
        }
    }

    /// The kind a client reads from an HTTP status. 2xx has no kind of its own and counts as [`ErrorKind::Unknown`].
    #[must_use]
    pub const fn from_http_status(status: u16) -> Self {
        match status {
            304 => Self::NotModified,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict,
            499 => Self::Cancelled,
            501 => Self::NotImplemented,
            503 => Self::Unavailable,
            400..=498 => Self::InvalidParameter,
            500..=599 => Self::Internal,
            _ => Self::Unknown,
        }
    }

    /// The status code of gRPC and ttrpc (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
    ///
    /// Each kind has a code of its own, so that a kind survives the hop through a shim.
    #[must_use]
    pub const fn grpc_code(self) -> i32 {
        match self {
            Self::Cancelled => 1,
            Self::Unknown => 2,
            Self::InvalidParameter => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::Forbidden => 7,
            Self::ResourceExhausted => 8,
            // FAILED_PRECONDITION: what containerd answers when the state of a task forbids an operation.
            Self::Conflict => 9,
            // OUT_OF_RANGE: gRPC has no "not modified", and nothing else of ours uses this code.
            Self::NotModified => 11,
            Self::NotImplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::DataLoss => 15,
            Self::Unauthorized => 16,
        }
    }

    /// The kind of a gRPC or ttrpc status code; codes outside the table are [`ErrorKind::Unknown`].
    #[must_use]
    pub const fn from_grpc_code(code: i32) -> Self {
        match code {
            1 => Self::Cancelled,
            3 => Self::InvalidParameter,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            // ALREADY_EXISTS and ABORTED come from foreign shims.
            6 | 9 | 10 => Self::Conflict,
            7 => Self::Forbidden,
            8 => Self::ResourceExhausted,
            11 => Self::NotModified,
            12 => Self::NotImplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthorized,
            _ => Self::Unknown,
        }
    }

    /// The exit status of `havre run` when the engine, not the container, failed.
    ///
    /// Docker keeps 126 and 127 for a command that cannot be invoked or found; those follow from the start error of
    /// the container, not from a kind (<https://docs.docker.com/engine/containers/run/#exit-status>).
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::InvalidParameter
            | Self::Unauthorized
            | Self::Forbidden
            | Self::NotFound
            | Self::NotModified
            | Self::Conflict
            | Self::Unavailable
            | Self::NotImplemented
            | Self::DeadlineExceeded
            | Self::Cancelled
            | Self::DataLoss
            | Self::ResourceExhausted
            | Self::Unknown
            | Self::Internal => 125,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidParameter => "invalid parameter",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not found",
            Self::NotModified => "not modified",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::NotImplemented => "not implemented",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::Cancelled => "cancelled",
            Self::DataLoss => "data loss",
            Self::ResourceExhausted => "resource exhausted",
            Self::Unknown => "unknown",
            Self::Internal => "internal",
        })
    }
}

/// Renders an error and its sources as `a: b: c`.
///
/// A source whose text the error before it already ends with is not repeated. Errors of the operating
/// system read as in Docker: `connection refused`, without a number.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = link(source);
        if !text.ends_with(&part) {
            // Writing to a String cannot fail.
            write!(text, ": {part}").ok();
        }
        next = source.source();
    }
    text
}

fn link(error: &(dyn Error + 'static)) -> String {
    error
        .downcast_ref::<io::Error>()
        .map_or_else(|| error.to_string(), os_text)
}

/// The text of an error of the operating system as Go's programs print it: lower-case, no number.
#[must_use]
pub fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_none() {
        return text;
    }
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_read_as_in_docker() {
        assert_eq!(
            os_text(&io::Error::from_raw_os_error(111)),
            "connection refused"
        );
        assert_eq!(
            os_text(&io::Error::other("As it is (os error 1)")),
            "As it is (os error 1)"
        );
    }

    const ALL: [ErrorKind; 14] = [
        ErrorKind::InvalidParameter,
        ErrorKind::Unauthorized,
        ErrorKind::Forbidden,
        ErrorKind::NotFound,
        ErrorKind::NotModified,
        ErrorKind::Conflict,
        ErrorKind::Unavailable,
        ErrorKind::NotImplemented,
        ErrorKind::DeadlineExceeded,
        ErrorKind::Cancelled,
        ErrorKind::DataLoss,
        ErrorKind::ResourceExhausted,
        ErrorKind::Unknown,
        ErrorKind::Internal,
    ];

    #[test]
    fn every_kind_survives_the_hop_through_ttrpc() {
        for kind in ALL {
            assert_eq!(ErrorKind::from_grpc_code(kind.grpc_code()), kind);
        }
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to read `x`")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::from_raw_os_error(2));
        assert_eq!(
            chain(&error),
            "failed to read `x`: no such file or directory"
        );
    }
}
