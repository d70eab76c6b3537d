//! The kernel's network, configured by messages: interfaces, addresses, routes, queues ([`Route`]) and nftables
//! ([`nft`]). It knows the kernel's formats and nothing of containers or networks of the engine.
//!
//! A socket belongs to the network namespace in which it was opened, and stays in it: who works in several
//! namespaces keeps one socket for each. All calls block for as long as the kernel takes, which is microseconds.
//!
//! Formats: `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h`, `linux/netfilter/nf_tables.h`; man 7 netlink,
//! man 7 rtnetlink.

mod address;
mod conntrack;
mod error;
mod link;
mod message;
pub mod nft;
mod queue;
mod route;
mod socket;

pub use address::Address;
pub use conntrack::Connections;
pub use error::NetlinkError;
pub use link::{IpvlanMode, Kind, Link, LinkChange, MacvlanMode, NewLink, Port};
pub use queue::Shaper;
pub use route::{NewRoute, Route, RouteEntry};
