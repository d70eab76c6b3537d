//! Each kernel effect of the crate, once, on the real kernel.
#![expect(clippy::tests_outside_test_module, reason = "this is the test binary")]
#![expect(
    clippy::disallowed_methods,
    reason = "std::fs on paths that the tests make"
)]

mod bpf;
mod fd;
mod fsroot;
mod memory;
mod misc;
mod net;
mod process;
mod seccomp;
mod spawn;
