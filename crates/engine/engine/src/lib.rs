//! The engine: containers, exec, images, events. It implements the traits of `api-traits` and knows nothing of HTTP;
//! what it does to processes goes through shims, and what it keeps survives `kill -9`.

mod archive;
mod attach;
mod cdi;
mod container;
mod engine;
mod error;
mod events;
mod exec;
mod health;
mod host;
mod images;
mod instructions;
mod monitor;
mod names;
mod network;
mod pattern;
mod plan;
mod restart;
mod restore;
mod runtimes;
mod shim;
mod signal;
mod state;
mod system;
mod update;

pub use engine::{Config, Engine, OpenError};
pub use havre_network::ipam::Pool as AddressPool;
pub use network::{DefaultBridge, NetworkDefaults};
pub use plan::log::LogDefaults;
pub use runtimes::{OWN as OWN_RUNTIME, OciRuntime, Runtimes};
