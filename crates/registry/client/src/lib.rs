//! Registry client: resolve, authenticate, pull.
//!
//! Credentials belong to one origin (scheme, host, port) and never leave it: not with a redirect, not
//! to a token server that is not the registry's own. Names are resolved here, without the C library.

mod auth;
mod challenge;
mod config;
mod dns;
mod download;
mod endpoint;
mod error;
mod layer;
mod login;
mod manifest;
mod progress;
mod pull;
mod session;
mod tls;
mod transfers;
mod transport;
mod url;

pub use auth::Credentials;
pub use config::{Config, ConfigError, Retries};
pub use error::{LayerError, PullError, RegistryAnswer, RequestError};
pub use login::LoginError;
pub use progress::{Progress, ProgressSink};
pub use pull::{PullRequest, Pulled, Puller};
