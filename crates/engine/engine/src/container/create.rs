//! Making a container: everything is checked, then name, record and layer; a failure leaves none of them.

use std::path::PathBuf;
use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{
    ContainerConfig, ContainerCreateRequest, ContainerCreateResponse, HostConfig,
};
use havre_image::Image;
use havre_types::{ContainerId, Platform, Timestamp};

use super::actor::{self, Beginning};
use super::join;
use super::launch::missing_source;
use super::record::{Fixed, KIND, Record, State};
use crate::engine::Shared;
use crate::error::internal;
use crate::images::blocking;
use crate::network::{self, Wishes};
use crate::plan::{self, HostFacts, MountKind};
use crate::{host, names};

/// Makes a container and answers with its id and what the user should know.
pub(crate) async fn create(
    shared: &Arc<Shared>,
    name: Option<String>,
    platform: String,
    request: ContainerCreateRequest,
) -> ApiResult<ContainerCreateResponse> {
    if let Some(name) = &name {
        names::check(name)?;
    }
    let Decided {
        image,
        config,
        host_config,
        networks,
        warnings,
    } = decide(shared, &platform, request).await?;
    let id = new_id()?;
    super::logs::check(
        &host_config.log_config,
        plan::log::Subject {
            id: &id,
            name: name.as_deref().unwrap_or_default(),
            created: Timestamp::now(),
            image: image.id().as_str(),
            config: &config,
            hostname: &shared.facts.hostname,
        },
    )
    .await?;
    let name = match name {
        Some(name) => {
            let bare = names::check(&name)?.to_owned();
            shared.registry.names.reserve(&bare, &id)?;
            bare
        }
        None => shared.registry.names.reserve_random(&id)?,
    };
    let fixed = Arc::new(Fixed {
        id: id.clone(),
        name: name.clone(),
        created: Timestamp::now(),
        image: image.id().clone(),
        platform: image.config.os.clone(),
        config,
        host_config,
        networks: Some(networks),
    });
    let record = Record {
        fixed: Arc::clone(&fixed),
        state: State::new(),
    };
    if let Err(err) = store(
        shared,
        &record,
        image.chain_id().map(|chain| chain.to_string()),
    )
    .await
    {
        shared.registry.names.release(&name, &id);
        if shared.images.get(image.id()).is_none() {
            // Removed since it was looked up, and its layers with it.
            return Err(ApiError::not_found(format!(
                "No such image: {}",
                record.fixed.config.image
            )));
        }
        return Err(err);
    }
    // Only what exists is announced, and before anybody can start it.
    shared.announce(&record.fixed, "create", &[]);
    actor::spawn(shared, record, Beginning::AtRest);
    Ok(ContainerCreateResponse {
        id: id.to_string(),
        warnings,
    })
}

/// What a request comes to, once checked and with the defaults written down.
struct Decided {
    image: Arc<Image>,
    config: ContainerConfig,
    host_config: HostConfig,
    networks: Wishes,
    warnings: Vec<String>,
}

async fn decide(
    shared: &Shared,
    platform: &str,
    request: ContainerCreateRequest,
) -> ApiResult<Decided> {
    let mut host_config = request.host_config.unwrap_or_default();
    if request.config.image.is_empty() {
        return Err(ApiError::invalid("no image specified"));
    }
    let image = crate::images::find(shared, &request.config.image)?;
    check_platform(platform, &image.config, &request.config.image)?;
    let config = plan::merge(request.config, &image.config)?;
    let mut warnings = limits_and_modes(shared, &config, &mut host_config, &image.config)?;
    warnings.extend(foreign_platform(platform, &image.config));
    // A file system that hangs holds up nobody else.
    let mut host_config =
        blocking(move || check_sources(&host_config).map(|()| host_config)).await?;
    let networks = network::settle(
        &shared.networks,
        &config,
        &mut host_config,
        request.networking_config,
    )?;
    if host_config.runtime.is_empty() {
        host_config
            .runtime
            .clone_from(&shared.config.runtimes.default);
    }
    settle(&mut host_config, &shared.facts)?;
    plan::log::settle(&mut host_config.log_config, &shared.config.log);
    Ok(Decided {
        image,
        config,
        host_config,
        networks,
        warnings,
    })
}

/// Checks the request; what this kernel cannot limit is taken out with a warning.
fn limits_and_modes(
    shared: &Shared,
    config: &ContainerConfig,
    host_config: &mut HostConfig,
    image: &havre_oci::ImageConfig,
) -> ApiResult<Vec<String>> {
    let mut warnings = plan::settle_limits(host_config, &shared.facts);
    shared.config.runtimes.check(&host_config.runtime)?;
    warnings.extend(shared.config.runtimes.warning(&host_config.runtime));
    warnings.extend(plan::check(config, host_config, image, &shared.facts)?);
    join::name_by_id(&shared.registry, host_config)?;
    Ok(warnings)
}

