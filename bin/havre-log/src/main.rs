//! The shim's helper, a process of its own so that TLS and compression stay out of the shim. `sink` delivers the records
//! that come from descriptor 3 (descriptor 4 holds the last ones); `gzip` compresses from standard input to standard
//! output, both regular files. Only parses and wires.

use std::env::args_os;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use fs_err::File;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::stdio::{stdin, stdout};

/// The connection to the shim.
const SHIM_FD: i32 = 3;
/// What the shim could not hand over before it ended.
const REST_FD: i32 = 4;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("havre-log: {error:#}\n");
            if std::io::stderr().write_all(text.as_bytes()).is_err() {
                // Nobody is left to tell.
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let word = args_os().nth(1).unwrap_or_default();
    match word.to_str() {
        Some("sink") => {
            havre_sys::fd::close_range_cloexec(3).context("failed to keep descriptors private")?;
            Ok(havre_sinks::serve(
                inherited(SHIM_FD)?,
                inherited(REST_FD)?,
            )?)
        }
        Some("gzip") => {
            let input = File::from_parts(fcntl_dupfd_cloexec(stdin(), 3)?.into(), "input");
            let output = File::from_parts(fcntl_dupfd_cloexec(stdout(), 3)?.into(), "output");
            Ok(havre_logs::compress::compress(&input, &output)?)
        }
        _ => bail!("a command is missing: sink or gzip"),
    }
}

/// An owned copy of a descriptor that our parent left at this number.
fn inherited(number: i32) -> Result<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    pidfd_getfd(&own, number, PidfdGetfdFlags::empty())
        .with_context(|| format!("descriptor {number} is not there"))
}
