//! A thin client of the Engine API: requests over a Unix socket or TCP, hijacked streams, streams of JSON lines.
//!
//! It does not ask for an API version: a path without one is answered in the engine's newest shape, which saves the
//! request that negotiates, and answers are read by name, so that more or fewer fields do no harm. `inspect` answers
//! are handed out as the raw JSON. It never imports the engine.

mod api;
mod archive;
mod endpoint;
mod error;
mod http;
mod lines;
mod monitor;
mod network;
mod query;
pub mod stdcopy;

pub use api::{AttachOptions, LogOptions, RemoveOptions, WaitCondition};
pub use endpoint::{Endpoint, EndpointError};
pub use error::ClientError;
pub use http::{Client, Hijacked, Options, Pieces, Response};
pub use lines::JsonLines;
pub use monitor::{Change, Login, Sampling, Top, Update, Warnings};
pub use query::Query;
