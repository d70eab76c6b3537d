//! What a container does and why it ended: its processes, its use of resources, the diagnosis.

/// Observations of containers.
pub trait Monitor: Send + Sync {}
