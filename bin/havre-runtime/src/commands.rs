//! One function for each command of runc's command line.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use havre_cgroup::{Cgroup, Host};

use crate::arguments::Invocation;
use crate::output;
use crate::store::{Entry, Record, Store};

mod checkpoint;
mod exec;
mod info;
mod lifecycle;
mod signals;
mod update;

/// Does what the command line asks for.
pub(crate) fn dispatch(invocation: &Invocation) -> Result<ExitCode> {
    let store = Store::new(invocation.global.root.as_deref());
    let name = invocation.command.as_str();
    let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    match name {
        "run" => lifecycle::run(&store, invocation).context("havre-runtime run failed"),
        "create" => {
            done(lifecycle::create(&store, invocation)).context("havre-runtime create failed")
        }
        "exec" => exec::exec(&store, invocation).context("exec failed"),
        "start" => done(lifecycle::start(&store, invocation)),
        "kill" => done(lifecycle::kill(&store, invocation)),
        "delete" => done(lifecycle::delete(&store, invocation)),
        "state" => done(info::state(&store, invocation)),
        "list" => done(info::list(&store, invocation)),
        "ps" => done(info::ps(&store, invocation)),
        "events" => done(info::events(&store, invocation)),
        "pause" => done(lifecycle::pause(&store, invocation)),
        "resume" => done(lifecycle::resume(&store, invocation)),
        "update" => done(update::update(&store, invocation)),
        "features" => done(info::features()),
        "spec" => done(info::spec(invocation)),
        "version" => {
            output::print(&info::version());
            Ok(ExitCode::SUCCESS)
        }
        "checkpoint" => done(checkpoint::checkpoint(&store, invocation)),
        "restore" => checkpoint::restore(&store, invocation),
        _ => {
            output::print(info::HELP);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The container that the command line names, as it is now.
fn named(store: &Store, invocation: &Invocation) -> Result<(Entry, Record)> {
    let entry = store.find(invocation.id()?)?;
    let record = entry.look()?;
    Ok((entry, record))
}

fn cgroup_of(record: &Record) -> Result<Cgroup> {
    let host = Host::detect()?;
    Ok(Cgroup::open(&host, &record.cgroup)?)
}
