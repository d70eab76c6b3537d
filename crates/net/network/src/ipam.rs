//! Addresses: which subnet a new network gets, and which address a new end of it gets. Pure: who calls keeps what was
//! given out, and builds this anew from it.
//!
//! The texts of errors are Docker's
//! (<https://github.com/moby/moby/blob/master/daemon/libnetwork/ipamapi/contract.go>).

mod allocator;
mod pools;
mod space;

use havre_types::{Classify, ErrorKind};

pub use allocator::{Allocator, Usage};
pub use pools::{DEFAULT_POOLS, Pool, PoolError, Pools, unique_local};
pub use space::{AddressSpace, PoolId, PoolRequest};

/// Why there is no subnet or no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// Another network has a part of the subnet.
    #[error("Pool overlaps with other one on this address space")]
    Overlap,
    /// No default pool can give a subnet of this family and size.
    #[error("invalid address pool")]
    InvalidPool,
    /// A range was given without its subnet.
    #[error("invalid address subpool")]
    InvalidRange,
    /// All that the default pools have is in use.
    #[error("all predefined address pools have been fully subnetted")]
    NoSubnet,
    /// Every address is in use.
    #[error("no available addresses on this pool")]
    Full,
    /// Somebody has this address.
    #[error("Address already in use")]
    InUse,
    /// The address is not in the subnet.
    #[error("requested address is out of range")]
    OutOfRange,
    /// The subnet was never asked for.
    #[error("address space does not contain specified address pool")]
    UnknownPool,
}

impl Classify for IpamError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Overlap | Self::InUse => ErrorKind::Forbidden,
            Self::Full => ErrorKind::Unavailable,
            Self::InvalidPool
            | Self::InvalidRange
            | Self::NoSubnet
            | Self::OutOfRange
            | Self::UnknownPool => ErrorKind::InvalidParameter,
        }
    }
}
