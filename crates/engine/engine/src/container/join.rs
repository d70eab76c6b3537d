//! Namespaces of other containers: whose they are, and whether they can be joined now.

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::HostConfig;

use super::Container;
use super::record::Fixed;
use super::registry::Registry;
use crate::engine::Shared;
use crate::plan::{Joined, Mode, Modes};

const PREFIX: &str = "container:";

/// Writes down ids for names, so that a rename changes nothing. Texts as dockerd's, and 400, for "not found" would
/// make clients pull an image.
pub(super) fn name_by_id(registry: &Registry, host: &mut HostConfig) -> ApiResult<()> {
    for mode in [&mut host.pid_mode, &mut host.ipc_mode] {
        if let Some(name) = mode.strip_prefix(PREFIX) {
            let found = registry.find(name);
            let found = found.map_err(|err| ApiError::invalid(err.message))?;
            *mode = format!("{PREFIX}{}", found.id());
        }
    }
    let mode = &mut host.network_mode;
    // dockerd notices a missing one only at the start.
    if let Some(Ok(found)) = mode.strip_prefix(PREFIX).map(|name| registry.find(name)) {
        *mode = format!("{PREFIX}{}", found.id());
    }
    Ok(())
}

/// The modes with the namespaces of the containers that they name.
pub(super) fn modes(shared: &Shared, fixed: &Fixed) -> ApiResult<Modes> {
    let mut modes = Modes::parse(&fixed.host_config)?;
    for (mode, joined) in modes.others() {
        if let Mode::Container { name, path } = mode {
            let found = shared.registry.find(name).map_err(|err| match joined {
                Joined::Network => ApiError::new(
                    err.kind,
                    format!("joining network namespace of container: {}", err.message),
                ),
                Joined::Pid | Joined::Ipc => err,
            });
            let pid = member(&*found?, joined)?;
            *path = Some(format!("/proc/{pid}/ns/{}", joined.file()).into());
        }
    }
    Ok(modes)
}

/// The first process of a container whose namespace can be joined.
/// <https://github.com/moby/moby/blob/master/daemon/container_operations_unix.go> (`getIPCContainer`)
fn member(other: &Container, joined: Joined) -> ApiResult<u32> {
    let record = other.now();
    let (state, id) = (&record.state, other.id());
    if !state.status.is_live() || state.pid == 0 {
        let kind = match joined {
            Joined::Network => {
                return Err(ApiError::conflict(format!(
                    "cannot join network namespace of a non running container: container {} is {}",
                    other.fixed().name,
                    state.docker_status()
                )));
            }
            Joined::Pid => "PID",
            Joined::Ipc => "IPC",
        };
        return Err(ApiError::conflict(format!(
            "failed to join {kind} namespace: container {id} is not running"
        )));
    }
    let fixed = other.fixed();
    let mode = fixed.host_config.ipc_mode.as_str();
    let shares = matches!(mode, "shareable" | "host") || mode.starts_with(PREFIX);
    if joined == Joined::Ipc && !shares {
        return Err(ApiError::invalid(format!(
            "failed to join IPC namespace: container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        )));
    }
    Ok(state.pid)
}
