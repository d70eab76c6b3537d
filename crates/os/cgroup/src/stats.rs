//! Numbers that the kernel keeps of a group, in one shape for both versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block I/O.
    pub blkio: BlkioStats,
}

/// CPU time, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    /// Time used.
    pub usage: u64,
    /// Of that, outside of the kernel.
    pub user: u64,
    /// Of that, in the kernel.
    pub system: u64,
    /// By CPU; version 1 only.
    pub percpu: Vec<u64>,
    /// Periods with a quota.
    pub periods: u64,
    /// Of these, those in which the quota ran out.
    pub throttled_periods: u64,
    /// Time for which tasks were held back.
    pub throttled: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage: u64,
    /// The most it has been.
    pub max_usage: u64,
    /// The limit; the largest number if there is none.
    pub limit: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
    /// The kernel's table (`memory.stat`).
    pub stats: BTreeMap<String, u64>,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit, 0 if there is none.
    pub limit: u64,
}

/// Block I/O by device and operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlkioStats {
    /// Bytes.
    pub bytes: Vec<BlkioEntry>,
    /// Operations.
    pub operations: Vec<BlkioEntry>,
}

/// A count of one operation on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlkioEntry {
    /// The device.
    pub major: u64,
    /// The device.
    pub minor: u64,
    /// `Read`, `Write`, …, as version 1 names them.
    pub op: String,
    /// The count.
    pub value: u64,
}

/// A table of `key value` lines; others are skipped.
pub(crate) fn flat_keyed(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// A number, where `max` is the largest.
pub(crate) fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        // Version 1 says "no limit" with a number of pages that nearly fills i64.
        text => text.parse().unwrap_or(0),
    }
}

/// Lines `major:minor Operation count` of version 1.
pub(crate) fn blkio_v1(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let op = words.next()?.to_owned();
            let value = words.next()?.parse().ok()?;
            Some(BlkioEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op,
                value,
            })
        })
        .collect()
}

/// Lines `major:minor rbytes=1 wbytes=2 rios=3 wios=4 …` of version 2.
pub(crate) fn blkio_v2(text: &str) -> BlkioStats {
    let mut stats = BlkioStats::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|d| d.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            let Ok(value) = value.parse() else { continue };
            let (list, op) = match key {
                "rbytes" => (&mut stats.bytes, "Read"),
                "wbytes" => (&mut stats.bytes, "Write"),
                "rios" => (&mut stats.operations, "Read"),
                "wios" => (&mut stats.operations, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry {
                major,
                minor,
                op: op.to_owned(),
                value,
            });
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_block_io_give_the_same_shape() {
        let v1 = blkio_v1("8:0 Read 10\n8:0 Write 20\nTotal 30\n");
        let v2 = blkio_v2("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\nbroken\n");
        assert_eq!(v1, v2.bytes);
        assert_eq!(v2.operations.len(), 2);
        assert_eq!(v2.operations[1].value, 2);
    }

    #[test]
    fn odd_lines_are_skipped() {
        let table = flat_keyed("oom_kill 3\nbroken\nunder_oom x\n");
        assert_eq!(table, BTreeMap::from([("oom_kill".to_owned(), 3)]));
        assert_eq!(number("max\n"), u64::MAX);
        assert_eq!(number("17\n"), 17);
    }
}