/// Layer, directory and record, at the same time; all or nothing.
async fn store(shared: &Arc<Shared>, record: &Record, parent: Option<String>) -> ApiResult<()> {
    let body = record
        .to_json()
        .map_err(|err| internal("failed to write the record", &err))?;
    let id = record.fixed.id.clone();
    let (kept, key) = (Arc::clone(shared), id.clone());
    let made = tokio::task::spawn_blocking(move || {
        host::make_private_dir(&kept.places.data(&key))
            .map_err(|err| internal("failed to make the container's directory", &err))?;
        // Queued before the record: whoever sees the record finds the layer's, too.
        kept.snapshots
            .prepare_queued(key.as_str(), parent.as_deref())
            .map_err(|err| {
                crate::error::classified("failed to prepare the container's layer", &err)
            })
    });
    let made = made
        .await
        .map_err(|err| internal("failed to prepare the container", &err));
    let written = match made.and_then(|made| made) {
        Ok(layer) => {
            let batch = havre_meta::Batch::new().put(KIND, id.as_str(), body);
            let record = shared.meta.write(shared.bus.save(batch));
            // Beside the writing, which waits for the disk.
            let (kept, key) = (Arc::clone(shared), id.clone());
            let marks = blocking(move || make_marks(&kept, &key));
            let (record, layer, marks) = tokio::join!(record, layer, marks);
            record
                .and(layer)
                .map_err(|err| internal("failed to write the record", &err))
                .and(marks)
        }
        Err(err) => Err(err),
    };
    if let Err(err) = written {
        undo(shared, &id).await;
        return Err(err);
    }
    Ok(())
}

fn make_marks(shared: &Shared, id: &ContainerId) -> ApiResult<()> {
    let failed = "failed to prepare the container's layer";
    let trees = shared.snapshots.trees(id.as_str());
    let trees = trees.map_err(|err| crate::error::classified(failed, &err))?;
    crate::archive::make_marks(&trees).map_err(|err| internal(failed, &err))
}

/// What cannot be undone now is swept at the next start: the record goes first.
async fn undo(shared: &Arc<Shared>, id: &ContainerId) {
    let deleted = shared.meta.delete(KIND, id.as_str()).await;
    let (kept, key) = (Arc::clone(shared), id.clone());
    let removed =
        tokio::task::spawn_blocking(move || crate::restore::remove_files(&kept, &key)).await;
    if deleted.is_err() || !matches!(removed, Ok(Ok(()))) {
        tracing::warn!(container = %id, "a container that could not be made is left for the next start");
    }
}

fn new_id() -> ApiResult<ContainerId> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|err| internal("failed to make an id", &err))?;
    Ok(ContainerId::from_bytes(bytes))
}

/// Writes down the defaults, as inspect shows them.
fn settle(host: &mut HostConfig, facts: &HostFacts) -> ApiResult<()> {
    plan::settle_paths(host, facts)?;
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    host.oom_kill_disable.get_or_insert(false);
    if host.ipc_mode.is_empty() {
        "private".clone_into(&mut host.ipc_mode);
    }
    if host.cgroupns_mode.is_empty() {
        // As dockerd: on version 1 a privileged container works with the host's hierarchy.
        let mode = if host.privileged && !facts.limits.unified {
            "host"
        } else {
            "private"
        };
        mode.clone_into(&mut host.cgroupns_mode);
    }
    if host.restart_policy.name.is_empty() {
        "no".clone_into(&mut host.restart_policy.name);
    }
    if host.shm_size == 0 {
        host.shm_size = 64 << 20;
    }
    Ok(())
}

fn check_platform(wanted: &str, image: &havre_oci::ImageConfig, name: &str) -> ApiResult<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let platform = Platform::parse(wanted).map_err(|err| ApiError::from_classified(&err))?;
    let have = Platform::normalized(&image.os, &image.architecture, &image.variant);
    if platform.matches(&have) {
        return Ok(());
    }
    Err(ApiError::not_found(format!(
        "image with reference {name} was found but its platform ({have}) does not match the specified platform ({platform})"
    )))
}

/// An image for another machine that nobody asked for by name.
fn foreign_platform(wanted: &str, image: &havre_oci::ImageConfig) -> Option<String> {
    let have = Platform::normalized(&image.os, &image.architecture, &image.variant);
    let host = Platform::host();
    (wanted.is_empty() && !host.matches(&have)).then(|| {
        format!(
            "The requested image's platform ({have}) does not match the detected host platform ({host}) and no specific platform was requested"
        )
    })
}

/// `--mount type=bind` names a missing source at once, as dockerd does.
fn check_sources(host: &HostConfig) -> ApiResult<()> {
    for mount in plan::user_mounts(host)? {
        if let MountKind::Bind {
            source,
            create_source: false,
            ..
        } = &mount.kind
            && !source.exists()
        {
            return Err(missing_source(source));
        }
    }
    for device in host.devices.iter().flatten() {
        if !device.cgroup_permissions.is_empty() {
            plan::check_permissions(&device.cgroup_permissions)?;
        }
        let path = PathBuf::from(&device.path_on_host);
        if !path.is_absolute() {
            return Err(ApiError::invalid(format!(
                "{:?} is not an absolute path",
                device.path_on_host
            )));
        }
    }
    Ok(())
}
