//! Everything about one container, from its snapshot.

use std::sync::Arc;

use havre_api_traits::ApiResult;
use havre_engine_types::{ContainerInspect, ContainerState, DriverData, MountPoint};

use super::join;
use super::record::{Fixed, State};
use super::registry::Container;
use crate::engine::Shared;
use crate::network;
use crate::plan::{self, MountKind};
use crate::state::Status;

pub(super) fn inspect(
    shared: &Arc<Shared>,
    container: &Container,
    size: bool,
) -> ApiResult<ContainerInspect> {
    let view = container.now();
    let (fixed, state) = (&*view.fixed, &view.state);
    // A donor that is gone left nothing to show.
    let donor = join::donor(&shared.registry, fixed).ok().flatten();
    let data = shared
        .places
        .data(donor.as_ref().map_or(&fixed.id, |donor| &donor.id));
    let file = |name: &str| data.join(name).display().to_string();
    let mut words = fixed.command().into_iter();
    let usage = if size {
        shared.snapshots.usage(fixed.id.as_str()).ok()
    } else {
        None
    };
    let own = usage.and_then(|usage| i64::try_from(usage.bytes).ok());
    let image_size = shared
        .images
        .get(&fixed.image)
        .and_then(|i| i64::try_from(i.size).ok());
    let logs_to_file = fixed.host_config.log_config.kind == "json-file";
    let started = !state.started_at.is_zero();
    Ok(ContainerInspect {
        id: fixed.id.to_string(),
        created: fixed.created,
        path: words.next().unwrap_or_default(),
        args: words.collect(),
        state: docker_state(state),
        image: fixed.image.to_string(),
        resolv_conf_path: if started {
            file("resolv.conf")
        } else {
            String::new()
        },
        hostname_path: if started {
            file("hostname")
        } else {
            String::new()
        },
        hosts_path: if started {
            file("hosts")
        } else {
            String::new()
        },
        log_path: if logs_to_file && started {
            shared
                .places
                .log(&fixed.id, "json-file")
                .display()
                .to_string()
        } else {
            String::new()
        },
        name: format!("/{}", fixed.name),
        restart_count: state.restart_count.into(),
        driver: shared.snapshots.driver().to_owned(),
        platform: fixed.platform.clone(),
        mount_label: String::new(),
        process_label: String::new(),
        app_armor_profile: String::new(),
        exec_ids: shared.execs.ids_of(&fixed.id),
        host_config: fixed.host_config.clone(),
        graph_driver: Some(DriverData {
            data: None,
            name: shared.snapshots.driver().to_owned(),
        }),
        size_rw: own,
        size_root_fs: own.map(|own| own + image_size.unwrap_or(0)),
        mounts: mount_points(fixed),
        config: shown_config(fixed),
        network_settings: network::shown(shared, fixed, state.live.as_deref(), state.pid),
        image_manifest_descriptor: None,
    })
}

/// Docker writes the host name down that the container gets by default.
fn shown_config(fixed: &Fixed) -> havre_engine_types::ContainerConfig {
    let mut config = fixed.config.clone();
    if config.hostname.is_empty() && fixed.host_config.uts_mode != "host" {
        fixed.id.short().clone_into(&mut config.hostname);
    }
    config
}

fn docker_state(state: &State) -> ContainerState {
    ContainerState {
        status: state.docker_status().to_owned(),
        running: state.status.is_running(),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid.into(),
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: state.started_at,
        finished_at: state.finished_at,
        health: state.health.clone(),
    }
}

/// The user's mounts as they were planned, by destination; they were checked when the container was made. What
/// `--tmpfs` makes is none of them.
pub(super) fn mount_points(fixed: &Fixed) -> Vec<MountPoint> {
    let host = &fixed.host_config;
    // The plan keeps the order: the short forms first, whose options are shown as they were given.
    let short = host.binds.iter().flatten();
    let modes = short.map(|bind| bind.splitn(3, ':').nth(2).unwrap_or("").to_owned());
    let long = host.mounts.iter().flatten().map(|_| String::new());
    let planned = plan::user_mounts(host).unwrap_or_default().into_iter();
    let mut points: Vec<MountPoint> = planned
        .zip(modes.chain(long))
        .map(|(mount, mode)| {
            let (kind, source, propagation) = match mount.kind {
                MountKind::Bind {
                    source,
                    propagation,
                    ..
                } => ("bind", source.display().to_string(), propagation),
                MountKind::Tmpfs { .. } => ("tmpfs", String::new(), String::new()),
            };
            MountPoint {
                kind: kind.to_owned(),
                source,
                destination: mount.destination.display().to_string(),
                mode,
                rw: !mount.read_only,
                propagation,
                ..MountPoint::default()
            }
        })
        .collect();
    points.sort_by(|one, other| one.destination.cmp(&other.destination));
    points
}
