//! Use of resources: read from the cgroup, the host's `/proc/stat` and the container's network devices; told in Docker's shape.
//! Nothing is read unless somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use havre_api_traits::{ApiResult, StatsMode};
use havre_cgroup::{BlkioEntry, Cgroup, CgroupError, Host, Stats};
use havre_engine_types::{
    BlkioStatEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats,
    PidsStats, ThrottlingData,
};
use havre_types::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::container::Container;
use crate::engine::Shared;
use crate::error::internal;

/// The time between two samples; Docker's.
const INTERVAL: Duration = Duration::from_secs(1);

/// The kernel counts the host's time in hundredths of a second, whatever its own clock is.
const NANOS_PER_TICK: u64 = 10_000_000;

/// Containers that share the network of one that shares it: longer chains are a ring made by renames.
const CHAIN: usize = 8;

/// What Docker shows of version 1's `memory.stat`, each also with `total_` before it.
/// <https://github.com/moby/moby/blob/master/daemon/stats_unix.go> (`statsV1`)
const V1_TABLE: [&str; 15] = [
    "cache",
    "rss",
    "rss_huge",
    "mapped_file",
    "dirty",
    "writeback",
    "pgpgin",
    "pgpgout",
    "pgfault",
    "pgmajfault",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
];
const V1_LIMITS: [&str; 2] = ["hierarchical_memory_limit", "hierarchical_memsw_limit"];

/// What Docker shows of version 2's (`statsV2`).
const V2_TABLE: [&str; 31] = [
    "anon",
    "file",
    "kernel_stack",
    "slab",
    "sock",
    "shmem",
    "file_mapped",
    "file_dirty",
    "file_writeback",
    "anon_thp",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "slab_reclaimable",
    "slab_unreclaimable",
    "pgfault",
    "pgmajfault",
    "workingset_refault",
    "workingset_activate",
    "workingset_nodereclaim",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "pgactivate",
    "pgdeactivate",
    "pglazyfree",
    "pglazyfreed",
    "thp_fault_alloc",
    "thp_collapse_alloc",
];

/// Answers with the samples of `container`.
pub(super) async fn stats(
    shared: &Arc<Shared>,
    container: Arc<Container>,
    mode: StatsMode,
) -> ApiResult<mpsc::Receiver<ContainerStats>> {
    let (sender, receiver) = mpsc::channel(1);
    if mode == StatsMode::Single || (mode == StatsMode::Pair && !runs(&container)) {
        // There is room for one.
        sender.try_send(sample(shared, &container).await?).ok();
        return Ok(receiver);
    }
    let owned = Arc::clone(shared);
    shared.tasks.spawn(async move {
        tokio::select! {
            () = send_samples(&owned, &container, mode, &sender) => {}
            () = sender.closed() => {}
            () = owned.stopping.cancelled() => {}
        }
    });
    Ok(receiver)
}

fn runs(container: &Container) -> bool {
    let view = container.now();
    view.state.status.has_process() && view.state.pid != 0
}

/// Sends one sample each second, or only the second.
async fn send_samples(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    mode: StatsMode,
    sender: &mpsc::Sender<ContainerStats>,
) {
    let mut ticks = interval_at(Instant::now(), INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Timestamp, CpuStats)> = None;
    let mut removed = container.view.clone();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // The actor is gone only together with its container.
            _gone = removed.wait_for(|view| view.state.removed) => return,
        }
        let mut sample = match sample(shared, container).await {
            Ok(sample) => sample,
            Err(err) => {
                tracing::warn!(container = %container.id(), error = %err.message, "no statistics");
                empty(container)
            }
        };
        let now = (sample.read, sample.cpu_stats.clone());
        let first = before.is_none();
        (sample.preread, sample.precpu_stats) = before.unwrap_or_default();
        before = Some(now);
        if first && mode == StatsMode::Pair {
            continue;
        }
        if sender.send(sample).await.is_err() || mode == StatsMode::Pair {
            return;
        }
    }
}

/// One sample; all zeros when the container does not run.
async fn sample(shared: &Arc<Shared>, container: &Arc<Container>) -> ApiResult<ContainerStats> {
    if !runs(container) {
        return Ok(empty(container));
    }
    let (owned, wanted) = (Arc::clone(shared), Arc::clone(container));
    let read = tokio::task::spawn_blocking(move || read(&owned, &wanted)).await;
    match read.map_err(|err| internal("failed to read the statistics", &err))? {
        Ok(sample) => Ok(sample),
        // It ended meanwhile, and its cgroup with it.
        Err(_) if !container.now().state.status.is_live() => Ok(empty(container)),
        Err(err) => Err(internal("failed to read the statistics", &err)),
    }
}

