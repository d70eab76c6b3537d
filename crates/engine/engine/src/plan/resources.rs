//! Limits: the request's numbers to the runtime specification's, checked first.

use havre_api_traits::ApiError;
use havre_engine_types::HostConfig;
use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxDeviceCgroup, LinuxMemoryBuilder, LinuxPidsBuilder,
    LinuxResources, LinuxResourcesBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

use super::HostFacts;

/// <https://github.com/moby/moby/blob/master/daemon/daemon_unix.go> (`linuxMinMemory`)
const LEAST_MEMORY: i64 = 6 << 20;
/// Docker's period for `--cpus`, in microseconds.
const PERIOD: u64 = 100_000;
const UNLIMITED: u64 = u64::MAX;

/// Refuses numbers that no host can honour.
pub(crate) fn check(host: &HostConfig, facts: &HostFacts) -> Result<(), ApiError> {
    let refuse = |text: String| Err(ApiError::invalid(text));
    if host.memory != 0 && host.memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB".to_owned());
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return refuse(
            "Minimum memoryswap limit should be larger than memory limit, see usage".to_owned(),
        );
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
                .to_owned(),
        );
    }
    if host.memory_reservation != 0 && host.memory_reservation < LEAST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB".to_owned());
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
                .to_owned(),
        );
    }
    if let Some(swappiness) = host.memory_swappiness.filter(|s| !(-1..=100).contains(s)) {
        return refuse(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    let available = i64::try_from(facts.cpus)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000_000);
    if host.nano_cpus < 0 || host.nano_cpus > available {
        return refuse(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available",
            cpus = facts.cpus
        ));
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return refuse(
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set".to_owned(),
        );
    }
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return refuse(
            "Conflicting options: Nano CPUs and CPU Period cannot both be set".to_owned(),
        );
    }
    if host.cpu_period != 0 && !(1_000..=1_000_000).contains(&host.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
                .to_owned(),
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned());
    }
    if host.cpu_shares < 0 {
        return refuse(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        ));
    }
    check_cpuset("cpus", &host.cpuset_cpus, facts.cpus)?;
    check_cpuset("memory nodes", &host.cpuset_mems, 1024)?;
    if host.shm_size < 0 {
        return refuse("SHM size can not be less than 0".to_owned());
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    rlimits(host, facts).map(|_| ())
}

/// `0-3,5`: bounded by what exists, so that `0-2000000000` costs nothing (CVE-2018-20699).
fn check_cpuset(what: &str, text: &str, available: usize) -> Result<(), ApiError> {
    let wrong = || ApiError::invalid(format!("Invalid value {text} for cpuset {what}"));
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |digits: &str| {
            digits
                .trim()
                .parse::<usize>()
                .map_err(|_not_a_number| wrong())
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        if last >= available {
            return Err(ApiError::invalid(format!(
                "Requested {what} are not available - requested {text}, available: 0-{}",
                available.saturating_sub(1)
            )));
        }
    }
    Ok(())
}

/// The cgroup limits of the container.
pub(crate) fn resources(
    host: &HostConfig,
    facts: &HostFacts,
    devices: Vec<LinuxDeviceCgroup>,
) -> Result<LinuxResources, ApiError> {
    let failed = |err| crate::error::internal("failed to plan the limits", &err);
    let mut memory = LinuxMemoryBuilder::default();
    if host.memory > 0 {
        memory = memory.limit(host.memory);
        // Docker: as much swap as memory unless told otherwise; -1 is without limit.
        memory = memory.swap(match host.memory_swap {
            0 => host.memory.saturating_mul(2),
            given => given,
        });
    }
    if host.memory_reservation > 0 {
        memory = memory.reservation(host.memory_reservation);
    }
    if let Some(swappiness) = host.memory_swappiness.and_then(|s| u64::try_from(s).ok()) {
        memory = memory.swappiness(swappiness);
    }
    if host.oom_kill_disable == Some(true) {
        memory = memory.disable_oom_killer(true);
    }
    let pids = match host.pids_limit {
        Some(limit) if limit > 0 => limit,
        Some(limit) if limit < 0 => -1,
        _ => (facts.pid_max / 4).min(32_768),
    };
    let mut builder = LinuxResourcesBuilder::default()
        .devices(devices)
        .memory(memory.build().map_err(failed)?)
        .cpu(cpu(host).build().map_err(failed)?)
        .pids(
            LinuxPidsBuilder::default()
                .limit(pids)
                .build()
                .map_err(failed)?,
        );
    if host.blkio_weight > 0 {
        let io = LinuxBlockIoBuilder::default().weight(host.blkio_weight);
        builder = builder.block_io(io.build().map_err(failed)?);
    }
    builder.build().map_err(failed)
}

