//! What a group tells: its processes, its numbers, its kills for want of memory.

use std::path::Path;

use super::{Cgroup, io};
use crate::error::CgroupError;
use crate::host::Controller;
use crate::stats::{
    BlkioStats, CpuStats, MemoryStats, PidsStats, Stats, blkio_v1, blkio_v2, flat_keyed, number,
};

impl Cgroup {
    /// The processes of the group and of the groups below it.
    pub fn procs(&self) -> Result<Vec<u32>, CgroupError> {
        let mut out = Vec::new();
        if let Some(dir) = self.every_dir().next() {
            collect(dir, &mut out)?;
        }
        Ok(out)
    }

    /// How many processes of the group the kernel killed for want of memory.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let Some(dir) = self.dir_of(Controller::Memory) else {
            return Ok(0);
        };
        let v2 = self.host.is_v2(Controller::Memory);
        let file = if v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let table = flat_keyed(&io::read(&dir.join(file))?);
        Ok(table.get("oom_kill").copied().unwrap_or(0))
    }

    /// All numbers of the group. A controller that it does not use gives zeros.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        Ok(Stats {
            cpu: self.cpu_stats()?,
            memory: self.memory_stats()?,
            pids: self.pids_stats()?,
            blkio: self.blkio_stats()?,
        })
    }

    fn cpu_stats(&self) -> Result<CpuStats, CgroupError> {
        let mut cpu = CpuStats::default();
        if self.host.is_v2(Controller::Cpuacct) {
            let Some(dir) = self.dir_of(Controller::Cpuacct) else {
                return Ok(cpu);
            };
            let table = flat_keyed(&io::read(&dir.join("cpu.stat"))?);
            let micros = |key: &str| table.get(key).copied().unwrap_or(0).saturating_mul(1000);
            cpu.usage = micros("usage_usec");
            cpu.user = micros("user_usec");
            cpu.system = micros("system_usec");
            cpu.throttled = micros("throttled_usec");
            cpu.periods = table.get("nr_periods").copied().unwrap_or(0);
            cpu.throttled_periods = table.get("nr_throttled").copied().unwrap_or(0);
            return Ok(cpu);
        }
        if let Some(dir) = self.dir_of(Controller::Cpuacct) {
            cpu.usage = number(&io::read(&dir.join("cpuacct.usage"))?);
            cpu.user = number(&io::read(&dir.join("cpuacct.usage_user"))?);
            cpu.system = number(&io::read(&dir.join("cpuacct.usage_sys"))?);
            let percpu = io::read(&dir.join("cpuacct.usage_percpu"))?;
            cpu.percpu = percpu.split_whitespace().map(number).collect();
        }
        if let Some(dir) = self.dir_of(Controller::Cpu) {
            let table = flat_keyed(&io::read(&dir.join("cpu.stat"))?);
            cpu.periods = table.get("nr_periods").copied().unwrap_or(0);
            cpu.throttled_periods = table.get("nr_throttled").copied().unwrap_or(0);
            cpu.throttled = table.get("throttled_time").copied().unwrap_or(0);
        }
        Ok(cpu)
    }

    fn memory_stats(&self) -> Result<MemoryStats, CgroupError> {
        let Some(dir) = self.dir_of(Controller::Memory) else {
            return Ok(MemoryStats::default());
        };
        let files = if self.host.is_v2(Controller::Memory) {
            [
                "memory.current",
                "memory.peak",
                "memory.max",
                "memory.events",
            ]
        } else {
            [
                "memory.usage_in_bytes",
                "memory.max_usage_in_bytes",
                "memory.limit_in_bytes",
                "memory.failcnt",
            ]
        };
        let [usage, peak, limit, failures] = files.map(|file| dir.join(file));
        let failures = io::read(&failures)?;
        let in_table = flat_keyed(&failures).get("max").copied();
        Ok(MemoryStats {
            usage: number(&io::read(&usage)?),
            // Known since Linux 5.19.
            max_usage: optional(&peak)?,
            limit: number(&io::read(&limit)?),
            failcnt: in_table.unwrap_or_else(|| number(&failures)),
            stats: flat_keyed(&io::read(&dir.join("memory.stat"))?),
        })
    }

    fn pids_stats(&self) -> Result<PidsStats, CgroupError> {
        let Some(dir) = self.dir_of(Controller::Pids) else {
            return Ok(PidsStats::default());
        };
        let limit = number(&io::read(&dir.join("pids.max"))?);
        Ok(PidsStats {
            current: number(&io::read(&dir.join("pids.current"))?),
            limit: if limit == u64::MAX { 0 } else { limit },
        })
    }

    fn blkio_stats(&self) -> Result<BlkioStats, CgroupError> {
        let Some(dir) = self.dir_of(Controller::Io) else {
            return Ok(BlkioStats::default());
        };
        if self.host.is_v2(Controller::Io) {
            return Ok(blkio_v2(&io::read(&dir.join("io.stat"))?));
        }
        let read = |file: &str| io::read(&dir.join(file)).map(|text| blkio_v1(&text));
        Ok(BlkioStats {
            bytes: read("blkio.throttle.io_service_bytes_recursive")?,
            operations: read("blkio.throttle.io_serviced_recursive")?,
        })
    }
}

/// A number that older kernels do not have.
fn optional(path: &Path) -> Result<u64, CgroupError> {
    match io::read(path) {
        Ok(text) => Ok(number(&text)),
        Err(CgroupError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

fn collect(dir: &Path, out: &mut Vec<u32>) -> Result<(), CgroupError> {
    let text = io::read(&dir.join("cgroup.procs"))?;
    out.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for child in children(dir)? {
        match collect(&child, out) {
            // It was removed meanwhile.
            Err(CgroupError::Read { source, .. })
                if matches!(source.raw_os_error(), Some(2 | 19)) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The groups directly below.
pub(super) fn children(dir: &Path) -> Result<Vec<std::path::PathBuf>, CgroupError> {
    let failed = |source: std::io::Error| CgroupError::Read {
        path: dir.to_path_buf(),
        source,
    };
    let mut out = Vec::new();
    for entry in fs_err::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            out.push(entry.path());
        }
    }
    Ok(out)
}
