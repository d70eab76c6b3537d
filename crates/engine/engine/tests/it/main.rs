//! The engine with a real shim, real namespaces and an image of one static program. Needs root, the shim beside the
//! test's own program (or `HAVRE_SHIM`), and busybox on the host.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "this whole program is tests"
)]

mod fixture;
mod life;
mod restore;
mod streams;
