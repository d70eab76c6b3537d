//! Snapshots: the Snapshotter trait, overlayfs and plain-copy drivers.
