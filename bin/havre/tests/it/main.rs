//! The program against an engine that says what the test wants: requests, output, exit codes, terminals, signals.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[cfg(test)]
mod commands;
#[cfg(test)]
mod completion;
mod fake;
#[cfg(test)]
mod manage;
#[cfg(test)]
mod run;
#[cfg(test)]
mod terminal;

use std::process::{Command, Output, Stdio};

/// The program under test; ended after a while, so that a hang is a failure.
#[expect(
    clippy::disallowed_methods,
    reason = "a test starts the program as a shell would"
)]
fn havre(host: &str, args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .args([
            "--foreground",
            "--kill-after=1",
            "30",
            env!("CARGO_BIN_EXE_havre"),
            "-H",
            host,
        ])
        .args(args);
    command
        .env_remove("DOCKER_HOST")
        .env_remove("HAVRE_HOST")
        .stdin(Stdio::null());
    command
}

fn output(host: &str, args: &[&str]) -> Output {
    havre(host, args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
