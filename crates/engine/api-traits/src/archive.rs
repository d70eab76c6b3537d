//! The files of a container: what changed, copies in and out, the whole tree, an image of it.

/// Files of containers.
pub trait Archive: Send + Sync {}
