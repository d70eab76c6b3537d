//! The content store as its users see it, over crashes, damage and contention.

#[cfg(test)]
mod blobs;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod ingest;
