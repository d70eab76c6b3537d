//! The Docker Engine API over HTTP: listeners, routes, versions, framing, taken-over connections. It knows
//! the engine only through `havre_api_traits`, and must never decide anything about containers or images.

mod body;
mod call;
mod conn;
mod detach;
mod handlers;
mod head;
mod hijack;
mod listen;
mod query;
mod reply;
mod route;
mod server;
mod stdcopy;
mod stream;
mod version;
mod websocket;

pub use listen::{Host, ListenError, Listener};
pub use route::{Route, routes};
pub use server::Server;
pub use version::{ApiVersion, MAX as MAX_API_VERSION, MIN as MIN_API_VERSION};
