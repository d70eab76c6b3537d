//! What can go wrong, and of what kind it is.

use std::io;

use havre_netlink::NetlinkError;
use havre_types::{Classify, ErrorKind};
use rustix::io::Errno;

use crate::ports::PortError;

/// Something on the network that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused a message; its text names the action and the subject.
    #[error(transparent)]
    Kernel(#[from] NetlinkError),
    /// A file or a namespace could not be used.
    #[error("failed to {action}")]
    System {
        /// What was to be done, with its subject.
        action: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No network of this id was added.
    #[error("network {0} is not set up")]
    UnknownNetwork(String),
    /// No end of this id is attached.
    #[error("endpoint {0} is not attached")]
    UnknownEndpoint(String),
    /// An end of this id is attached already.
    #[error("endpoint {0} is attached already")]
    Attached(String),
    /// What was to become the name of an interface is none.
    #[error("invalid interface name: {0:?}")]
    InterfaceName(String),
    /// An interface of that name is there, but is something else.
    #[error("interface {name} is not a bridge but {found}")]
    OtherKind {
        /// The interface.
        name: String,
        /// What it is.
        found: String,
    },
    /// The parent of a network is not on this host.
    #[error("the requested parent interface {0} was not found on the Docker host")]
    NoParent(String),
    /// A parent cannot be what it was asked to be.
    #[error("{0}")]
    Parent(String),
    /// The kernel makes no such interface on a parent that is used otherwise.
    #[error("failed to create the {0} port: device or resource busy")]
    ParentBusy(&'static str),
    /// What the driver of the network cannot do.
    #[error("{0}")]
    Impossible(&'static str),
    /// This kernel lacks something.
    #[error("this kernel has no {0}, nor a module that it can load for it")]
    Unsupported(&'static str),
    /// A kernel parameter that is not one of an interface.
    #[error("invalid sysctl for an endpoint: {0}")]
    Sysctl(String),
    /// A port of the host.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl NetworkError {
    /// An error with its action, for `map_err`.
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }

    /// What a kernel without it says of an interface or a protocol, for `map_err`.
    pub(crate) fn without(what: &'static str) -> impl FnOnce(NetlinkError) -> Self {
        move |error| match error.errno() {
            Some(Errno::OPNOTSUPP | Errno::PROTONOSUPPORT) => Self::Unsupported(what),
            _ => Self::Kernel(error),
        }
    }

    /// Whether the thing was not there.
    pub(crate) fn is_absent(&self) -> bool {
        match self {
            Self::Kernel(error) => error.is_absent(),
            Self::System { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

impl Classify for NetworkError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Kernel(_) | Self::System { .. } => ErrorKind::Internal,
            Self::UnknownNetwork(_) | Self::UnknownEndpoint(_) => ErrorKind::NotFound,
            Self::Attached(_) | Self::OtherKind { .. } | Self::ParentBusy(_) => ErrorKind::Conflict,
            Self::InterfaceName(_)
            | Self::NoParent(_)
            | Self::Parent(_)
            | Self::Impossible(_)
            | Self::Sysctl(_) => ErrorKind::InvalidParameter,
            Self::Unsupported(_) => ErrorKind::NotImplemented,
            Self::Port(error) => error.kind(),
        }
    }
}
