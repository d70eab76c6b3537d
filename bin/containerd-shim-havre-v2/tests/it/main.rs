//! The shim as an engine meets it: spawned with its sockets, called over ttrpc, attached to, killed. Needs root.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::tests_outside_test_module,
    reason = "a test binary: a failed assumption is a failed test"
)]

mod engine;
mod exec;
mod life;
mod streams;
