//! After a start: every container of former runs is found again, and what no record names is removed.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use havre_cgroup::{Cgroup, Host};
use havre_dns::Zone;
use havre_network::EndpointSpec;
use havre_shim_proto::task::TaskStatus;
use havre_types::{ContainerId, Timestamp};
use tokio::task::JoinSet;

use crate::container::{Beginning, Exit, Fixed, KIND, Record, spawn_actor};
use crate::engine::{OpenError, Shared};
use crate::exec::Exec;
use crate::network::{self, End, Live};
use crate::shim::Shim;
use crate::state::Status;

/// A shim that does not answer in this time holds nobody up: its container is shown as it was (T10).
const ANSWER: Duration = Duration::from_secs(2);

/// Brings all containers back, then sweeps.
pub(crate) async fn restore(shared: &Arc<Shared>) -> Result<(), OpenError> {
    let documents = shared
        .meta
        .list(KIND)
        .map_err(|source| OpenError::Read { source })?;
    let mut known = BTreeSet::new();
    let mut checks = JoinSet::new();
    for document in documents {
        known.insert(document.id.clone());
        match Record::from_json(&document.body) {
            Ok(record) => {
                let shared = Arc::clone(shared);
                checks.spawn(async move {
                    let beginning = examine(&shared, &record).await;
                    (record, beginning)
                });
            }
            Err(reason) => {
                tracing::error!(
                    container = document.id,
                    reason,
                    "record cannot be read: left alone"
                );
            }
        }
    }
    let mut found = Vec::new();
    while let Some(checked) = checks.join_next().await {
        match checked {
            Ok(pair) => found.push(pair),
            Err(err) => tracing::error!(error = %err, "a container cannot be examined"),
        }
    }
    let live: BTreeSet<ContainerId> = found
        .iter()
        .filter(|(_, state)| matches!(state, Found::Running { .. }))
        .map(|(record, _)| record.fixed.id.clone())
        .collect();
    // Before any actor may start something of its own.
    let kept = Arc::clone(shared);
    let lost = shared
        .meta
        .has_lost(KIND)
        .map_err(|source| OpenError::Read { source })?;
    if lost {
        tracing::error!(
            "records of containers were damaged: what none names is kept and goes on running"
        );
    }
    let ended = found
        .iter()
        .filter(|(record, _)| !live.contains(&record.fixed.id));
    let elsewhere: Vec<PathBuf> = ended
        .filter(|(record, _)| !record.fixed.host_config.cgroup_parent.is_empty())
        .map(|(record, _)| group_of(shared, &record.fixed))
        .collect();
    let swept = tokio::task::spawn_blocking(move || {
        for group in elsewhere {
            sweep_group(&group);
        }
        sweep(&kept, &known, &live, lost);
    })
    .await;
    if let Err(err) = swept {
        tracing::error!(error = %err, "sweep failed");
    }
    for (record, state) in &mut found {
        if let Found::Running { .. } = state {
            record.state.live = adopt_networks(shared, record);
        }
    }
    adopt_plane(shared, &found).await;
    for (record, state) in found {
        enter(shared, record, state);
    }
    shared.names.recover(shared).await;
    Ok(())
}

/// What a running container has of networks, with its addresses and ports taken again.
fn adopt_networks(shared: &Arc<Shared>, record: &Record) -> Option<Arc<Live>> {
    let fixed = &record.fixed;
    let mut live = Live::read(&shared.places.bundle(&fixed.id))?;
    network::adopt(shared, fixed, &mut live);
    let zone = network::zone(shared, fixed, &live).unwrap_or_else(|error| {
        tracing::error!(container = %fixed.id, error = %error.message, "its name servers are not known");
        Zone::default()
    });
    shared.names.adopt(fixed.id.as_str(), &live, zone);
    Some(Arc::new(live))
}

/// Makes the kernel's rules and interfaces those of the containers that run, if an engine ever made any.
async fn adopt_plane(shared: &Arc<Shared>, found: &[(Record, Found)]) {
    let live = found
        .iter()
        .filter_map(|(record, _)| record.state.live.as_ref());
    let ends: Vec<EndpointSpec> = live
        .flat_map(|live| live.ends.iter().map(End::spec))
        .collect();
    if ends.is_empty() && !shared.networks.were_used() {
        return;
    }
    let kept = Arc::clone(shared);
    let opened = crate::images::blocking(move || kept.networks.plane_with(ends).map(drop));
    if let Err(error) = opened.await {
        tracing::error!(error = %error.message, "networks are not as they should be");
    }
}

