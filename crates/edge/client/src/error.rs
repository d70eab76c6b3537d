//! What can go wrong between this client and an engine.

use havre_types::{Classify, ErrorKind};

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the address.
    #[error("Cannot connect to the Havre engine at {endpoint}. Is havred running?")]
    Connect {
        /// the address
        endpoint: String,
        /// why
        #[source]
        source: std::io::Error,
    },
    /// The socket exists, but this user may not open it.
    #[error("permission denied while trying to connect to the Havre engine at {endpoint}")]
    Permission {
        /// the address
        endpoint: String,
        /// why
        #[source]
        source: std::io::Error,
    },
    /// The engine answered with an error.
    #[error("Error response from daemon: {message}")]
    Api {
        /// the HTTP status
        status: u16,
        /// the engine's own words
        message: String,
    },
    /// The connection broke, or the other side does not speak HTTP.
    #[error("failed to exchange `{request}` with the engine")]
    Http {
        /// method and path
        request: String,
        /// why
        #[source]
        source: hyper::Error,
    },
    /// The request could not be built: a name with a line break, for example.
    #[error("failed to build request `{0}`")]
    Request(String),
    /// The answer is not the JSON that was expected.
    #[error("failed to read the engine's answer to `{request}`")]
    Json {
        /// method and path
        request: String,
        /// why
        #[source]
        source: serde_json::Error,
    },
    /// The answer is larger than this client takes.
    #[error("the engine's answer to `{request}` is larger than {limit} bytes")]
    TooLarge {
        /// method and path
        request: String,
        /// the limit
        limit: usize,
    },
    /// A header of the answer is not there, or not as it should be.
    #[error("failed to read the header {name} of the engine's answer to `{request}`")]
    Header {
        /// method and path
        request: String,
        /// its name
        name: &'static str,
    },
    /// The engine did not hand over the connection.
    #[error("unable to upgrade to tcp, received {0}")]
    NoUpgrade(u16),
}

impl ClientError {
    /// Whether nobody listens at the address, so that starting an engine may help.
    #[must_use]
    pub fn is_nobody_there(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// The engine's own words, without the prefix; `None` when it was not the engine that refused.
    #[must_use]
    pub fn engine_message(&self) -> Option<&str> {
        match self {
            Self::Api { message, .. } => Some(message),
            _ => None,
        }
    }
}

impl Classify for ClientError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { .. } => ErrorKind::Unavailable,
            Self::Permission { .. } => ErrorKind::Forbidden,
            Self::Api { status, .. } => ErrorKind::from_http_status(*status),
            Self::Http { .. } | Self::Json { .. } | Self::Header { .. } | Self::NoUpgrade(_) => {
                ErrorKind::Unknown
            }
            Self::Request(_) => ErrorKind::InvalidParameter,
            Self::TooLarge { .. } => ErrorKind::ResourceExhausted,
        }
    }
}
