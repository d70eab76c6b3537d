//! Networks of one host: namespaces, interfaces, addresses, rules, published ports. It knows networks and their ends, but
//! no container, no record and no engine.
//!
//! [`Plane`] does what is done to the kernel, and nothing else is decided here: who calls says which address an end has.
//! All calls block for as long as the kernel takes. What a host has of one engine carries a name that derives from the
//! engine's instance ([`names`]), so any number of engines work side by side.

mod driver;
mod error;
mod explain;
mod firewall;
mod forwarding;
mod inside;
pub mod ipam;
pub mod names;
mod plane;
pub mod ports;
mod sandbox;
mod spec;
mod turn;

pub use error::NetworkError;
pub use explain::{Audience, Explanation, Reach};
pub use firewall::{Guard, Health};
pub use plane::{Plane, PlaneOptions, Reconciled};
pub use sandbox::{RESOLVER, Sandbox};
pub use spec::{
    Attached, BridgeOptions, Driver, EndpointSpec, GatewayMode, IpvlanFlag, IpvlanOptions,
    MacvlanOptions, NetworkSpec, Protocol, Publication, Rate, Subnet,
};

pub use turn::Turn;

pub use havre_netlink::{IpvlanMode, MacvlanMode};
