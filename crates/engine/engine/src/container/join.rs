//! Namespaces of other containers: whose they are, whether they can be joined now, and what comes with them.

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::HostConfig;

use super::Container;
use super::record::Fixed;
use super::registry::Registry;
use crate::engine::Shared;
use crate::plan::{Joined, Mode, Modes};

const PREFIX: &str = "container:";
/// How many containers may stand behind each other on one network: none does by accident.
const MAX_CHAIN: usize = 32;

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
            let found = match joined {
                Joined::Network => on_network(&shared.registry, name)?,
                Joined::Pid | Joined::Ipc => shared.registry.find(name)?,
            };
            let pid = member(&found, joined)?;
            *path = Some(format!("/proc/{pid}/ns/{}", joined.file()).into());
        }
    }
    Ok(modes)
}

/// The container on whose network this one is, and whose host name, `hosts` and `resolv.conf` it has therefore; none
/// when it has its own.
/// <https://github.com/moby/moby/blob/master/daemon/container_operations.go> (`initializeNetworking`)
pub(crate) fn donor(registry: &Registry, fixed: &Fixed) -> ApiResult<Option<Arc<Fixed>>> {
    end_of_chain(&fixed.host_config.network_mode, |name| {
        let found = on_network(registry, name)?.fixed();
        if found.id == fixed.id {
            return Err(ApiError::internal("cannot join own network namespace"));
        }
        let mode = found.host_config.network_mode.clone();
        Ok((found, mode))
    })
}

/// Follows modes from container to container; the last one has a mode of its own.
fn end_of_chain<T>(
    mode: &str,
    mut find: impl FnMut(&str) -> ApiResult<(T, String)>,
) -> ApiResult<Option<T>> {
    let (mut last, mut mode) = (None, mode.to_owned());
    for _ in 0..=MAX_CHAIN {
        let Some(name) = mode.strip_prefix(PREFIX) else {
            return Ok(last);
        };
        let (found, next) = find(name)?;
        (last, mode) = (Some(found), next);
    }
    Err(ApiError::conflict(format!(
        "cannot join network namespace of container: more than {MAX_CHAIN} containers join each other"
    )))
}

/// As dockerd, which finds it the engine's fault when the container is gone since this one was made.
fn on_network(registry: &Registry, name: &str) -> ApiResult<Arc<Container>> {
    registry.find(name).map_err(|err| {
        ApiError::internal(format!(
            "joining network namespace of container: {}",
            err.message
        ))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a chain in which each names the next and `last` has a network of its own.
    fn end(length: usize, last: &str) -> ApiResult<Option<usize>> {
        end_of_chain("container:1", |name| {
            let number: usize = name.parse().unwrap();
            let mode = if number == length {
                last.to_owned()
            } else {
                format!("container:{}", number + 1)
            };
            Ok((number, mode))
        })
    }

    #[test]
    fn a_chain_is_followed_to_its_end() {
        let nobody = |_: &str| -> ApiResult<((), String)> { Err(ApiError::internal("asked")) };
        assert_eq!(end_of_chain("bridge", nobody).unwrap(), None);
        end_of_chain("container:1", nobody).unwrap_err();
        assert_eq!(end(1, "none").unwrap(), Some(1));
        assert_eq!(end(MAX_CHAIN, "lan").unwrap(), Some(MAX_CHAIN));
        for endless in [end(MAX_CHAIN + 1, "lan"), end(2, "container:1")] {
            assert_eq!(
                endless.unwrap_err().message,
                "cannot join network namespace of container: more than 32 containers join each other"
            );
        }
    }
}
