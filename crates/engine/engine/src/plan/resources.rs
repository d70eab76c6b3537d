//! Limits: the request's numbers to the runtime specification's.

mod limits;

use havre_api_traits::ApiError;
use havre_engine_types::{HostConfig, ThrottleDevice, WeightDevice};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxDeviceCgroup, LinuxMemoryBuilder,
    LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDevice, LinuxWeightDeviceBuilder, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType,
};

pub(crate) use limits::{check, settle};

use super::HostFacts;
use super::devices::Numbers;

/// Docker's period for `--cpus`, in microseconds.
const PERIOD: u64 = 100_000;
const UNLIMITED: u64 = u64::MAX;

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
    if let Some(period) = u64::try_from(host.cpu_realtime_period)
        .ok()
        .filter(|&p| p > 0)
    {
        cpu = cpu.realtime_period(period);
    }
    if host.cpu_realtime_runtime != 0 {
        cpu = cpu.realtime_runtime(host.cpu_realtime_runtime);
    }
    if !host.cpuset_cpus.is_empty() {
        cpu = cpu.cpus(host.cpuset_cpus.clone());
    }
    if !host.cpuset_mems.is_empty() {
        cpu = cpu.mems(host.cpuset_mems.clone());
    }
    cpu
}

/// The shares and rates of block I/O for single devices, whose numbers were looked up.
pub(crate) fn device_io(
    host: &HostConfig,
    numbers: &Numbers,
) -> Result<Option<LinuxBlockIo>, ApiError> {
    let weights = host.blkio_weight_device.as_deref().unwrap_or_default();
    let rates = [
        &host.blkio_device_read_bps,
        &host.blkio_device_write_bps,
        &host.blkio_device_read_iops,
        &host.blkio_device_write_iops,
    ];
    let any_rate = rates
        .iter()
        .any(|list| list.as_ref().is_some_and(|l| !l.is_empty()));
    if weights.is_empty() && !any_rate {
        return Ok(None);
    }
    let failed = |err| crate::error::internal("failed to plan the limits", &err);
    let weight = |device: &WeightDevice| -> Result<LinuxWeightDevice, OciSpecError> {
        let (major, minor) = numbers.of(&device.path);
        LinuxWeightDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .weight(device.weight)
            .build()
    };
    let weights = weights.iter().map(weight).collect::<Result<Vec<_>, _>>();
    let mut io = LinuxBlockIoBuilder::default()
        .weight_device(weights.map_err(failed)?)
        .throttle_read_bps_device(throttle(rates[0], numbers).map_err(failed)?)
        .throttle_write_bps_device(throttle(rates[1], numbers).map_err(failed)?)
        .throttle_read_iops_device(throttle(rates[2], numbers).map_err(failed)?)
        .throttle_write_iops_device(throttle(rates[3], numbers).map_err(failed)?);
    if host.blkio_weight > 0 {
        io = io.weight(host.blkio_weight);
    }
    io.build().map(Some).map_err(failed)
}

fn throttle(
    list: &Option<Vec<ThrottleDevice>>,
    numbers: &Numbers,
) -> Result<Vec<LinuxThrottleDevice>, OciSpecError> {
    let one = |device: &ThrottleDevice| {
        let (major, minor) = numbers.of(&device.path);
        LinuxThrottleDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .rate(device.rate)
            .build()
    };
    list.iter().flatten().map(one).collect()
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
        // The kernel's own values for the rest (include/asm-generic/resource.h), whatever the engine's are.
        (Type::RlimitAs, UNLIMITED, UNLIMITED),
        (Type::RlimitCpu, UNLIMITED, UNLIMITED),
        (Type::RlimitData, UNLIMITED, UNLIMITED),
        (Type::RlimitFsize, UNLIMITED, UNLIMITED),
        (Type::RlimitLocks, UNLIMITED, UNLIMITED),
        (Type::RlimitNice, 0, 0),
        (Type::RlimitRss, UNLIMITED, UNLIMITED),
        (Type::RlimitRtprio, 0, 0),
        (Type::RlimitRttime, UNLIMITED, UNLIMITED),
        (Type::RlimitStack, 8 << 20, UNLIMITED),
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