/// Puts one container back, or ends the removal that a crash interrupted.
fn enter(shared: &Arc<Shared>, mut record: Record, found: Found) {
    let id = record.fixed.id.clone();
    if let Err(err) = shared.registry.names.reserve(&record.fixed.name, &id) {
        tracing::error!(container = %id, error = %err.message, "two records have one name: this one goes by its id");
    }
    let half_removed = matches!(record.state.status, Status::Removing);
    let beginning = match found {
        Found::Running {
            shim,
            pid,
            started,
            paused,
            execs,
        } => {
            if record.state.pid != pid || !record.state.status.is_live() {
                // A start that was not written down any more.
                record.state.started_at = started;
                record.state.stopped_by_user = false;
            }
            record.state.status = if paused {
                Status::Paused
            } else {
                Status::Running
            };
            record.state.pid = pid;
            let container = spawn_actor(shared, record, Beginning::Running(shim));
            crate::exec::enter(shared, &container, execs);
            return;
        }
        Found::Ended(exit) => {
            if !record.state.status.is_live() {
                record.state.stopped_by_user = false;
            }
            record.state.status = Status::Running;
            if record.state.started_at.is_zero() {
                record.state.started_at = exit.exited_at;
            }
            Beginning::Ended(exit)
        }
        Found::Nothing => {
            if record.state.status.has_process() {
                let was_running = record.state.status.is_live();
                if was_running {
                    // Without bundle and shim, the host went down with the container.
                    let exit = Exit {
                        exit_status: 255,
                        ..Exit::unseen()
                    };
                    spawn_actor(shared, record, Beginning::Ended(exit));
                    return;
                }
                record.state.status = Status::Created;
            }
            let ended = matches!(record.state.status, Status::Exited);
            if half_removed || (ended && record.fixed.host_config.auto_remove) {
                forget(shared, &record);
                return;
            }
            Beginning::AtRest
        }
    };
    spawn_actor(shared, record, beginning);
}

fn forget(shared: &Arc<Shared>, record: &Record) {
    let id = record.fixed.id.clone();
    shared.registry.names.release(&record.fixed.name, &id);
    shared.announce(&record.fixed, "destroy", &[]);
    let pending = shared.meta.delete(KIND, id.as_str());
    let kept = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let removed = tokio::task::spawn_blocking(move || remove_files(&kept, &id)).await;
        if pending.await.is_err() || !matches!(removed, Ok(Ok(()))) {
            tracing::warn!("a removed container is left for the next start");
        }
    });
}

/// What is left of a container's last run.
enum Found {
    Running {
        shim: Arc<Shim>,
        pid: u32,
        started: Timestamp,
        paused: bool,
        execs: Vec<Arc<Exec>>,
    },
    Ended(Exit),
    Nothing,
}

async fn examine(shared: &Shared, record: &Record) -> Found {
    let id = &record.fixed.id;
    let bundle = shared.places.bundle(id);
    if !bundle.exists() {
        return Found::Nothing;
    }
    let state = &record.state;
    let found = match examine_bundle(record, id, &bundle).await {
        // This end has been recorded; only the bundle was left.
        Found::Ended(exit)
            if !state.status.has_process() && state.finished_at == exit.exited_at =>
        {
            Found::Nothing
        }
        other => other,
    };
    if matches!(found, Found::Nothing)
        && let Err(err) = fs_err::remove_dir_all(&bundle)
    {
        tracing::warn!(container = %id, error = %err, "old bundle is left for the next start");
    }
    found
}

async fn examine_bundle(record: &Record, id: &ContainerId, bundle: &Path) -> Found {
    let connected = Shim::reconnect(id.clone(), bundle.to_owned()).await;
    let Ok(shim) = connected else {
        // Nothing can be asked of it any more, if it still is there.
        crate::shim::kill_left(id, bundle);
        return left_behind(record, bundle);
    };
    let shim = Arc::new(shim);
    match tokio::time::timeout(ANSWER, shim.state("")).await {
        Ok(Ok(state)) => {
            let status = TaskStatus::try_from(state.status).unwrap_or(TaskStatus::Unknown);
            match status {
                TaskStatus::Running | TaskStatus::Paused | TaskStatus::Pausing => Found::Running {
                    execs: crate::exec::recover(id, bundle, &shim).await,
                    shim,
                    pid: state.pid,
                    started: started_at(bundle),
                    paused: status != TaskStatus::Running,
                },
                TaskStatus::Stopped => {
                    let exit = shim.exit().await.unwrap_or_else(Exit::unseen);
                    shim.finish().await;
                    Found::Ended(exit)
                }
                // Created but never let go: the start was not acknowledged.
                TaskStatus::Created | TaskStatus::Unknown => {
                    shim.finish().await;
                    Found::Nothing
                }
            }
        }
        // The shim lives and does not know a container: killed between its start and Create.
        Ok(Err(_unknown)) => {
            shim.finish().await;
            left_behind(record, bundle)
        }
        // It lives and does not answer. Its container is shown as running; operations on it run into deadlines.
        Err(_elapsed) => {
            tracing::warn!(container = %id, "shim does not answer");
            Found::Running {
                execs: Vec::new(),
                shim,
                pid: record.state.pid,
                started: started_at(bundle),
                paused: record.state.status == Status::Paused,
            }
        }
    }
}

/// Nobody listens: the exit record tells, or else the shim was killed, and the container with it.
fn left_behind(record: &Record, bundle: &Path) -> Found {
    if let Some(exit) = Exit::read(bundle) {
        return Found::Ended(exit);
    }
    match record.state.status {
        Status::Running | Status::Paused | Status::Restarting => Found::Ended(Exit::unseen()),
        _ => Found::Nothing,
    }
}

