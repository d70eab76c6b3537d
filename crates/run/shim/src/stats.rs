//! The cgroup's numbers in containerd's shape.

use std::collections::BTreeMap;

use havre_cgroup::{BlkioEntry, Stats};
use havre_shim_proto::metrics::{
    CpuStat, IoEntry, IoStat, MemoryEvents, MemoryStat, Metrics, PidsStat,
};

pub(crate) fn to_metrics(stats: &Stats, oom_kills: u64) -> Metrics {
    let micros = |nanos: u64| nanos / 1000;
    // Version 1 and version 2 name the same things differently.
    let memory = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| stats.memory.stats.get(*name))
            .copied()
            .unwrap_or(0)
    };
    Metrics {
        pids: Some(PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
        }),
        cpu: Some(CpuStat {
            usage_usec: micros(stats.cpu.usage),
            user_usec: micros(stats.cpu.user),
            system_usec: micros(stats.cpu.system),
            nr_periods: stats.cpu.periods,
            nr_throttled: stats.cpu.throttled_periods,
            throttled_usec: micros(stats.cpu.throttled),
        }),
        memory: Some(MemoryStat {
            anon: memory(&["anon", "total_rss"]),
            file: memory(&["file", "total_cache"]),
            inactive_file: memory(&["total_inactive_file", "inactive_file"]),
            active_file: memory(&["total_active_file", "active_file"]),
            pgmajfault: memory(&["total_pgmajfault", "pgmajfault"]),
            usage: stats.memory.usage,
            usage_limit: stats.memory.limit,
            swap_usage: memory(&["total_swap", "swap"]),
            swap_limit: 0,
            max_usage: stats.memory.max_usage,
        }),
        io: Some(IoStat {
            usage: io(&stats.blkio.bytes, &stats.blkio.operations),
        }),
        memory_events: Some(MemoryEvents {
            oom: oom_kills,
            oom_kill: oom_kills,
        }),
    }
}

fn io(bytes: &[BlkioEntry], operations: &[BlkioEntry]) -> Vec<IoEntry> {
    let mut devices = BTreeMap::new();
    for (entries, counts_bytes) in [(bytes, true), (operations, false)] {
        for entry in entries {
            let key = (entry.major, entry.minor);
            let device: &mut IoEntry = devices.entry(key).or_insert(IoEntry {
                major: entry.major,
                minor: entry.minor,
                ..IoEntry::default()
            });
            match (entry.op.to_ascii_lowercase().as_str(), counts_bytes) {
                ("read", true) => device.rbytes = entry.value,
                ("read", false) => device.rios = entry.value,
                ("write", true) => device.wbytes = entry.value,
                ("write", false) => device.wios = entry.value,
                _ => {}
            }
        }
    }
    devices.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_put_together_and_units_converted() {
        let entry = |op: &str, value| BlkioEntry {
            major: 8,
            minor: 0,
            op: op.to_owned(),
            value,
        };
        let mut stats = Stats::default();
        stats.cpu.usage = 5_000_000;
        stats.memory.stats.insert("total_rss".to_owned(), 77);
        stats.blkio.bytes = vec![entry("Read", 1), entry("Write", 2), entry("Total", 3)];
        stats.blkio.operations = vec![entry("read", 4), entry("write", 5)];
        let metrics = to_metrics(&stats, 6);
        assert_eq!(metrics.cpu.map(|cpu| cpu.usage_usec), Some(5000));
        assert_eq!(metrics.memory.map(|memory| memory.anon), Some(77));
        assert_eq!(metrics.memory_events.map(|events| events.oom_kill), Some(6));
        let io = IoEntry {
            major: 8,
            minor: 0,
            rbytes: 1,
            wbytes: 2,
            rios: 4,
            wios: 5,
        };
        assert_eq!(metrics.io.map(|io| io.usage), Some(vec![io]));
    }
}
