//! Ids, digests, references, sizes, durations, times, platforms and error kinds: the vocabulary of every other crate.
//!
//! Everything here is a pure value. Nothing opens a file, reads the environment or talks to the kernel, except that
//! [`Timestamp::now`] reads the clock and [`Platform::host`] names the machine the program was built for.

mod digest;
pub mod duration;
mod error;
mod id;
pub mod net;
mod platform;
pub mod reference;
pub mod size;
mod time;

pub use digest::{Algorithm, ChainId, DiffId, Digest, DigestError, ImageId};
pub use error::{Classify, ErrorKind, chain, os_text};
pub use id::{ContainerId, EndpointId, ExecId, IdError, NetworkId, PrefixError, resolve_prefix};
pub use net::{Cidr, MacAddress, NetError};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use time::{Timestamp, TimestampError};
