//! The companion of an engine: answers the containers' DNS queries and relays published ports, also while the engine is away.
//! Started by the engine with its control socket as descriptor 3, in the engine's directory of running things. Only parses
//! and wires.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use havre_dns::client::LISTENER_FD;
use havre_dns::resolvconf::HOST_FILE;
use havre_dns::server::{Settings, run};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getpid, getrlimit, pidfd_getfd, pidfd_open,
    setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

/// How long it stays with nothing to serve and no engine.
const LINGER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("havre-net: {error:#}\n");
            if std::io::stderr().write_all(text.as_bytes()).is_err() {
                // Nobody is left to tell.
            }
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    havre_sys::fd::close_range_cloexec(3).context("failed to keep descriptors private")?;
    let listener = inherited(LISTENER_FD)?;
    let directory = open(".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("failed to open the working directory")?;
    raise_descriptors().context("failed to raise the number of descriptors")?;
    give_up_rights().context("failed to give up rights")?;
    let settings = Settings {
        directory,
        resolv_conf: PathBuf::from(HOST_FILE),
        linger: LINGER,
    };
    Ok(run(listener, settings)?)
}

/// Each container has two sockets here, each query on its way one more.
fn raise_descriptors() -> rustix::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
}

/// Of all rights of root it needs those to enter a container's network for a socket; whoever talks it into more than it
/// should do has no others.
fn give_up_rights() -> rustix::io::Result<()> {
    let kept = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    let own = capabilities(None)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: own.effective & kept,
            permitted: own.permitted & kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    set_no_new_privs(true)
}

/// An owned copy of a descriptor that our parent left at this number.
fn inherited(number: i32) -> Result<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    pidfd_getfd(&own, number, PidfdGetfdFlags::empty())
        .with_context(|| format!("descriptor {number} is not there"))
}