/// When the process was made, as the shim wrote it down.
fn started_at(bundle: &Path) -> Timestamp {
    let written = fs_err::metadata(bundle.join("init.pid")).and_then(|meta| meta.modified());
    written.map_or_else(|_unknown| Timestamp::now(), Into::into)
}

/// Removes what no record names: bundles, data directories, layers, cgroups.
/// With `lost` records it may be all that is left of a container, so that it stays.
fn sweep(shared: &Shared, known: &BTreeSet<String>, live: &BTreeSet<ContainerId>, lost: bool) {
    sweep_cgroups(shared, |id| {
        !live.contains(id) && (!lost || known.contains(id.as_str()))
    });
    if lost {
        return;
    }
    let stale = |root: &Path| -> Vec<ContainerId> {
        let Ok(entries) = fs_err::read_dir(root) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| ContainerId::parse(entry.file_name().to_str()?).ok())
            .filter(|id| !known.contains(id.as_str()))
            .collect()
    };
    let mut orphans: BTreeSet<ContainerId> =
        stale(&shared.places.all_bundles()).into_iter().collect();
    orphans.extend(stale(&shared.places.all_data()));
    for info in shared.snapshots.walk() {
        if let Ok(id) = ContainerId::parse(&info.key)
            && !known.contains(id.as_str())
        {
            orphans.insert(id);
        }
    }
    for id in orphans {
        tracing::info!(container = %id, "what was left of a container is removed");
        // Its record went first; the engine died before it could end the shim.
        let bundle = shared.places.bundle(&id);
        crate::shim::kill_left(&id, &bundle);
        if let Some(group) = written_group(&bundle) {
            sweep_group(&group);
        }
        if let Err(err) = remove_files(shared, &id) {
            tracing::warn!(container = %id, error = %err, "left-over files cannot be removed");
        }
    }
}

/// Ends processes that no shim answers for, and removes their cgroups.
fn sweep_cgroups(shared: &Shared, is_left: impl Fn(&ContainerId) -> bool) {
    let parent = Path::new("/").join(&shared.facts.cgroup_parent);
    let Ok(host) = Host::detect() else { return };
    let Ok(group) = Cgroup::open(&host, &parent) else {
        return;
    };
    let mut left = BTreeSet::new();
    for (_, directory) in group.directories() {
        let Ok(entries) = fs_err::read_dir(directory) else {
            continue;
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        left.extend(names.filter_map(|name| ContainerId::parse(&name).ok()));
    }
    for id in left.iter().filter(|id| is_left(id)) {
        sweep_group(&parent.join(id.as_str()));
    }
}

/// Ends what runs in one group and removes it.
fn sweep_group(path: &Path) {
    let host = match Host::detect() {
        Ok(host) => host,
        Err(err) => {
            tracing::warn!(error = %err, "cgroups cannot be found");
            return;
        }
    };
    let Ok(cgroup) = Cgroup::open(&host, path) else {
        return;
    };
    if let Err(err) = cgroup.kill_all().and_then(|()| cgroup.delete()) {
        tracing::warn!(cgroup = %path.display(), error = %err, "left-over cgroup cannot be removed");
    }
    host.remove_empty(path);
}

fn group_of(shared: &Shared, fixed: &Fixed) -> PathBuf {
    crate::plan::cgroup_path(&fixed.host_config, &shared.facts, &fixed.id)
}

/// The group that a bundle's specification names; for a container without a record, which may have chosen its own.
fn written_group(bundle: &Path) -> Option<PathBuf> {
    let spec = fs_err::read(bundle.join("config.json")).ok()?;
    let spec: serde_json::Value = serde_json::from_slice(&spec).ok()?;
    spec["linux"]["cgroupsPath"].as_str().map(PathBuf::from)
}

/// Ends what still runs in a container's cgroup and removes it: its shim could not.
pub(crate) async fn end_group(shared: &Arc<Shared>, fixed: &Fixed) {
    let group = group_of(shared, fixed);
    let swept = tokio::task::spawn_blocking(move || sweep_group(&group));
    if let Err(err) = swept.await {
        tracing::error!(error = %err, "sweep of a cgroup failed");
    }
}

/// Removes the parent of all cgroups when no container is in it.
pub(crate) fn remove_parent(shared: &Shared) {
    let parent = Path::new("/").join(&shared.facts.cgroup_parent);
    let Ok(host) = Host::detect() else { return };
    let Ok(group) = Cgroup::open(&host, &parent) else {
        return;
    };
    if let Err(err) = group.delete() {
        tracing::debug!(error = %err, "the cgroup of all containers stays");
    }
    host.remove_empty(&parent);
}

/// Removes all files of a container; those that are gone are no error.
pub(crate) fn remove_files(shared: &Shared, id: &ContainerId) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    gone(fs_err::remove_dir_all(shared.places.bundle(id)))?;
    gone(fs_err::remove_dir_all(shared.places.data(id)))?;
    match shared.snapshots.remove(id.as_str()) {
        Ok(()) | Err(havre_snapshot::SnapshotError::NotFound { .. }) => Ok(()),
        Err(err) => Err(io::Error::other(havre_types::chain(&err))),
    }
}
