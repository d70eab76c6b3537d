//! Logging in: whether a registry accepts credentials, and the identity token it may give for them.
//!
//! Mirrors are never asked: the credentials are not theirs.

use crate::auth::Credentials;
use crate::endpoint::endpoints;
use crate::error::RequestError;
use crate::pull::Puller;
use crate::session::Wish;
use havre_types::{Classify, ErrorKind};
use thiserror::Error;

/// Why a login failed.
#[derive(Debug, Error)]
pub enum LoginError {
    /// It is no name of a server.
    #[error("unable to parse server address: `{server}` is no host")]
    Server {
        /// What was given.
        server: String,
    },
    /// The registry does not take the credentials. The text is Docker's.
    #[error("login attempt to {url} failed with status: {status}{}", reason(*.status))]
    Rejected {
        /// The page that was asked for.
        url: String,
        /// The status of its answer.
        status: u16,
    },
    /// It could not be asked.
    #[error(transparent)]
    Request(RequestError),
}

impl Classify for LoginError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Server { .. } => ErrorKind::InvalidParameter,
            Self::Rejected { status: 403, .. } => ErrorKind::Forbidden,
            Self::Rejected {
                status: 429 | 500..,
                ..
            } => ErrorKind::Unavailable,
            Self::Rejected { .. } => ErrorKind::Unauthorized,
            Self::Request(error) => error.kind(),
        }
    }
}

impl Puller {
    /// Asks the registry at `server` (`host[:port]`, or `docker.io`) whether it accepts `credentials`. The answer
    /// is an identity token when the registry's token server gives one.
    pub async fn login(
        &self,
        server: &str,
        credentials: &Credentials,
    ) -> Result<Option<String>, LoginError> {
        let mut failure = None;
        for endpoint in endpoints(server, &[], self.config()) {
            let url = endpoint.url("");
            let session = self.session(endpoint, "", Some(credentials));
            let error = match session.open(&url, Wish::default()).await {
                Ok(_accepted) => return Ok(session.identity_token()),
                Err(RequestError::Refused { status, .. } | RequestError::Status { status, .. }) => {
                    let url = url.to_string();
                    LoginError::Rejected { url, status }
                }
                Err(error) => LoginError::Request(error),
            };
            // A server that refused is the right one: the credentials do not go on to the next, in plain text.
            if error.kind() == ErrorKind::Unauthorized {
                return Err(error);
            }
            failure = Some(error);
        }
        Err(failure.unwrap_or_else(|| LoginError::Server {
            server: server.to_owned(),
        }))
    }
}

/// The words that belong to the status, as Go knows them.
fn reason(status: u16) -> String {
    let known = hyper::StatusCode::from_u16(status).ok();
    known
        .and_then(|status| status.canonical_reason())
        .map(|words| format!(" {words}"))
        .unwrap_or_default()
}
