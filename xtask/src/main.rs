//! The checks that `make lint` runs beyond clippy.

fn main() {}