fn empty(container: &Container) -> ContainerStats {
    ContainerStats {
        id: container.id().to_string(),
        name: format!("/{}", container.fixed().name),
        os_type: "linux".to_owned(),
        ..ContainerStats::default()
    }
}

fn read(shared: &Shared, container: &Container) -> Result<ContainerStats, CgroupError> {
    let path = super::cgroup_path(shared, &container.fixed());
    let cgroup = Cgroup::open(&Host::detect()?, &path)?;
    let stats = cgroup.stats()?;
    let read = Timestamp::now();
    let (system, cpus) = host_time();
    let pid = container.now().state.pid;
    let networks = network_of(shared, container)
        .then(|| fs_err::read_to_string(format!("/proc/{pid}/net/dev")).ok());
    let mut cpu_stats = cpu(&stats);
    cpu_stats.system_cpu_usage = system;
    cpu_stats.online_cpus = cpus;
    Ok(ContainerStats {
        read,
        cpu_stats,
        memory_stats: memory(&stats, shared.facts.memory),
        networks: networks
            .flatten()
            .map(|text| devices(&text))
            .unwrap_or_default(),
        pids_stats: pids(&stats),
        blkio_stats: block_io(&stats),
        ..empty(container)
    })
}

/// Version 2 has no `rss`, version 1 no `anon`.
fn is_v2(stats: &Stats) -> bool {
    stats.memory.stats.contains_key("anon")
}

fn cpu(stats: &Stats) -> CpuStats {
    let cpu = &stats.cpu;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.usage,
            percpu_usage: cpu.percpu.clone(),
            usage_in_kernelmode: cpu.system,
            usage_in_usermode: cpu.user,
        },
        throttling_data: ThrottlingData {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled,
        },
        ..CpuStats::default()
    }
}

/// Without a limit, that of the machine is the limit. Version 2 has no peak in Docker's answer.
fn memory(stats: &Stats, machine: u64) -> MemoryStats {
    let memory = &stats.memory;
    let v2 = is_v2(stats);
    let number = |name: &str| memory.stats.get(name).copied().unwrap_or(0);
    let mut table: BTreeMap<String, u64> = BTreeMap::new();
    if v2 {
        table.extend(V2_TABLE.map(|name| (name.to_owned(), number(name))));
    } else if !memory.stats.is_empty() {
        table.extend(V1_LIMITS.map(|name| (name.to_owned(), number(name))));
        for name in V1_TABLE {
            let total = format!("total_{name}");
            table.insert(name.to_owned(), number(name));
            table.insert(total.clone(), number(&total));
        }
    }
    MemoryStats {
        usage: memory.usage,
        max_usage: if v2 { 0 } else { memory.max_usage },
        stats: table,
        failcnt: memory.failcnt,
        limit: if machine > 0 {
            memory.limit.min(machine)
        } else {
            memory.limit
        },
    }
}

/// No limit is 0 in version 1 and the largest number in version 2, as containerd reads them.
fn pids(stats: &Stats) -> PidsStats {
    let limit = match stats.pids.limit {
        0 if is_v2(stats) => u64::MAX,
        limit => limit,
    };
    PidsStats {
        current: stats.pids.current,
        limit,
    }
}

fn block_io(stats: &Stats) -> BlkioStats {
    let entries = |list: &[BlkioEntry], lower: bool| -> Vec<BlkioStatEntry> {
        let entry = |entry: &BlkioEntry| BlkioStatEntry {
            major: entry.major,
            minor: entry.minor,
            op: if lower {
                entry.op.to_ascii_lowercase()
            } else {
                entry.op.clone()
            },
            value: entry.value,
        };
        list.iter().map(entry).collect()
    };
    if is_v2(stats) {
        let bytes = entries(&stats.blkio.bytes, true);
        return BlkioStats {
            io_service_bytes_recursive: (!bytes.is_empty()).then_some(bytes),
            ..BlkioStats::default()
        };
    }
    BlkioStats {
        io_service_bytes_recursive: Some(entries(&stats.blkio.bytes, false)),
        io_serviced_recursive: Some(entries(&stats.blkio.operations, false)),
        io_queue_recursive: Some(Vec::new()),
        io_service_time_recursive: Some(Vec::new()),
        io_wait_time_recursive: Some(Vec::new()),
        io_merged_recursive: Some(Vec::new()),
        io_time_recursive: Some(Vec::new()),
        sectors_recursive: Some(Vec::new()),
    }
}

/// The host's processor time in nanoseconds, and how many processors there are. The last two columns, time of
/// guests, are in the first two already.
fn host_time() -> (u64, u32) {
    parse_host_time(&fs_err::read_to_string("/proc/stat").unwrap_or_default())
}

