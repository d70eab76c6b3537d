//! What can go wrong with a pull. The texts a user of Docker knows are Docker's.

use crate::auth::AuthError;
use crate::transport::TransportError;
use havre_content::{ContentError, IngestError};
use havre_image::{StoreError, UnpackError};
use havre_oci::DocumentError;
use havre_types::{Classify, Digest, ErrorKind, ReferenceError};
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// What a registry says in the body of a refusal
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RegistryAnswer {
    /// `MANIFEST_UNKNOWN` …
    pub code: String,
    /// For people.
    pub message: String,
}

impl fmt::Display for RegistryAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_lowercase().replace('_', " ");
        if self.message.is_empty() {
            write!(f, "{code}")
        } else {
            write!(f, "{code}: {}", self.message)
        }
    }
}

impl RegistryAnswer {
    /// The first error of a refusal's body.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            errors: Vec<RegistryAnswer>,
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        body.errors
            .into_iter()
            .next()
            .filter(|answer| !answer.code.is_empty())
    }
}

/// One request that brought no usable answer.
#[derive(Debug, Error)]
pub enum RequestError {
    /// The server could not be reached or the exchange broke.
    #[error("Get \"{url}\"")]
    Transport {
        /// What was asked for.
        url: String,
        /// Why.
        source: Box<TransportError>,
    },
    /// The body of the answer broke off.
    #[error("Get \"{url}\": the answer broke off")]
    Body {
        /// What was asked for.
        url: String,
        /// Why.
        source: Option<hyper::Error>,
    },
    /// The registry refused and said why.
    #[error("{answer}")]
    Refused {
        /// The status code.
        status: u16,
        /// What it said.
        answer: RegistryAnswer,
        /// When it may be asked again.
        retry_after: Option<Duration>,
    },
    /// The registry refused without a word.
    #[error("Get \"{url}\": received unexpected HTTP status: {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
        /// When it may be asked again.
        retry_after: Option<Duration>,
    },
    /// No credentials could be had.
    #[error("Get \"{url}\"")]
    Auth {
        /// What was asked for.
        url: String,
        /// Why.
        source: Box<AuthError>,
    },
    /// A redirect leads nowhere, in circles, or from TLS to plain text.
    #[error("Get \"{url}\": refused redirect to `{location}`")]
    Redirect {
        /// Where it was seen.
        url: String,
        /// Where it leads.
        location: String,
    },
    /// The answer is longer than such an answer may be, or of another length than it must be.
    #[error("Get \"{url}\": the answer has {actual} bytes, expected {expected}")]
    Length {
        /// What was asked for.
        url: String,
        /// What was to be expected.
        expected: u64,
        /// What came.
        actual: u64,
    },
}

impl RequestError {
    /// Whether the same request may succeed when it is made again.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Transport { source, .. } => !matches!(**source, TransportError::Setup { .. }),
            Self::Body { .. } => true,
            Self::Refused { status, .. } | Self::Status { status, .. } => {
                matches!(status, 408 | 429 | 500..=599)
            }
            Self::Auth { source, .. } => source.is_passing(),
            Self::Redirect { .. } | Self::Length { .. } => false,
        }
    }

    /// Whether the server was never reached.
    pub(crate) fn is_unreached(&self) -> bool {
        matches!(self, Self::Transport { source, .. } if source.is_unreached())
    }

    /// When the server wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl Classify for RequestError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Transport { .. } | Self::Body { .. } => ErrorKind::Unavailable,
            Self::Refused { status, .. } | Self::Status { status, .. } => match status {
                401 => ErrorKind::Unauthorized,
                403 => ErrorKind::Forbidden,
                404 => ErrorKind::NotFound,
                429 | 500..=599 => ErrorKind::Unavailable,
                _ => ErrorKind::Unknown,
            },
            Self::Auth { source, .. } => source.kind(),
            Self::Redirect { .. } | Self::Length { .. } => ErrorKind::Unknown,
        }
    }
}

