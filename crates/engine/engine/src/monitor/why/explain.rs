//! From what is known of a container to one paragraph: a pure function.

mod start;

use havre_engine_types::WhyResponse;
use havre_types::size;

use super::program::Program;
use crate::container::State;
use crate::state::Status;

use start::start_error;

/// What is known of a container.
#[derive(Clone, Debug)]
pub(super) struct Known<'a> {
    pub name: &'a str,
    pub state: &'a State,
    /// The word of the command that names its program.
    pub command: &'a str,
    /// The memory limit in bytes; 0 without one.
    pub limit: u64,
    /// `no`, `always` …
    pub policy: &'a str,
    pub max_retries: i64,
    pub image_gone: bool,
    pub stop_signal: &'a str,
    pub program: Program,
    /// As Rust names it.
    pub host: &'a str,
    /// The last lines of its output.
    pub lines: &'a [String],
}

/// A finding: what happened, and what may help.
struct Finding {
    cause: String,
    advice: String,
}

fn finding(cause: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding {
        cause: cause.into(),
        advice: advice.into(),
    }
}

/// Says why.
pub(super) fn explain(known: &Known<'_>) -> WhyResponse {
    let mut findings = Vec::new();
    let state = known.state;
    let opening = opening(known);
    match state.status {
        Status::Running | Status::Paused => findings.extend(health(known)),
        Status::Created
        | Status::Starting
        | Status::Removing
        | Status::Dead
        | Status::Exited
        | Status::Restarting => {}
    }
    if let Some(error) = state.start_error() {
        findings.push(start_error(known, error));
    } else if matches!(state.status, Status::Exited | Status::Restarting) {
        findings.extend(end(known));
        if state.shim_was_silent() {
            findings.push(finding(state.error.as_str(), ""));
        }
        findings.extend(output(known));
        if findings.is_empty() && state.exit_code != 0 {
            findings.push(finding(
                "that number is the program's own",
                format!("what it printed last may tell: `logs {}`", known.name),
            ));
        }
    }
    if state.status == Status::Restarting {
        findings.push(finding(
            format!(
                "the restart policy `{}` starts it again, each time a little later, up to a minute; it has been started again {} times",
                known.policy, state.restart_count
            ),
            format!("`update --restart no {}` ends the loop", known.name),
        ));
    } else if gave_up(known) {
        findings.push(finding(
            format!(
                "the restart policy gave up after {} attempts",
                state.restart_count
            ),
            "",
        ));
    }
    if known.image_gone {
        findings.push(finding(
            "its image is no longer in the store",
            "pull or load the image again before another container is made from it",
        ));
    }
    compose(&opening, findings)
}

fn gave_up(known: &Known<'_>) -> bool {
    known.state.status == Status::Exited
        && known.max_retries > 0
        && i64::from(known.state.restart_count) >= known.max_retries
}

/// One paragraph, and the same in parts.
fn compose(opening: &str, findings: Vec<Finding>) -> WhyResponse {
    let mut summary = opening.to_owned();
    let (causes, advice): (Vec<_>, Vec<_>) =
        findings.into_iter().map(|f| (f.cause, f.advice)).unzip();
    let advice: Vec<String> = advice.into_iter().filter(|text| !text.is_empty()).collect();
    if !causes.is_empty() {
        summary.push_str(": ");
        summary.push_str(&causes.join("; "));
    }
    summary.push('.');
    for text in &advice {
        summary.push(' ');
        let mut letters = text.chars();
        let first = letters.next().map(|c| c.to_uppercase().to_string());
        summary.push_str(&first.unwrap_or_default());
        summary.push_str(letters.as_str());
        summary.push('.');
    }
    WhyResponse {
        summary,
        causes,
        advice,
    }
}

fn opening(known: &Known<'_>) -> String {
    let (name, state) = (known.name, known.state);
    let code = state.exit_code;
    match state.status {
        Status::Running => match state.health.as_ref().map(|health| health.status.as_str()) {
            Some("unhealthy") => format!("{name} runs, but its health check fails"),
            Some("starting") => format!("{name} runs, and its health check has not succeeded yet"),
            Some(_) => format!("{name} runs and is healthy"),
            None => format!("{name} runs, and nothing is known to be wrong with it"),
        },
        Status::Paused => format!("{name} is paused: `unpause {name}` lets it go on"),
        Status::Removing => format!("{name} is being removed"),
        Status::Dead => {
            format!("the removal of {name} failed half-way: `rm -f {name}` tries it again")
        }
        Status::Starting => format!("{name} is being started"),
        Status::Restarting if state.start_error().is_none() => {
            format!("{name} ended with exit code {code} and waits to be started again")
        }
        _ if state.start_error().is_some() => format!("{name} could not be started"),
        Status::Created => format!("{name} has never been started"),
        Status::Exited | Status::Restarting => match code {
            0 => format!("{name} ended with exit code 0, which means success"),
            _ => format!("{name} ended with exit code {code}"),
        },
    }
}

fn health(known: &Known<'_>) -> Option<Finding> {
    let health = known.state.health.as_ref()?;
    let last = health.log.as_ref()?.last()?;
    if last.exit_code == 0 || known.state.status == Status::Paused {
        return None;
    }
    let said = one_line(&last.output);
    let said = if said.is_empty() {
        "it printed nothing".to_owned()
    } else {
        format!("it said: {said}")
    };
    let cause = format!(
        "{} checks in a row have failed, the last with exit code {}; {said}",
        health.failing_streak, last.exit_code
    );
    Some(finding(
        cause,
        format!(
            "run the check by hand with `exec {}`; `inspect` shows the last five results",
            known.name
        ),
    ))
}

// === why it ended ===