fn parse_host_time(text: &str) -> (u64, u32) {
    let (mut time, mut cpus) = (0, 0);
    for line in text.lines().take_while(|line| line.starts_with("cpu")) {
        match line.strip_prefix("cpu ") {
            Some(columns) => {
                let columns = columns.split_ascii_whitespace().take(7);
                let ticks: u64 = columns.filter_map(|c| c.parse::<u64>().ok()).sum();
                time = ticks.saturating_mul(NANOS_PER_TICK);
            }
            None => cpus += 1,
        }
    }
    (time, cpus)
}

/// Whether Docker would tell of networks: neither with the host's nor without one.
fn network_of(shared: &Shared, container: &Container) -> bool {
    let mut mode = container.fixed().host_config.network_mode.clone();

    for _ in 0..CHAIN {
        let Some(other) = mode.strip_prefix("container:") else {
            break;
        };
        match shared.registry.find(other) {
            Ok(next) if next.id() != container.id() => {
                mode.clone_from(&next.fixed().host_config.network_mode);
            }
            _ => return false,
        }
    }
    !matches!(mode.as_str(), "none" | "host")
}

/// The devices of `/proc/PID/net/dev` but loopback and those that the kernel puts into every namespace.
fn devices(text: &str) -> BTreeMap<String, NetworkStats> {
    let everywhere = [
        "lo", "tunl", "gre", "erspan", "ip_vti", "ip6_vti", "sit", "ip6tnl", "ip6gre",
    ];
    let mut found = BTreeMap::new();
    for (name, columns) in text.lines().filter_map(|line| line.split_once(':')) {
        let name = name.trim();
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit());
        if everywhere.contains(&bare) || name.starts_with("gretap") {
            continue;
        }
        let numbers: Vec<u64> = columns
            .split_ascii_whitespace()
            .filter_map(|column| column.parse().ok())
            .collect();
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = numbers[..]
        else {
            continue;
        };
        let stats = NetworkStats {
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        };
        found.insert(name.to_owned(), stats);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(op: &str, value: u64) -> BlkioEntry {
        BlkioEntry {
            major: 8,
            minor: 16,
            op: op.to_owned(),
            value,
        }
    }

    #[test]
    fn the_first_version_has_its_fields() {
        let mut stats = Stats::default();
        stats.memory.limit = u64::MAX;
        stats.memory.max_usage = 7;
        for (name, value) in [
            ("rss", 1),
            ("total_rss", 2),
            ("hierarchical_memsw_limit", 3),
            ("swap", 4),
        ] {
            stats.memory.stats.insert(name.to_owned(), value);
        }
        stats.blkio.bytes = vec![entry("Read", 5)];
        let memory = memory(&stats, 1000);
        assert_eq!((memory.limit, memory.max_usage), (1000, 7));
        assert_eq!(memory.stats.len(), 32, "Docker's list is fixed");
        assert_eq!((memory.stats["rss"], memory.stats["total_rss"]), (1, 2));
        assert!(!memory.stats.contains_key("swap"));
        let io = block_io(&stats);
        assert_eq!(io.io_service_bytes_recursive.unwrap()[0].op, "Read");
        assert_eq!(io.sectors_recursive, Some(Vec::new()));
        assert_eq!(pids(&stats).limit, 0);
    }

    #[test]
    fn the_second_version_has_its_fields() {
        let mut stats = Stats::default();
        stats.memory.limit = 500;
        stats.memory.max_usage = 7;
        stats.memory.stats.insert("anon".to_owned(), 1);
        stats.blkio.bytes = vec![entry("Read", 5), entry("Write", 6)];
        let memory = memory(&stats, 1000);
        assert_eq!((memory.limit, memory.max_usage), (500, 0));
        assert_eq!((memory.stats.len(), memory.stats["anon"]), (31, 1));
        let io = block_io(&stats);
        let ops: Vec<String> = io
            .io_service_bytes_recursive
            .unwrap()
            .into_iter()
            .map(|e| e.op)
            .collect();
        assert_eq!(ops, ["read", "write"]);
        assert_eq!(io.io_serviced_recursive, None);
        assert_eq!(pids(&stats).limit, u64::MAX);
    }

    #[test]
    fn the_hosts_time_is_the_sum_of_seven_columns() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1\ncpu1 1 1 1\nintr 5\n";
        assert_eq!(parse_host_time(text), (28 * NANOS_PER_TICK, 2));
        assert_eq!(parse_host_time(""), (0, 0));
    }

    #[test]
    fn devices_of_every_namespace_are_left_out() {
        let text = "Inter-|   Receive  | Transmit\n face |bytes packets errs\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
                    tunl0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let found = devices(text);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["eth0"]);
        let eth0 = found["eth0"];
        assert_eq!(
            (
                eth0.rx_bytes,
                eth0.rx_dropped,
                eth0.tx_bytes,
                eth0.tx_dropped
            ),
            (1, 4, 9, 12)
        );
    }
}
