//! The companion as the engine and the containers use it: a real process, real sockets.
#![expect(
    clippy::tests_outside_test_module,
    reason = "every file of an integration test is tests"
)]

mod names;
mod support;
