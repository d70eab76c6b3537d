//! Names for containers. [`server`] is the companion process that answers on 127.0.0.11 in each container's namespace and
//! relays published ports that NAT cannot serve; [`client`] is the engine's side of it; [`resolvconf`] makes the
//! containers' resolv.conf. What comes from a container or a name server is read by [`message`] and [`reply`], which never
//! panic.

pub mod answer;
pub mod client;
pub mod grammar;
pub mod message;
pub mod reply;
pub mod resolvconf;
pub mod server;
pub mod table;
pub mod zone;

#[cfg(test)]
mod mutation;
mod protocol;

pub use client::{Companion, CompanionError, Missing};
pub use zone::{Endpoint, Held, Membership, Network, State, Transport, Upstreams, Zone};

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets a task wait for a descriptor.
#[expect(
    deprecated,
    reason = "an OwnedFd names one descriptor for its whole life; the replacement is unsafe to call"
)]
fn readiness(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
