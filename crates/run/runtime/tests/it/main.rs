//! Containers on the real kernel, made through the library from a single-threaded child.
//!
//! Needs root. Each test has its own bundle, cgroup and namespaces, and removes them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::absolute_paths,
    reason = "a test binary: a failed assumption is a failed test"
)]

mod harness;
mod life;
mod mounts;
mod security;
