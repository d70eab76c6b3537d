//! checkpoint and restore, with runc's flags
//! (<https://github.com/opencontainers/runc/blob/main/checkpoint.go>).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use havre_cgroup::Host;
use havre_runtime_core::{
    CgroupsMode, Checkpoint, CriuOptions, Delete, Gate, Restore, Status, checkpoint as dump,
    delete as delete_container, restore as bring_back,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use crate::arguments::Invocation;
use crate::commands::lifecycle::{self, Bundle};
use crate::commands::{cgroup_of, named};
use crate::protect;
use crate::store::{Entry, Record, Store};

/// How long processes that CRIU has killed may take to be gone.
const END: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

fn options(invocation: &Invocation) -> Result<CriuOptions> {
    for flag in ["lazy-pages", "status-fd"] {
        if invocation.has(flag) {
            bail!("--{flag} is not supported: memory is always restored before the container runs");
        }
    }
    for name in invocation.values("empty-ns") {
        if name != "network" {
            bail!("namespace {name:?} is not supported");
        }
    }
    let cgroups = match invocation.text("manage-cgroups-mode")?.unwrap_or_default() {
        "" | "ignore" => CgroupsMode::Ignore,
        "soft" => CgroupsMode::Soft,
        "full" => CgroupsMode::Full,
        "strict" => CgroupsMode::Strict,
        _ => bail!("invalid manage-cgroups-mode value"),
    };
    let text = |name| Ok::<_, anyhow::Error>(invocation.text(name)?.map(str::to_owned));
    Ok(CriuOptions {
        program: invocation.global.criu.clone(),
        work: invocation.value("work-path").map(PathBuf::from),
        tcp_established: invocation.has("tcp-established"),
        tcp_skip_in_flight: invocation.has("tcp-skip-in-flight"),
        ext_unix_sk: invocation.has("ext-unix-sk"),
        shell_job: invocation.has("shell-job"),
        file_locks: invocation.has("file-locks"),
        link_remap: invocation.has("link-remap"),
        auto_dedup: invocation.has("auto-dedup"),
        empty_network: invocation.values("empty-ns").next().is_some(),
        cgroups,
        lsm_profile: text("lsm-profile")?,
        lsm_mount_context: text("lsm-mount-context")?,
    })
}

fn image_path(invocation: &Invocation) -> Result<PathBuf> {
    let path = Path::new(
        invocation
            .value("image-path")
            .unwrap_or("checkpoint".as_ref()),
    );
    Ok(std::path::absolute(path)?)
}

pub(super) fn checkpoint(store: &Store, invocation: &Invocation) -> Result<()> {
    let (entry, record) = named(store, invocation)?;
    match record.state.status {
        Status::Running | Status::Paused => {}
        status => bail!(
            "Container cannot be checkpointed in {} state",
            format!("{status:?}").to_lowercase()
        ),
    }
    let parent = invocation.text("parent-path")?;
    if parent.is_some_and(|path| Path::new(path).is_absolute()) {
        bail!("--parent-path must be relative");
    }
    let page_server = invocation.text("page-server")?.map(address).transpose()?;
    let pre_dump = invocation.has("pre-dump");
    let leave_running = invocation.has("leave-running") || pre_dump;
    dump(&Checkpoint {
        bundle: &record.state.bundle,
        spec: &entry.spec()?,
        init_pid: Pid::from_raw(record.state.pid).context("container not running")?,
        cgroup: &cgroup_of(&record)?,
        images: &image_path(invocation)?,
        leave_running,
        pre_dump,
        parent,
        page_server,
        descriptors: &record.descriptors,
        options: &options(invocation)?,
    })?;
    if leave_running {
        return Ok(());
    }
    remove(&entry, &record)
}

/// The processes are gone, and so is the container.
fn remove(entry: &Entry, record: &Record) -> Result<()> {
    if let Ok(pidfd) = lifecycle::pidfd_of(record) {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        if poll(&mut fds, Some(&END)).context("failed to wait for the container")? == 0 {
            bail!("the container does not end");
        }
    }
    let spec = entry.spec()?;
    let cgroup = cgroup_of(record).ok();
    let removed = delete_container(&Delete {
        id: &record.state.id,
        bundle: &record.state.bundle,
        spec: &spec,
        cgroup: cgroup.as_ref(),
    });
    entry.remove()?;
    Ok(removed?)
}

fn address(text: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let Some((host, port)) = parts else {
        bail!("Use --page-server ADDRESS:PORT to specify page server");
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((
        host.to_owned(),
        port.parse().context("Invalid port number")?,
    ))
}

pub(super) fn restore(store: &Store, invocation: &Invocation) -> Result<ExitCode> {
    protect::executable()?;
    let bundle = Bundle::read(invocation)?;
    lifecycle::check_console(invocation, &bundle)?;
    let entry = store.reserve(invocation.id()?)?;
    let made = restore_in(&entry, invocation, &bundle);
    match made {
        Ok(created) => lifecycle::accompany(invocation, &bundle, &entry, created),
        Err(error) => {
            entry.remove()?;
            Err(error)
        }
    }
}

fn restore_in(
    entry: &Entry,
    invocation: &Invocation,
    bundle: &Bundle,
) -> Result<havre_runtime_core::Created> {
    let host = Host::detect()?;
    let create = lifecycle::request(invocation, bundle, &host, Gate::Open)?;
    let id = create.id;
    let created = bring_back(&Restore {
        create,
        images: &image_path(invocation)?,
        options: &options(invocation)?,
    })?;
    let recorded = bundle.record(entry, id, created.pid(), created.cgroup());
    lifecycle::hand_out(invocation, created, recorded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_has_an_address_and_a_port() {
        assert_eq!(address("10.0.0.1:27").unwrap(), ("10.0.0.1".to_owned(), 27));
        assert_eq!(address("[fe80::1]:27").unwrap(), ("fe80::1".to_owned(), 27));
        for bad in ["", ":1", "host", "host:", "host:99999"] {
            address(bad).unwrap_err();
        }
    }
}
