//! The companion as the engine and the containers use it: a real process, real sockets.
#![expect(
    clippy::tests_outside_test_module,
    reason = "every file of an integration test is tests"
)]

mod control;
mod forwarding;
mod names;
mod namespaces;
mod relays;
mod support;
mod upstream;
