//! Ids, digests, references, sizes, durations, platforms, error kinds.
