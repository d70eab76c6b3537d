//! The shim. `serve` is what our engine runs, with listening sockets at descriptors 3 and 4; containerd runs `start`
//! and `delete` with its own flags. Only parses and wires.

use std::env::{args_os, current_dir};
use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use havre_shim::containerd::{self, Invocation};
use havre_shim::{Listeners, ServeOptions, serve};
use havre_sys::fd::close_range_cloexec;
use havre_sys::prctl::personality;
use havre_sys::sched;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Descriptors of the listening sockets.
const TASK_FD: i32 = 3;
const ATTACH_FD: i32 = 4;

fn main() -> ExitCode {
    match run(args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("containerd-shim-havre-v2: {error:#}\n");
            if std::io::stderr().write_all(text.as_bytes()).is_err() {
                // Nobody is left to tell.
            }
            ExitCode::FAILURE
        }
    }
}

/// What was said on the command line. containerd writes its flags with one dash, and the command last.
#[derive(Debug, Default)]
struct Arguments {
    command: String,
    call: Invocation,
    socket: Option<PathBuf>,
    events: Option<PathBuf>,
    version: bool,
}

fn parse(words: impl Iterator<Item = OsString>) -> Result<Arguments> {
    let mut arguments = Arguments::default();
    let mut words = words;
    while let Some(word) = words.next() {
        let word = word
            .into_string()
            .ok()
            .context("an argument is not UTF-8")?;
        let Some(flag) = word.strip_prefix('-') else {
            arguments.command = word;
            continue;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, joined) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (flag, None),
        };
        match name {
            // `-info` asks for a protobuf on standard output, which containerd can do without.
            "debug" => continue,
            "v" | "version" => {
                arguments.version = true;
                continue;
            }
            _ => {}
        }
        let value = joined
            .or_else(|| words.next())
            .with_context(|| format!("-{name} needs a value"))?;
        let text = || {
            value
                .clone()
                .into_string()
                .ok()
                .with_context(|| format!("-{name} is not UTF-8"))
        };
        match name {
            "namespace" => arguments.call.namespace = text()?,
            "id" => arguments.call.id = text()?,
            "address" => arguments.call.address = text()?,
            "bundle" => arguments.call.bundle = value.into(),
            // Events go to containerd's ttrpc socket; no program is run for them.
            "publish-binary" | "socket" | "events" if value.is_empty() => {}
            "publish-binary" => {}
            "socket" => arguments.socket = Some(value.into()),
            "events" => arguments.events = Some(value.into()),
            _ => bail!("unknown flag -{name}"),
        }
    }
    if arguments.call.bundle.as_os_str().is_empty() {
        arguments.call.bundle = current_dir().context("failed to read the working directory")?;
    }
    Ok(arguments)
}

fn run(words: impl Iterator<Item = OsString>) -> Result<()> {
    let arguments = parse(words)?;
    let mut out = std::io::stdout();
    if arguments.version {
        return Ok(writeln!(
            out,
            "containerd-shim-havre-v2 {}",
            env!("CARGO_PKG_VERSION")
        )?);
    }
    match arguments.command.as_str() {
        "serve" => run_server(arguments),
        "start" => Ok(out.write_all(containerd::start(&arguments.call)?.as_bytes())?),
        "delete" => Ok(out.write_all(&containerd::delete(&arguments.call)?)?),
        "" => bail!("a command is missing: serve, start or delete"),
        other => bail!("unknown command `{other}`"),
    }
}

fn run_server(arguments: Arguments) -> Result<()> {
    // The numbers themselves stay open; they must not reach the container.
    close_range_cloexec(3).context("failed to close inherited descriptors on exec")?;
    forget_the_engine()?;
    let listeners = Listeners {
        task: inherited(TASK_FD)?,
        attach: if arguments.socket.is_none() {
            Some(inherited(ATTACH_FD)?)
        } else {
            None
        },
    };
    let Invocation {
        namespace,
        id,
        bundle,
        ..
    } = arguments.call;
    let options = ServeOptions {
        namespace,
        id,
        bundle,
        events: arguments.events,
        socket: arguments.socket,
    };
    Ok(serve(options, &listeners)?)
}

/// What somebody gave the engine, such as a nice value or a set of processors, is not meant for
/// containers.
fn forget_the_engine() -> Result<()> {
    match sched::reset() {
        // Without the right to it a process stays within what it was given.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        other => other.context("failed to reset the scheduling")?,
    }
    personality(0).context("failed to reset the personality")
}

/// An owned copy of a descriptor that our parent left at this number.
fn inherited(number: i32) -> Result<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    pidfd_getfd(&own, number, PidfdGetfdFlags::empty())
        .with_context(|| format!("descriptor {number} is not a listening socket"))
}
