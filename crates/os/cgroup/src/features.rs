//! Which limits this host can set, and which CPUs and memory nodes it has: what a request is measured against.

use std::path::Path;

use crate::host::{Controller, Host};

/// What can be limited here; a field is false when the kernel lacks it or its hierarchy is not mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Controllers are used through version 2 only.
    pub unified: bool,
    /// A limit of memory.
    pub memory: bool,
    /// A limit of swap.
    pub swap: bool,
    /// A soft limit of memory.
    pub reservation: bool,
    /// How willingly memory is swapped out.
    pub swappiness: bool,
    /// Processes wait instead of being killed when memory runs out.
    pub oom_kill_disable: bool,
    /// Shares of CPU time.
    pub cpu_shares: bool,
    /// A quota of CPU time.
    pub cpu_quota: bool,
    /// Real-time scheduling for groups.
    pub cpu_realtime: bool,
    /// CPUs and memory nodes.
    pub cpuset: bool,
    /// A number of tasks.
    pub pids: bool,
    /// Shares of block I/O.
    pub io_weight: bool,
    /// Shares of block I/O for one device.
    pub io_weight_device: bool,
    /// Rates of block I/O for one device.
    pub io_rates: bool,
    /// The CPUs there are, as `0-3,5`.
    pub cpus: String,
    /// The memory nodes there are.
    pub memory_nodes: String,
}

impl Features {
    /// Looks at the files of the hierarchies. What cannot be read counts as missing.
    #[must_use]
    pub fn detect(host: &Host) -> Self {
        let sets = |files: [&str; 2]| {
            let mount = host.v1_mount(Controller::Cpuset).or(host.unified());
            let read = |file: &str| fs_err::read_to_string(mount?.join(file)).ok();
            let text = files.into_iter().find_map(read).unwrap_or_default();
            text.trim().to_owned()
        };
        let mut found = Self {
            unified: host.is_v2(Controller::Memory),
            memory: host.has(Controller::Memory),
            cpuset: host.has(Controller::Cpuset),
            pids: host.has(Controller::Pids),
            cpus: sets(["cpuset.cpus.effective", "cpuset.cpus"]),
            memory_nodes: sets(["cpuset.mems.effective", "cpuset.mems"]),
            ..Self::default()
        };
        found.memory_files(host);
        found.cpu_files(host);
        found.io_files(host);
        found
    }

    fn memory_files(&mut self, host: &Host) {
        if let Some(mount) = host.v1_mount(Controller::Memory) {
            self.swap = mount.join("memory.memsw.limit_in_bytes").exists();
            self.reservation = mount.join("memory.soft_limit_in_bytes").exists();
            self.swappiness = mount.join("memory.swappiness").exists();
            self.oom_kill_disable = mount.join("memory.oom_control").exists();
        } else if host.is_v2(Controller::Memory) {
            // The root of the hierarchy has no such file; the kernel has swap where this one exists.
            self.swap = Path::new("/proc/swaps").exists();
            self.reservation = true;
        }
    }

    fn cpu_files(&mut self, host: &Host) {
        if let Some(mount) = host.v1_mount(Controller::Cpu) {
            self.cpu_shares = mount.join("cpu.shares").exists();
            self.cpu_quota = mount.join("cpu.cfs_quota_us").exists();
            self.cpu_realtime = mount.join("cpu.rt_runtime_us").exists();
        } else if host.is_v2(Controller::Cpu) {
            self.cpu_shares = true;
            self.cpu_quota = true;
        }
    }

    fn io_files(&mut self, host: &Host) {
        if let Some(mount) = host.v1_mount(Controller::Io) {
            self.io_weight = mount.join("blkio.bfq.weight").exists();
            self.io_weight_device = mount.join("blkio.bfq.weight_device").exists();
            self.io_rates = mount.join("blkio.throttle.read_bps_device").exists();
        } else if host.is_v2(Controller::Io) {
            self.io_weight = true;
            self.io_weight_device = true;
            self.io_rates = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use havre_sys::mounts::parse;

    use super::*;

    #[test]
    fn version_1_has_what_its_files_say() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        for file in [
            "memory.memsw.limit_in_bytes",
            "cpu.shares",
            "cpuset.cpus",
            "blkio.throttle.read_bps_device",
        ] {
            fs_err::write(root.join(file), "0-3\n").expect("a file");
        }
        let line = format!(
            "40 31 0:37 / {} rw - cgroup cgroup rw,memory,cpu,cpuset,blkio\n",
            root.display()
        );
        let host = Host::from_mounts(&parse(line.as_bytes()), "").expect("mounted");
        let found = Features::detect(&host);
        let expected = Features {
            memory: true,
            swap: true,
            cpu_shares: true,
            cpuset: true,
            io_rates: true,
            cpus: "0-3".to_owned(),
            ..Features::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn version_2_lacks_what_it_dropped() {
        let line = "40 31 0:37 / /none rw - cgroup2 cgroup2 rw\n";
        let host = Host::from_mounts(&parse(line.as_bytes()), "cpu io memory").expect("mounted");
        let found = Features::detect(&host);
        assert!(found.unified && found.memory && found.reservation && found.io_rates);
        assert!(!found.swappiness && !found.oom_kill_disable && !found.cpu_realtime);
        assert!(!found.pids);
    }
}
