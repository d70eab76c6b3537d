//! The shim: one process per container that starts it, owns its streams, log file and exit status, and answers the
//! Task API. Single-threaded and without an async framework, because it forks; must stay small, because there is one
//! for every container, and must never wait for a client.

mod attach;
mod buffer;
pub mod containerd;
mod dispatch;
mod error;
mod events;
mod exit;
mod foreign;
mod input;
mod log;
mod output;
mod poll;
mod process;
mod rpc;
mod server;
mod service;
mod slab;
mod stats;
mod stdio;
mod task;

pub use error::ShimError;
pub use server::{Listeners, ServeOptions, serve};
