//! What changes a container that exists: pause, name, resources, and the removal of all that are stopped.

/// Changes to containers.
pub trait Lifecycle: Send + Sync {}
