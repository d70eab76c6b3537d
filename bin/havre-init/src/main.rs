//! The first process of a container that asks for one (`--init`): it starts the command, passes signals on, collects
//! orphans, and ends as the command ends. It is resident in each such container: no threads, no allocation at rest.
//!
//! `docker-init -- COMMAND ARGUMENTS…`. With a terminal it starts itself once more (`--foreground`), so that the
//! command's process group is in the terminal's foreground before the command runs.

mod command;

use std::env::args_os;
use std::ffi::{CStr, CString, OsString};
use std::io::{self, Write as _, stdin};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use havre_sys::process::Child;
use havre_sys::signal::{self, SIGNAL_MAX, SignalFd, SignalSet};
use havre_sys::spawn::{Program, Spawn};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, WaitOptions, WaitStatus, getpgrp, wait};
use rustix::termios::{isatty, tcsetpgrp};

/// Who passes these on would do so in a circle, or hide a fault of its own.
const KEPT: [Signal; 10] = [
    Signal::CHILD,
    Signal::TTIN,
    Signal::TTOU,
    Signal::FPE,
    Signal::ILL,
    Signal::SEGV,
    Signal::BUS,
    Signal::ABORT,
    Signal::TRAP,
    Signal::SYS,
];

fn main() -> ExitCode {
    let mut words = args_os();
    let own = words.next().unwrap_or_default();
    let first = words.next().unwrap_or_default();
    let result = match first.to_str() {
        Some("--version") => {
            return say(&format!(
                "havre-init version {}\n",
                env!("CARGO_PKG_VERSION")
            ));
        }
        Some("--foreground") => foreground(&words.collect::<Vec<_>>()),
        Some("--") => supervise(&own, words.collect()),
        _ => Err(Failure::usage()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Nobody else is there to be told.
            let text = format!("docker-init: {}\n", failure.text);
            io::stderr().write_all(text.as_bytes()).ok();
            ExitCode::from(failure.code)
        }
    }
}

fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_closed) => ExitCode::FAILURE,
    }
}

/// Why there is nothing to wait for.
#[derive(Debug)]
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    fn usage() -> Self {
        Self {
            text: "usage: docker-init -- COMMAND [ARGUMENT…]".to_owned(),
            code: 1,
        }
    }

    fn system(what: &str, error: &io::Error) -> Self {
        Self {
            text: format!("failed to {what}: {error}"),
            code: 1,
        }
    }

    /// As a shell says it: 127 for what is not there, 126 for what cannot be run.
    fn command(word: &OsString, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::NotFound {
            127
        } else {
            126
        };
        let said = error.to_string();
        let reason = said.split(" (os error").next().unwrap_or_default();
        Self {
            text: format!("exec {} failed: {reason}", word.to_string_lossy()),
            code,
        }
    }
}

/// Starts the command and stays until it has ended.
fn supervise(own: &OsString, words: Vec<OsString>) -> Result<u8, Failure> {
    if words.is_empty() {
        return Err(Failure::usage());
    }
    let passed: Vec<Signal> = (1..=SIGNAL_MAX)
        .filter_map(signal::from_raw)
        .filter(|signal| !KEPT.contains(signal) || *signal == Signal::CHILD)
        .collect();
    // Before the child: its end must not be missed. A background process that writes to the terminal is stopped
    // unless it blocks TTOU.
    let arrivals =
        SignalFd::new(&passed).map_err(|error| Failure::system("block signals", &error))?;
    signal::block(&SignalSet::of(&[Signal::TTIN, Signal::TTOU]))
        .map_err(|error| Failure::system("block signals", &error))?;
    let child = if isatty(stdin()) {
        let again = [own.clone(), "--foreground".into()];
        start_file(own, again.into_iter().chain(words).collect())?
    } else {
        command::candidates(&words, start)?
    };
    watch(&arrivals, &child)
}

fn start_file(path: &OsString, words: Vec<OsString>) -> Result<Child, Failure> {
    let failed = |error| Failure::command(path, &error);
    let file = command::text(path).map_err(failed)?;
    let argv = command::texts(words).map_err(failed)?;
    start(&file, argv).map_err(failed)
}

fn start(file: &CStr, argv: Vec<CString>) -> io::Result<Child> {
    Spawn::new(Program::Path(file), argv)
        .env(command::environment()?)
        .new_group()
        .spawn()
}

/// The second start: takes the terminal for its own group and becomes the command.
fn foreground(words: &[OsString]) -> Result<u8, Failure> {
    let failed = |error| Failure::system("take the terminal", &error);
    signal::block(&SignalSet::of(&[Signal::TTOU])).map_err(failed)?;
    // A terminal that is not ours to command is used as it is.
    tcsetpgrp(stdin(), getpgrp()).ok();
    signal::reset_all().map_err(failed)?;
    command::candidates(words, |file, argv| {
        Err(havre_sys::process::exec(
            file,
            &argv,
            &command::environment()?,
        ))
    })
}

/// Passes signals on and collects children until the command has ended.
fn watch(arrivals: &SignalFd, child: &Child) -> Result<u8, Failure> {
    let failed = |error: io::Error| Failure::system("wait", &error);
    loop {
        let mut fds = [PollFd::from_borrowed_fd(arrivals.as_fd(), PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        while let Some(arrived) = arrivals.read().map_err(failed)? {
            let Some(signal) = signal::from_raw(arrived.signal) else {
                continue;
            };
            if signal == Signal::CHILD {
                if let Some(code) = collect(child) {
                    return Ok(code);
                }
            } else {
                // It may have ended just now, which the next signal tells.
                child.kill(signal).ok();
            }
        }
    }
}

/// Collects all that have ended; the code to end with, if the command is among them.
fn collect(child: &Child) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child.pid {
            code = status_code(status).or(code);
        }
    }
    code
}

/// Exit code, or 128 and the signal. None for a process that only stopped.
fn status_code(status: WaitStatus) -> Option<u8> {
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))?;
    u8::try_from(code & 0xff).ok()
}
