//! The envelope of a call and its answer, and the error that a failed call is.

use havre_types::{Classify, ErrorKind};
use thiserror::Error;

use crate::frame::FrameError;

/// `ttrpc.Request`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Request {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

/// `ttrpc.KeyValue`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `ttrpc.Response`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Response {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// `google.rpc.Status` without its details.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

impl Response {
    /// A successful answer.
    #[must_use]
    pub fn success(payload: Vec<u8>) -> Self {
        Self {
            status: None,
            payload,
        }
    }

    /// A failure with the code that `kind` has in gRPC.
    #[must_use]
    pub fn failure(kind: ErrorKind, message: String) -> Self {
        Self {
            status: Some(Status {
                code: kind.grpc_code(),
                message,
            }),
            payload: Vec::new(),
        }
    }
}

/// Why a call gave no answer.
#[derive(Debug, Error)]
pub enum RpcError {
    /// The other side refused the call or failed in it. The text is meant for the user.
    #[error("{message}")]
    Status {
        /// Decides HTTP status and exit code.
        kind: ErrorKind,
        /// Docker-style text.
        message: String,
    },
    /// The connection ended before the answer: the shim is gone.
    #[error("the shim closed its connection during `{method}`")]
    Closed {
        /// The call that waited.
        method: &'static str,
    },
    /// The message is too long to be sent.
    #[error("failed to send `{method}`")]
    Frame {
        /// The call.
        method: &'static str,
        /// What is wrong with it.
        #[source]
        source: FrameError,
    },
    /// The answer does not decode.
    #[error("failed to decode the answer of `{method}`")]
    Decode {
        /// The call.
        method: &'static str,
        /// What the decoder says.
        #[source]
        source: prost::DecodeError,
    },
}

impl Classify for RpcError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Status { kind, .. } => *kind,
            Self::Closed { .. } => ErrorKind::Unavailable,
            Self::Frame { source, .. } => source.kind(),
            Self::Decode { .. } => ErrorKind::Internal,
        }
    }
}
