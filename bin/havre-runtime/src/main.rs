//! The OCI runtime as a command.

fn main() {}
