//! Running other programs to their end, with an error that says what they printed.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// A command of the host system. Tests drive real programs and gain nothing from descriptor lists.
#[expect(
    clippy::disallowed_methods,
    reason = "fixtures run ordinary programs; what Havre itself starts goes through havre_sys"
)]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Runs a command to its end and returns what it printed; a failure carries its standard error.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to start {}", show(command)))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}: {}{}",
            show(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
            String::from_utf8_lossy(&output.stdout).trim(),
        );
    }
    Ok(output)
}

/// Runs a command to its end and returns its standard output as text without the last line break.
pub fn stdout(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
