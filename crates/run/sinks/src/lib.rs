//! Log drivers that send records away: journald, syslog, fluentd, gelf. Runs in the helper program, one for a container,
//! where waiting for a server holds up nobody but that container's own log; never in the shim.
//!
//! A record that was taken is delivered, however long its server is away, unless the driver's options say when to give
//! up. Once the shim has gone there are [`patience::LAST`] seconds more.

mod connect;
mod deliver;
mod dns;
mod error;
mod fluentd;
mod gelf;
mod journald;
mod msgpack;
mod patience;
mod queue;
mod serve;
mod syslog;
mod tls;

pub use error::SinkError;
pub use serve::serve;
