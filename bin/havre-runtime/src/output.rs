//! What the command says: results on standard output, errors as runc's log lines.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Error;
use havre_types::Timestamp;
use serde_json::json;

use crate::arguments::Invocation;

/// Writes a result. A reader that went away is not an error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if out
        .write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        // Nobody reads.
    }
}

/// Reports the error where the caller asked for it, and on standard error; returns the exit code.
pub(crate) fn fail(invocation: Option<&Invocation>, error: &Error) -> ExitCode {
    let mut text = String::new();
    for cause in error.chain() {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
    }
    let time = Timestamp::now().to_string();
    let plain = format!("time={time:?} level=error msg={text:?}\n");
    let log = invocation.and_then(|invocation| invocation.global.log.as_ref());
    if let Some(path) = log {
        let json =
            invocation.is_some_and(|i| i.global.log_format.as_deref() == Some(OsStr::new("json")));
        let line = if json {
            format!("{}\n", json!({"level": "error", "msg": text, "time": time}))
        } else {
            plain.clone()
        };
        let file = fs_err::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        if file
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .is_err()
        {
            // Standard error still has it.
        }
    }
    let shown = if log.is_some() {
        format!("{text}\n")
    } else {
        plain
    };
    if std::io::stderr().write_all(shown.as_bytes()).is_err() {
        // Nobody reads.
    }
    // runc's exec ends with 255 when the process could not be started, everything else with 1.
    match invocation.map(|invocation| invocation.command.as_str()) {
        Some("exec") => ExitCode::from(255),
        _ => ExitCode::FAILURE,
    }
}
