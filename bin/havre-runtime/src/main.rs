//! `havre-runtime`: the OCI runtime as a command, with the words and flags of runc.
//!
//! Parses, finds the container, and calls the runtime library; nothing is decided here that the
//! library could decide.

use std::env::args_os;
use std::process::ExitCode;

mod arguments;
mod commands;
mod foreground;
mod output;
mod protect;
mod store;

fn main() -> ExitCode {
    let words: Vec<_> = args_os().skip(1).collect();
    let invocation = match arguments::parse(&words) {
        Ok(invocation) => invocation,
        Err(error) => return output::fail(None, &error),
    };
    match commands::dispatch(&invocation) {
        Ok(code) => code,
        Err(error) => output::fail(Some(&invocation), &error),
    }
}
