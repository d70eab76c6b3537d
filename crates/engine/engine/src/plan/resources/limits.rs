//! What a request for limits is refused for, and what this host's kernel makes of it.
//!
//! Ranges, order and texts: <https://github.com/moby/moby/blob/master/daemon/daemon_unix.go>
//! (`verifyPlatformContainerResources`).

use havre_api_traits::ApiError;
use havre_engine_types::HostConfig;

use super::rlimits;
use crate::plan::HostFacts;

/// `linuxMinMemory` there.
const LEAST_MEMORY: i64 = 6 << 20;
/// No CPU has a higher number: <https://github.com/moby/moby/blob/master/pkg/sysinfo/sysinfo.go>.
const MOST_CPUS: u64 = 8192;

/// Refuses numbers that no host can honour.
pub(crate) fn check(host: &HostConfig, facts: &HostFacts) -> Result<(), ApiError> {
    memory(host)?;
    cpu(host, facts)?;
    let sets = [
        ("cpus", "CPUs", &host.cpuset_cpus, &facts.limits.cpus),
        (
            "mems",
            "memory nodes",
            &host.cpuset_mems,
            &facts.limits.memory_nodes,
        ),
    ];
    for (short, long, wanted, there) in sets {
        cpuset((short, long), wanted, there)?;
    }
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    if host.io_maximum_bandwidth != 0 {
        return refuse(
            "invalid option: QoS maximum bandwidth configuration is not supported on linux",
        );
    }
    if host.io_maximum_iops != 0 {
        return refuse("invalid option: QoS maximum IOPs configuration is not supported on linux");
    }
    if host.shm_size < 0 {
        return refuse("SHM size can not be less than 0");
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    rlimits(host, facts).map(|_| ())
}

fn refuse(text: impl Into<String>) -> Result<(), ApiError> {
    Err(ApiError::invalid(text))
}

fn memory(host: &HostConfig) -> Result<(), ApiError> {
    if host.memory != 0 && host.memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if let Some(swappiness) = host.memory_swappiness.filter(|s| !(-1..=100).contains(s)) {
        return refuse(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    if host.memory_reservation != 0 && host.memory_reservation < LEAST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    Ok(())
}

fn cpu(host: &HostConfig, facts: &HostFacts) -> Result<(), ApiError> {
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if host.nano_cpus > 0 && !facts.limits.cpu_quota {
        return refuse(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
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
    if host.cpu_period != 0 && !(1_000..=1_000_000).contains(&host.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.cpu_shares < 0 {
        return refuse(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        ));
    }
    let (period, runtime) = (host.cpu_realtime_period, host.cpu_realtime_runtime);
    if (period != 0 || runtime != 0) && !facts.limits.cpu_realtime {
        return refuse("kernel does not support CPU real-time scheduler");
    }
    if period < 0 || runtime < 0 {
        return refuse("cpu real-time period and runtime cannot be negative");
    }
    if period != 0 && runtime > period {
        return refuse("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    Ok(())
}

/// `0-3,5`. Compared by ranges and bounded, so that `0-2000000000` costs nothing (CVE-2018-20699).
fn cpuset((short, long): (&str, &str), text: &str, available: &str) -> Result<(), ApiError> {
    if text.is_empty() {
        return Ok(());
    }
    let wrong =
        |why: String| ApiError::invalid(format!("Invalid value {text} for cpuset {short}: {why}"));
    let wanted = ranges(text).ok_or_else(|| wrong(format!("invalid format: {text}")))?;
    if short == "cpus" && wanted.iter().any(|(_, last)| *last >= MOST_CPUS) {
        return Err(wrong(format!("value of out range, maximum is {MOST_CPUS}")));
    }
    let there = ranges(available).unwrap_or_default();
    let inside =
        |(first, last): &(u64, u64)| there.iter().any(|(from, to)| from <= first && last <= to);
    if wanted.iter().all(inside) {
        return Ok(());
    }
    refuse(format!(
        "Requested {long} are not available - requested {text}, available: {available}"
    ))
}

fn ranges(text: &str) -> Option<Vec<(u64, u64)>> {
    let number = |digits: &str| digits.parse::<u32>().ok().map(u64::from);
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        })
        .collect()
}

/// Takes out what this kernel cannot do, and says so: the warnings of `create`.
pub(crate) fn settle(host: &mut HostConfig, facts: &HostFacts) -> Vec<String> {
    let mut warnings = Vec::new();
    settle_memory(host, facts, &mut warnings);
    settle_cpu(host, facts, &mut warnings);
    settle_io(host, facts, &mut warnings);
    warnings
}

const UNMOUNTED: &str = "or the cgroup is not mounted";

fn settle_memory(host: &mut HostConfig, facts: &HostFacts, warnings: &mut Vec<String>) {
    let has = &facts.limits;
    let mut warn = |what: &str, then: &str| {
        warnings.push(format!(
            "Your kernel does not support {what}{UNMOUNTED}. {then}"
        ));
    };
    if host.memory > 0 && !has.memory {
        warn("memory limit capabilities ", "Limitation discarded.");
        host.memory = 0;
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap != -1 && !has.swap {
        warn("swap limit capabilities ", "Memory limited without swap.");
        host.memory_swap = -1;
    }
    // -1 is the command line's word for "not given".
    host.memory_swappiness = host.memory_swappiness.filter(|value| *value != -1);
    if host.memory_swappiness.is_some() && !has.swappiness {
        warn(
            "memory swappiness capabilities ",
            "Memory swappiness discarded.",
        );
        host.memory_swappiness = None;
    }
    if host.memory_reservation > 0 && !has.reservation {
        warn("memory soft limit capabilities ", "Limitation discarded.");
        host.memory_reservation = 0;
    }
    host.pids_limit = host.pids_limit.filter(|limit| *limit != 0);
    if host.pids_limit.is_some() && !has.pids {
        if host.pids_limit.is_some_and(|limit| limit > 0) {
            warn("PIDs limit capabilities ", "PIDs limit discarded.");
        }
        host.pids_limit = None;
    }
    let keep_alive = host.oom_kill_disable == Some(true);
    if !has.oom_kill_disable {
        if keep_alive {
            warnings.push(
                "Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned(),
            );
        }
        host.oom_kill_disable = None;
    } else if keep_alive && host.memory == 0 {
        let text = "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.";
        warnings.push(text.to_owned());
    }
}

fn settle_cpu(host: &mut HostConfig, facts: &HostFacts, warnings: &mut Vec<String>) {
    let has = &facts.limits;
    if host.cpu_shares > 0 && !has.cpu_shares {
        warnings.push(format!(
            "Your kernel does not support CPU shares {UNMOUNTED}. Shares discarded."
        ));
        host.cpu_shares = 0;
    }
    if (host.cpu_period != 0 || host.cpu_quota != 0) && !has.cpu_quota {
        let text = "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.";
        warnings.push(text.to_owned());
        host.cpu_period = 0;
        host.cpu_quota = 0;
    }
    if host.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".to_owned());
        host.cpu_percent = 0;
    }
    let any_set = !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty();
    if any_set && !has.cpuset {
        warnings.push(format!(
            "Your kernel does not support cpuset {UNMOUNTED}. Cpuset discarded."
        ));
        host.cpuset_cpus.clear();
        host.cpuset_mems.clear();
    }
}

fn settle_io(host: &mut HostConfig, facts: &HostFacts, warnings: &mut Vec<String>) {
    fn any<T>(list: &Option<Vec<T>>) -> bool {
        list.as_ref().is_some_and(|list| !list.is_empty())
    }
    let has = &facts.limits;
    let mut warn = |what: &str, then: &str| {
        warnings.push(format!(
            "Your kernel does not support {what} {UNMOUNTED}. {then} discarded."
        ));
    };
    if host.blkio_weight > 0 && !has.io_weight {
        warn("Block I/O weight", "Weight");
        host.blkio_weight = 0;
    }
    if any(&host.blkio_weight_device) && !has.io_weight_device {
        warn("Block I/O weight_device", "Weight-device");
        host.blkio_weight_device = Some(Vec::new());
    }
    if has.io_rates {
        return;
    }
    let rates = [
        (
            &mut host.blkio_device_read_bps,
            "BPS Block I/O read limit",
            "Block I/O BPS read limit",
        ),
        (
            &mut host.blkio_device_write_bps,
            "BPS Block I/O write limit",
            "Block I/O BPS write limit",
        ),
        (
            &mut host.blkio_device_read_iops,
            "IOPS Block read limit",
            "Block I/O IOPS read limit",
        ),
        (
            &mut host.blkio_device_write_iops,
            "IOPS Block write limit",
            "Block I/O IOPS write limit",
        ),
    ];
    for (list, what, then) in rates {
        if any(list) {
            warn(what, then);
            *list = Some(Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::facts;

    fn refused(host: &HostConfig) -> String {
        check(host, &facts()).map_or_else(|err| err.message, |()| "accepted".to_owned())
    }

    #[test]
    fn sets_of_cpus_are_measured_by_what_there_is() {
        let texts = [
            "0-1",
            "0,3,2-3",
            "0-4",
            "3-1",
            "x",
            ",",
            "0-2000000000",
            "8191",
            "1-",
            "-1",
        ];
        let said = texts.map(|text| {
            let host = HostConfig {
                cpuset_cpus: text.to_owned(),
                ..HostConfig::default()
            };
            format!("{text}: {}", refused(&host))
        });
        insta::assert_snapshot!(said.join("\n"), @r"
        0-1: accepted
        0,3,2-3: accepted
        0-4: Requested CPUs are not available - requested 0-4, available: 0-3
        3-1: Invalid value 3-1 for cpuset cpus: invalid format: 3-1
        x: Invalid value x for cpuset cpus: invalid format: x
        ,: Invalid value , for cpuset cpus: invalid format: ,
        0-2000000000: Invalid value 0-2000000000 for cpuset cpus: value of out range, maximum is 8192
        8191: Requested CPUs are not available - requested 8191, available: 0-3
        1-: Invalid value 1- for cpuset cpus: invalid format: 1-
        -1: Invalid value -1 for cpuset cpus: invalid format: -1
        ");
    }

    #[test]
    fn a_kernel_without_limits_says_so_for_each() {
        let device = || Some(vec![havre_engine_types::ThrottleDevice::default()]);
        let mut host = HostConfig {
            memory: 64 << 20,
            memory_swap: 64 << 20,
            memory_swappiness: Some(5),
            memory_reservation: 32 << 20,
            oom_kill_disable: Some(true),
            pids_limit: Some(5),
            cpu_shares: 5,
            cpu_quota: 5000,
            cpu_percent: 5,
            cpuset_cpus: "0".to_owned(),
            blkio_weight: 100,
            blkio_weight_device: Some(vec![havre_engine_types::WeightDevice::default()]),
            blkio_device_read_bps: device(),
            blkio_device_write_bps: device(),
            blkio_device_read_iops: device(),
            blkio_device_write_iops: device(),
            ..HostConfig::default()
        };
        let bare = HostFacts {
            limits: havre_cgroup::Features::default(),
            ..facts()
        };
        insta::assert_snapshot!(settle(&mut host, &bare).join("\n"));
        assert_eq!(host.memory_swap, -1);
        let rest = HostConfig {
            memory_swap: 0,
            ..host
        };
        let none = Some(Vec::new());
        let expected = HostConfig {
            blkio_weight_device: Some(Vec::new()),
            blkio_device_read_bps: none.clone(),
            blkio_device_write_bps: none.clone(),
            blkio_device_read_iops: none.clone(),
            blkio_device_write_iops: none,
            ..HostConfig::default()
        };
        assert_eq!(rest, expected);
    }
}