/// Why a layer or a configuration is not here.
#[derive(Debug, Error)]
pub enum LayerError {
    /// It could not be fetched.
    #[error(transparent)]
    Request(RequestError),
    /// What came is something else. The text is Docker's.
    #[error("filesystem layer verification failed for digest {digest}")]
    Verification {
        /// What it should have been.
        digest: Digest,
        /// What came.
        source: Box<IngestError>,
    },
    /// It could not be stored.
    #[error("failed to store `{digest}`")]
    Store {
        /// What.
        digest: Digest,
        /// Why.
        source: Box<IngestError>,
    },
    /// It is stored and could not be read.
    #[error("failed to read `{digest}` again")]
    Read {
        /// What.
        digest: Digest,
        /// Why.
        source: Box<ContentError>,
    },
    /// It was refused or could not be written out.
    #[error("failed to register layer")]
    Unpack(#[source] UnpackError),
    /// The engine is being stopped.
    #[error("the transfer of `{digest}` was given up")]
    Abandoned {
        /// What.
        digest: Digest,
    },
}

impl Classify for LayerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(source) => source.kind(),
            Self::Verification { .. } => ErrorKind::DataLoss,
            Self::Store { source, .. } => source.kind(),
            Self::Read { source, .. } => source.kind(),
            Self::Unpack(source) => source.kind(),
            Self::Abandoned { .. } => ErrorKind::Cancelled,
        }
    }
}

/// Why an image is not here.
#[derive(Debug, Error)]
pub enum PullError {
    /// The registry does not let us in, or does not say that the repository does not exist.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {answer}"
    )]
    Denied {
        /// The repository.
        name: String,
        /// What the registry said.
        answer: RegistryAnswer,
    },
    /// There is no such tag or digest.
    #[error("manifest for {reference} not found: {answer}")]
    ManifestUnknown {
        /// The image.
        reference: String,
        /// What the registry said.
        answer: RegistryAnswer,
    },
    /// There is no such repository.
    #[error("repository {name} not found: {answer}")]
    NameUnknown {
        /// The repository.
        name: String,
        /// What the registry said.
        answer: RegistryAnswer,
    },
    /// Another failure of a request for the manifest.
    #[error(transparent)]
    Request(RequestError),
    /// The reference leads to no server.
    #[error(transparent)]
    Name(ReferenceError),
    /// The index has nothing for this platform.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoPlatform {
        /// The platform.
        platform: String,
    },
    /// The image is for another platform than was asked for.
    #[error(
        "image with reference {reference} was found but does not provide the specified platform ({platform})"
    )]
    WrongPlatform {
        /// The image.
        reference: String,
        /// The platform.
        platform: String,
    },
    /// The manifest is not what its digest says.
    #[error("manifest verification failed for digest {digest}")]
    Manifest {
        /// The digest.
        digest: Digest,
    },
    /// The manifest makes no sense.
    #[error("failed to use the manifest of {reference}")]
    Document {
        /// The image.
        reference: String,
        /// Why.
        source: DocumentError,
    },
    /// It is another artifact than a container image, or no usable one.
    #[error("{reference} is no container image: {problem}")]
    NotAnImage {
        /// The reference.
        reference: String,
        /// What is wrong.
        problem: String,
    },
    /// A layer or the configuration could not be had.
    #[error(transparent)]
    Layer(Arc<LayerError>),
    /// The image could not be recorded.
    #[error(transparent)]
    Store(StoreError),
}

impl Classify for PullError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied { .. }
            | Self::ManifestUnknown { .. }
            | Self::NameUnknown { .. }
            | Self::NoPlatform { .. }
            | Self::WrongPlatform { .. } => ErrorKind::NotFound,
            Self::Request(source) => source.kind(),
            Self::Name(source) => source.kind(),
            Self::Manifest { .. } => ErrorKind::DataLoss,
            Self::Document { source, .. } => source.kind(),
            Self::NotAnImage { .. } => ErrorKind::InvalidParameter,
            Self::Layer(source) => source.kind(),
            Self::Store(source) => source.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_docker_prints_it() {
        let body =
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
        let answer = RegistryAnswer::parse(body).unwrap();
        let error = PullError::ManifestUnknown {
            reference: "x:1".to_owned(),
            answer,
        };
        assert_eq!(
            error.to_string(),
            "manifest for x:1 not found: manifest unknown: manifest unknown"
        );
        for broken in [
            &b"{}"[..],
            b"<html>",
            br#"{"errors":[]}"#,
            br#"{"errors":[{}]}"#,
        ] {
            assert_eq!(RegistryAnswer::parse(broken), None);
        }
    }
}
