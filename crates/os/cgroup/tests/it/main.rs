//! Groups on the kernel of this machine, and plans for those it does not have.
#![expect(clippy::tests_outside_test_module, reason = "this is the test binary")]

mod group;
mod plan;
