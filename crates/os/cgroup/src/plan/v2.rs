//! Files of cgroup v2.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory};

use super::{Plan, invalid};
use crate::error::CgroupError;
use crate::host::Controller;

/// The period of a quota where none is given (Documentation/admin-guide/cgroup-v2.rst).
const DEFAULT_PERIOD: u64 = 100_000;

pub(super) fn memory(plan: &mut Plan, memory: &LinuxMemory) -> Result<(), CgroupError> {
    use Controller::Memory;
    let limit = memory.limit().filter(|v| *v != 0);
    if let Some(swap) = swap_only(limit, memory.swap().filter(|v| *v != 0))? {
        plan.write(Memory, "memory.swap.max", max_or(swap));
    }
    if let Some(limit) = limit {
        plan.write(Memory, "memory.max", max_or(limit));
    }
    if let Some(reservation) = memory.reservation().filter(|v| *v != 0) {
        plan.write(Memory, "memory.low", max_or(reservation));
    }
    let kernel = memory.kernel();
    plan.ignore("memory.kernel", kernel.is_some_and(|v| v > 0));
    plan.ignore(
        "memory.kernelTCP",
        memory.kernel_tcp().is_some_and(|v| v > 0),
    );
    plan.ignore("memory.swappiness", memory.swappiness().is_some());
    plan.ignore(
        "memory.disableOOMKiller",
        memory.disable_oom_killer() == Some(true),
    );
    plan.ignore(
        "memory.checkBeforeUpdate",
        memory.check_before_update() == Some(true),
    );
    Ok(())
}

/// The specification gives the sum of memory and swap; version 2 wants the swap alone.
fn swap_only(limit: Option<i64>, sum: Option<i64>) -> Result<Option<i64>, CgroupError> {
    match (limit, sum) {
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some(-1)),
        (Some(-1), Some(sum)) => Ok(Some(sum)),
        // Without a limit the share of swap in the sum is unknown.
        (None, Some(sum)) => Err(invalid("memory.swap", sum)),
        (Some(limit), Some(sum)) if limit < 0 || sum < limit => Err(invalid("memory.swap", sum)),
        (Some(limit), Some(sum)) => Ok(Some(sum - limit)),
    }
}

fn max_or(value: i64) -> String {
    if value == -1 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

pub(super) fn cpu(plan: &mut Plan, cpu: &LinuxCpu) {
    use Controller::Cpu;
    if let Some(idle) = cpu.idle() {
        plan.write(Cpu, "cpu.idle", idle);
    }
    if let Some(shares) = cpu.shares().filter(|v| *v != 0) {
        plan.write(Cpu, "cpu.weight", weight_of_shares(shares));
    }
    let quota = cpu.quota().filter(|v| *v != 0);
    let period = cpu.period().filter(|v| *v != 0);
    if quota.is_some() || period.is_some() {
        let quota = match quota {
            Some(quota) if quota > 0 => quota.to_string(),
            _ => "max".to_owned(),
        };
        plan.write(
            Cpu,
            "cpu.max",
            format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD)),
        );
    }
    if let Some(burst) = cpu.burst() {
        plan.write(Cpu, "cpu.max.burst", burst);
    }
    plan.ignore(
        "cpu.realtimePeriod",
        cpu.realtime_period().is_some_and(|v| v != 0),
    );
    plan.ignore(
        "cpu.realtimeRuntime",
        cpu.realtime_runtime().is_some_and(|v| v != 0),
    );
}

/// Shares (2 to 262144, normally 1024) as a weight (1 to 10000, normally 100).
///
/// The exponent of ten is the parabola through both ends and the normal value that runc and
/// crun agreed on (<https://github.com/opencontainers/runc/issues/4772>).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the result is between 1 and 10000"
)]
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

pub(super) fn block_io(plan: &mut Plan, io: &LinuxBlockIo) {
    use Controller::Io;
    if let Some(weight) = io.weight().filter(|v| *v != 0) {
        // From 10..1000 to 1..10000.
        let weight = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
        plan.write(Io, "io.weight", weight);
    }
    plan.ignore(
        "blockIO.leafWeight",
        io.leaf_weight().is_some_and(|v| v != 0),
    );
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|v| *v != 0) {
            let weight = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
            plan.write(
                Io,
                "io.weight",
                format!("{}:{} {weight}", device.major(), device.minor()),
            );
        }
    }
    let limits = [
        ("rbps", io.throttle_read_bps_device()),
        ("wbps", io.throttle_write_bps_device()),
        ("riops", io.throttle_read_iops_device()),
        ("wiops", io.throttle_write_iops_device()),
    ];
    for (key, devices) in limits {
        for device in devices.iter().flatten() {
            // Zero means no limit in the specification; the kernel refuses it as a value.
            let rate = device.rate();
            let rate = if rate == 0 {
                "max".to_owned()
            } else {
                rate.to_string()
            };
            plan.write(
                Io,
                "io.max",
                format!("{}:{} {key}={rate}", device.major(), device.minor()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_meet_their_fixed_points() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 100);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
        let weights: Vec<_> = (1..=18).map(|n| weight_of_shares(1 << n)).collect();
        assert!(weights.is_sorted(), "{weights:?}");
    }

    #[test]
    fn swap_is_the_sum_less_the_memory() {
        assert_eq!(swap_only(Some(100), Some(150)).expect("valid"), Some(50));
        assert_eq!(swap_only(Some(100), Some(100)).expect("valid"), Some(0));
        assert_eq!(swap_only(Some(-1), None).expect("valid"), Some(-1));
        assert_eq!(swap_only(Some(100), None).expect("valid"), None);
        assert_eq!(swap_only(None, Some(-1)).expect("valid"), Some(-1));
        swap_only(None, Some(100)).expect_err("no memory limit");
        swap_only(Some(100), Some(99)).expect_err("less than the memory");
    }
}