fn end(known: &Known<'_>) -> Option<Finding> {
    let state = known.state;
    if state.oom_killed {
        return Some(out_of_memory(known));
    }
    if state.stopped_by_user {
        return Some(by_user(known));
    }
    match state.exit_code {
        0 => Some(finding(
            "its program came to its end by itself",
            if matches!(known.policy, "" | "no") {
                "a container lives as long as its program: one that should stay must not go to the background"
            } else {
                ""
            },
        )),
        125 => None,
        126 => Some(finding(
            "exit code 126 is how a shell says that a command was found and could not be run",
            "check the rights and the kind of the file",
        )),
        127 => Some(finding(
            "exit code 127 is how a shell says that a command, or a library of it, was not found",
            "",
        )),
        255 => Some(finding(
            "exit code 255 is the program's own, or it ran when the host went down",
            "",
        )),
        code @ 129..=192 => Some(by_signal(code - 128)),
        _ => None,
    }
}

fn out_of_memory(known: &Known<'_>) -> Finding {
    let peak = match known.state.memory_peak {
        0 => String::new(),
        peak => format!(", at most it used {}", size::human_binary(peak)),
    };
    if known.limit == 0 {
        return finding(
            format!("the kernel killed a process of it because the host had no memory left{peak}"),
            "give the host more memory, run less on it, or limit containers with --memory",
        );
    }
    let limit = size::human_binary(known.limit);
    finding(
        format!(
            "the kernel killed a process of it because it reached its memory limit of {limit}{peak}"
        ),
        format!(
            "raise the limit (`update --memory … {}`), or make the program use less",
            known.name
        ),
    )
}

fn by_user(known: &Known<'_>) -> Finding {
    let signal = if known.stop_signal.is_empty() {
        "SIGTERM"
    } else {
        known.stop_signal
    };
    match known.state.exit_code {
        137 => finding(
            format!(
                "it was killed on request, by `kill`, or by `stop` after it had not ended on {signal} in time"
            ),
            format!(
                "if `stop` takes long: the program must handle {signal}; `--init` helps one that runs as process 1 and does not"
            ),
        ),
        143 => finding("it was ended on request (SIGTERM)", ""),
        _ => finding("it was ended on request, by `stop` or `kill`", ""),
    }
}

fn by_signal(signal: i64) -> Finding {
    let (name, cause, advice) = match signal {
        1 => ("SIGHUP", "its terminal or its parent went away", ""),
        2 => ("SIGINT", "somebody interrupted it, as Ctrl-C does", ""),
        3 => ("SIGQUIT", "somebody asked it to quit with a core dump", ""),
        4 => (
            "SIGILL",
            "it executed an instruction that this processor does not have",
            "use a build for this processor",
        ),
        6 => (
            "SIGABRT",
            "it gave up by itself, after a failed assertion or a damaged heap",
            "",
        ),
        7 => (
            "SIGBUS",
            "it touched memory behind which there was no file or no page",
            "check that /dev/shm is large enough (`--shm-size`)",
        ),
        8 => (
            "SIGFPE",
            "it made an impossible calculation, such as a division by zero",
            "",
        ),
        9 => (
            "SIGKILL",
            "it was killed from outside, and not by this engine for a user",
            "look into the host's kernel log for its out-of-memory killer, and for who else may have killed it",
        ),
        11 => (
            "SIGSEGV",
            "it touched memory that it does not have: a fault of the program",
            "",
        ),
        13 => (
            "SIGPIPE",
            "it wrote to a pipe that nobody reads any more",
            "",
        ),
        15 => (
            "SIGTERM",
            "it was asked to end, and not by this engine for a user",
            "",
        ),
        24 | 25 => (
            "SIGXCPU or SIGXFSZ",
            "it reached a limit of time or file size",
            "see `--ulimit`",
        ),
        31 => (
            "SIGSYS",
            "it made a system call that the seccomp profile forbids",
            "see `--security-opt seccomp=…`",
        ),
        _ => ("a signal", "", ""),
    };
    let cause = if cause.is_empty() {
        format!("signal {signal} ended it")
    } else {
        format!("signal {signal} ({name}) ended it: {cause}")
    };
    finding(cause, advice)
}

/// What the last lines of the output give away.
fn output(known: &Known<'_>) -> Option<Finding> {
    if known.state.exit_code == 0 || known.state.stopped_by_user {
        return None;
    }
    let line = known
        .lines
        .iter()
        .rev()
        .find(|line| !line.trim().is_empty())?;
    let has = |text: &str| known.lines.iter().any(|line| line.contains(text));
    let advice = if has("No space left on device") {
        "the disk is full: `system df` shows what takes the space: remove what is unused"
    } else if has("error while loading shared libraries") || has("Error loading shared library") {
        "a library is missing: install the package that has it in the image"
    } else if has("Exec format error") || has("exec format error") {
        "a program is made for another kind of processor, or a script has no `#!` line"
    } else if has("Read-only file system") {
        "it writes where it may not: mount a volume or a tmpfs there, or run it without --read-only"
    } else if has("ddress already in use") {
        "another process has the port that it wants"
    } else if has("Operation not permitted") {
        "it lacks a right: see `--cap-add` and `--security-opt`"
    } else if has("Permission denied") || has("permission denied") {
        "it lacks a right to a file: check the owner of mounted directories against the container's user"
    } else if has("Connection refused")
        || has("could not resolve")
        || has("Name or service not known")
    {
        "it did not reach another service: check that it runs, and on which network"
    } else {
        ""
    };
    Some(finding(
        format!("its last words were: {}", one_line(line)),
        advice,
    ))
}

/// Text of a program in one line, without what would move a terminal's cursor.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let text = text.trim();
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    if text.chars().count() > LONGEST {
        line.push('…');
    }
    line.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