fn cpu(host: &HostConfig) -> LinuxCpuBuilder {
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(shares) = u64::try_from(host.cpu_shares).ok().filter(|&s| s > 0) {
        cpu = cpu.shares(shares);
    }
    if host.nano_cpus > 0 {
        cpu = cpu.period(PERIOD).quota(host.nano_cpus / 10_000);
    }
    if let Some(period) = u64::try_from(host.cpu_period).ok().filter(|&p| p > 0) {
        cpu = cpu.period(period);
    }
    if host.cpu_quota != 0 {
        cpu = cpu.quota(host.cpu_quota);
    }
    if !host.cpuset_cpus.is_empty() {
        cpu = cpu.cpus(host.cpuset_cpus.clone());
    }
    if !host.cpuset_mems.is_empty() {
        cpu = cpu.mems(host.cpuset_mems.clone());
    }
    cpu
}

/// Explicit limits, so that a container never inherits the engine's; `--ulimit` replaces by name.
pub(crate) fn rlimits(host: &HostConfig, facts: &HostFacts) -> Result<Vec<PosixRlimit>, ApiError> {
    use PosixRlimitType as Type;
    let core_soft = 0;
    let mut limits = vec![
        (Type::RlimitCore, core_soft, UNLIMITED),
        (Type::RlimitMemlock, 8 << 20, 8 << 20),
        (Type::RlimitNofile, 1024, 524_288),
        (Type::RlimitNproc, UNLIMITED, UNLIMITED),
    ];
    // Without CAP_SYS_RESOURCE no limit can be raised above the engine's own.
    for (kind, soft, hard) in &mut limits {
        if let Some(&(_, most)) = facts.hard_limits.iter().find(|(known, _)| known == kind) {
            *hard = (*hard).min(most);
            *soft = (*soft).min(*hard);
        }
    }
    for ulimit in host.ulimits.iter().flatten() {
        let kind = rlimit_type(&ulimit.name)
            .ok_or_else(|| ApiError::invalid(format!("invalid ulimit type: {}", ulimit.name)))?;
        let value = |n: i64| u64::try_from(n).unwrap_or(UNLIMITED);
        let (soft, hard) = (value(ulimit.soft), value(ulimit.hard));
        if soft > hard {
            return Err(ApiError::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                ulimit.soft, ulimit.hard
            )));
        }
        limits.retain(|(other, ..)| *other != kind);
        limits.push((kind, soft, hard));
    }
    limits
        .into_iter()
        .map(|(kind, soft, hard)| {
            PosixRlimitBuilder::default()
                .typ(kind)
                .soft(soft)
                .hard(hard)
                .build()
        })
        .collect::<Result<_, _>>()
        .map_err(|err| crate::error::internal("failed to plan the limits", &err))
}

fn rlimit_type(name: &str) -> Option<PosixRlimitType> {
    use PosixRlimitType as Type;
    Some(match name {
        "core" => Type::RlimitCore,
        "cpu" => Type::RlimitCpu,
        "data" => Type::RlimitData,
        "fsize" => Type::RlimitFsize,
        "locks" => Type::RlimitLocks,
        "memlock" => Type::RlimitMemlock,
        "msgqueue" => Type::RlimitMsgqueue,
        "nice" => Type::RlimitNice,
        "nofile" => Type::RlimitNofile,
        "nproc" => Type::RlimitNproc,
        "rss" => Type::RlimitRss,
        "rtprio" => Type::RlimitRtprio,
        "rttime" => Type::RlimitRttime,
        "sigpending" => Type::RlimitSigpending,
        "stack" => Type::RlimitStack,
        _ => return None,
    })
}
