//! What `update` makes of a container's settings: a pure merge, with the conflicts that Docker names.
//!
//! Rules and texts: <https://github.com/moby/moby/blob/master/daemon/container/container_unix.go> (`UpdateContainer`).

use havre_api_traits::ApiError;
use havre_engine_types::HostConfig;

use crate::plan::{self, HostFacts};
use crate::restart::Policy;

/// The settings with what `wanted` sets among resources and restart policy; everything else of it is ignored.
pub(crate) fn merge(current: &HostConfig, wanted: &HostConfig) -> Result<HostConfig, ApiError> {
    check_cpu(current, wanted)?;
    let mut merged = current.clone();
    merge_cpu(&mut merged, wanted);
    merge_memory(&mut merged, wanted)?;
    merge_io(&mut merged, wanted);
    if wanted.pids_limit.is_some() {
        merged.pids_limit = wanted.pids_limit;
    }
    set(&mut merged.network_receive_bps, wanted.network_receive_bps);
    set(&mut merged.network_send_bps, wanted.network_send_bps);
    let policy = &wanted.restart_policy;
    if !policy.name.is_empty() {
        if current.auto_remove && policy.name != "no" {
            return Err(conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        merged.restart_policy = policy.clone();
    }
    Ok(merged)
}

/// Refuses limits that no host can honour, and a restart policy that does not exist; takes out what this kernel cannot
/// do. The strings are warnings.
pub(crate) fn check(wanted: &mut HostConfig, facts: &HostFacts) -> Result<Vec<String>, ApiError> {
    let policy = &wanted.restart_policy;
    Policy::parse(&policy.name, policy.maximum_retry_count)?;
    // A swap limit alone is fine here: the memory limit may have been set before.
    let swap_alone = wanted.memory == 0 && wanted.memory_swap > 0;
    let limits = HostConfig {
        memory_swap: if swap_alone { 0 } else { wanted.memory_swap },
        ..wanted.clone()
    };
    plan::check_limits(&limits, facts)?;
    let unlimited = wanted.pids_limit.is_some_and(|limit| limit <= 0);
    let warnings = plan::settle_limits(wanted, facts);
    if unlimited {
        // Docker's words for "without limit" are 0 and everything below.
        wanted.pids_limit = Some(0);
    }
    Ok(warnings)
}

/// Whether anything in it reaches a running container's cgroup.
pub(crate) fn limits_anything(wanted: &HostConfig) -> bool {
    let policy = wanted.restart_policy.clone();
    let nothing = HostConfig::default();
    let named = HostConfig {
        restart_policy: policy,
        ..HostConfig::default()
    };
    merge(&nothing, wanted).map_or(true, |merged| merged != named)
}

fn conflict(text: &str) -> ApiError {
    ApiError::conflict(text)
}

fn check_cpu(current: &HostConfig, wanted: &HostConfig) -> Result<(), ApiError> {
    let text = if wanted.nano_cpus > 0 && current.cpu_period > 0 {
        "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
    } else if wanted.nano_cpus > 0 && current.cpu_quota > 0 {
        "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"
    } else if wanted.cpu_period > 0 && current.nano_cpus > 0 {
        "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"
    } else if wanted.cpu_quota > 0 && current.nano_cpus > 0 {
        "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"
    } else {
        return Ok(());
    };
    Err(conflict(text))
}

fn merge_cpu(merged: &mut HostConfig, wanted: &HostConfig) {
    set(&mut merged.cpu_shares, wanted.cpu_shares);
    set(&mut merged.nano_cpus, wanted.nano_cpus);
    set(&mut merged.cpu_period, wanted.cpu_period);
    set(&mut merged.cpu_quota, wanted.cpu_quota);
    set(&mut merged.cpu_realtime_period, wanted.cpu_realtime_period);
    set(
        &mut merged.cpu_realtime_runtime,
        wanted.cpu_realtime_runtime,
    );
    set(&mut merged.cpuset_cpus, wanted.cpuset_cpus.clone());
    set(&mut merged.cpuset_mems, wanted.cpuset_mems.clone());
}

fn merge_memory(merged: &mut HostConfig, wanted: &HostConfig) -> Result<(), ApiError> {
    if wanted.memory != 0 && wanted.memory > merged.memory_swap && wanted.memory_swap == 0 {
        return Err(conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    set(&mut merged.memory, wanted.memory);
    set(&mut merged.memory_swap, wanted.memory_swap);
    set(&mut merged.memory_reservation, wanted.memory_reservation);
    Ok(())
}

fn merge_io(merged: &mut HostConfig, wanted: &HostConfig) {
    set(&mut merged.blkio_weight, wanted.blkio_weight);
    set(
        &mut merged.blkio_weight_device,
        wanted.blkio_weight_device.clone(),
    );
    set(
        &mut merged.blkio_device_read_bps,
        wanted.blkio_device_read_bps.clone(),
    );
    set(
        &mut merged.blkio_device_write_bps,
        wanted.blkio_device_write_bps.clone(),
    );
    set(
        &mut merged.blkio_device_read_iops,
        wanted.blkio_device_read_iops.clone(),
    );
    set(
        &mut merged.blkio_device_write_iops,
        wanted.blkio_device_write_iops.clone(),
    );
}

/// What is not given stays.
fn set<T: Default + PartialEq>(place: &mut T, given: T) {
    if given != T::default() {
        *place = given;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use havre_engine_types::RestartPolicy;

    fn limits(change: impl FnOnce(&mut HostConfig)) -> HostConfig {
        let mut host = HostConfig::default();
        change(&mut host);
        host
    }

    #[test]
    fn what_is_given_replaces_and_the_rest_stays() {
        let current = limits(|host| {
            host.cpu_shares = 512;
            host.memory = 100 << 20;
            host.memory_swap = 200 << 20;
            host.pids_limit = Some(7);
        });
        let wanted = limits(|host| {
            host.memory = 150 << 20;
            host.cpuset_cpus = "0".to_owned();
            host.pids_limit = Some(0);
            host.privileged = true;
        });
        let merged = merge(&current, &wanted).unwrap();
        let expected = HostConfig {
            memory: 150 << 20,
            cpuset_cpus: "0".to_owned(),
            pids_limit: Some(0),
            ..current
        };
        assert_eq!(merged, expected, "and what is no limit is not taken over");
    }

    #[test]
    fn conflicts_are_in_dockers_words() {
        let memory = |memory, swap| {
            limits(|host| {
                host.memory = memory;
                host.memory_swap = swap;
            })
        };
        let cpu = |nano, period, quota| {
            limits(|host| {
                host.nano_cpus = nano;
                host.cpu_period = period;
                host.cpu_quota = quota;
            })
        };
        let restart = |auto_remove, name: &str| {
            limits(|host| {
                host.auto_remove = auto_remove;
                host.restart_policy = RestartPolicy {
                    name: name.to_owned(),
                    maximum_retry_count: 0,
                };
            })
        };
        let texts = [
            (memory(0, 0), memory(1, 0)),
            (memory(1, -1), memory(2, 0)),
            (cpu(0, 1, 0), cpu(1, 0, 0)),
            (cpu(0, 0, 1), cpu(1, 0, 0)),
            (cpu(1, 0, 0), cpu(0, 1, 0)),
            (cpu(1, 0, 0), cpu(0, 0, 1)),
            (restart(true, "no"), restart(false, "always")),
        ]
        .map(|(current, wanted)| merge(&current, &wanted).unwrap_err().message);
        insta::assert_snapshot!(texts.join("\n"));
        merge(&restart(true, "no"), &restart(false, "no")).unwrap();
    }

    #[test]
    fn a_policy_alone_reaches_no_cgroup() {
        let policy = limits(|host| host.restart_policy.name = "always".to_owned());
        assert!(!limits_anything(&policy) && !limits_anything(&HostConfig::default()));
        assert!(limits_anything(&limits(|host| host.pids_limit = Some(0))));
        assert!(limits_anything(&limits(|host| host.memory = 1)));
    }
}
