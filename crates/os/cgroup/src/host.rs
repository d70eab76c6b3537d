//! What the kernel has, read once at start: which controller is in which hierarchy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use havre_sys::mounts::{MountInfo, mountinfo};

use crate::error::CgroupError;

/// A controller, by its cgroup v2 name where both versions have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// Shares, quota, real time.
    Cpu,
    /// CPU time used; part of the core of v2.
    Cpuacct,
    /// CPUs and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Device access; a BPF program on v2.
    Devices,
    /// Suspension; part of the core of v2.
    Freezer,
    /// Block I/O (`blkio` on v1).
    Io,
    /// Number of tasks.
    Pids,
    /// Huge pages.
    Hugetlb,
    /// Traffic class, v1 only.
    NetCls,
    /// Traffic priority, v1 only.
    NetPrio,
    /// RDMA handles.
    Rdma,
}

impl Controller {
    const ALL: [Self; 12] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Memory,
        Self::Devices,
        Self::Freezer,
        Self::Io,
        Self::Pids,
        Self::Hugetlb,
        Self::NetCls,
        Self::NetPrio,
        Self::Rdma,
    ];

    /// The name among the mount options of cgroup v1.
    #[must_use]
    pub const fn v1_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Io => "blkio",
            Self::Pids => "pids",
            Self::Hugetlb => "hugetlb",
            Self::NetCls => "net_cls",
            Self::NetPrio => "net_prio",
            Self::Rdma => "rdma",
        }
    }

    /// The name in `cgroup.controllers`, for those that are listed there.
    #[must_use]
    pub const fn v2_name(self) -> Option<&'static str> {
        match self {
            Self::Cpu => Some("cpu"),
            Self::Cpuset => Some("cpuset"),
            Self::Memory => Some("memory"),
            Self::Io => Some("io"),
            Self::Pids => Some("pids"),
            Self::Hugetlb => Some("hugetlb"),
            Self::Rdma => Some("rdma"),
            Self::Cpuacct | Self::Devices | Self::Freezer | Self::NetCls | Self::NetPrio => None,
        }
    }
}

/// How the host's hierarchies are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Version 1 only.
    V1,
    /// Version 2 only.
    V2,
    /// Controllers on version 1, and a version 2 hierarchy beside them.
    Hybrid,
}

/// The hierarchies of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    v1: BTreeMap<Controller, PathBuf>,
    unified: Option<PathBuf>,
    v2: BTreeSet<Controller>,
    /// Every mount of version 1, those without a controller that is used from there too.
    every_v1: Vec<PathBuf>,
}

impl Host {
    /// Reads the mounts of the calling thread and the controllers of the unified hierarchy.
    pub fn detect() -> Result<Self, CgroupError> {
        let mounts = mountinfo().map_err(|source| CgroupError::Detect { source })?;
        let unified = unified_mount(&mounts);
        let controllers = match unified {
            Some(path) => fs_err::read_to_string(path.join("cgroup.controllers"))
                .map_err(|source| CgroupError::Detect { source })?,
            None => String::new(),
        };
        Self::from_mounts(&mounts, &controllers)
    }

    /// As [`Host::detect`], from what was read: the mounts, and the text of the unified root's
    /// `cgroup.controllers`.
    pub fn from_mounts(mounts: &[MountInfo], controllers: &str) -> Result<Self, CgroupError> {
        let mut v1 = BTreeMap::new();
        for mount in mounts.iter().filter(|m| m.fs_type == "cgroup") {
            let options: BTreeSet<&str> = mount.super_options.split(',').collect();
            for controller in Controller::ALL {
                if options.contains(controller.v1_name()) {
                    v1.entry(controller)
                        .or_insert_with(|| mount.mount_point.clone());
                }
            }
        }
        let unified = unified_mount(mounts).map(Path::to_path_buf);
        let named: BTreeSet<&str> = controllers.split_whitespace().collect();
        let v2 = Controller::ALL
            .into_iter()
            .filter(|c| c.v2_name().is_some_and(|name| named.contains(name)))
            .collect();
        if v1.is_empty() && unified.is_none() {
            return Err(CgroupError::NotMounted);
        }
        let every_v1 = mounts.iter().filter(|mount| mount.fs_type == "cgroup");
        Ok(Self {
            every_v1: every_v1.map(|mount| mount.mount_point.clone()).collect(),
            v1,
            unified,
            v2,
        })
    }

    /// The layout.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match (self.v1.is_empty(), &self.unified) {
            (true, _) => Mode::V2,
            (false, None) => Mode::V1,
            (false, Some(_)) => Mode::Hybrid,
        }
    }

    /// True if resources of this controller can be set on this host.
    #[must_use]
    pub fn has(&self, controller: Controller) -> bool {
        self.v1.contains_key(&controller) || self.is_v2(controller)
    }

    /// Removes the empty directory `path` from every hierarchy of version 1: other runtimes make it also where this
    /// crate makes none (hierarchies with a name only, the freezer beside version 2). One that is in use stays.
    pub fn remove_empty(&self, path: &Path) {
        let relative = path.strip_prefix("/").unwrap_or(path);
        for mount in &self.every_v1 {
            // There is none in most of them.
            rustix::fs::rmdir(mount.join(relative)).ok();
        }
    }

    /// The mount of the unified hierarchy, if there is one.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// The mount of the controller's v1 hierarchy, if it is used from there.
    pub(crate) fn v1_mount(&self, controller: Controller) -> Option<&Path> {
        if self.is_v2(controller) {
            return None;
        }
        self.v1.get(&controller).map(PathBuf::as_path)
    }

    /// True if the controller is used through the unified hierarchy. What is part of its core is
    /// preferred there even beside v1: one directory then gives freezing without races, killing
    /// in one write, and a process can be born in it (`CLONE_INTO_CGROUP`).
    pub(crate) fn is_v2(&self, controller: Controller) -> bool {
        match controller {
            Controller::Freezer => self.unified.is_some(),
            Controller::Cpuacct | Controller::Devices => self.mode() == Mode::V2,
            Controller::NetCls | Controller::NetPrio => false,
            _ => self.v2.contains(&controller),
        }
    }
}

fn unified_mount(mounts: &[MountInfo]) -> Option<&Path> {
    mounts
        .iter()
        .find(|m| m.fs_type == "cgroup2")
        .map(|m| m.mount_point.as_path())
}

#[cfg(test)]
mod tests {
    use havre_sys::mounts::parse;

    use super::*;

    const V1_LINES: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
";
    const UNIFIED: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn host(text: &str, controllers: &str) -> Host {
        Host::from_mounts(&parse(text.as_bytes()), controllers).expect("a hierarchy is mounted")
    }

    #[test]
    fn version_1_finds_controllers_that_share_a_mount() {
        let host = host(V1_LINES, "");
        assert_eq!(host.mode(), Mode::V1);
        let shared = Path::new("/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(host.v1_mount(Controller::Cpu), Some(shared));
        assert_eq!(host.v1_mount(Controller::Cpuacct), Some(shared));
        assert!(host.v1_mount(Controller::Freezer).is_some());
        assert!(!host.has(Controller::Pids));
    }

    #[test]
    fn hybrid_takes_each_controller_from_where_it_is() {
        let host = host(&format!("{V1_LINES}{UNIFIED}"), "hugetlb pids\n");
        assert_eq!(host.mode(), Mode::Hybrid);
        assert!(host.is_v2(Controller::Pids));
        assert!(host.is_v2(Controller::Hugetlb));
        assert!(host.is_v2(Controller::Freezer));
        assert!(host.v1_mount(Controller::Freezer).is_none());
        assert!(!host.is_v2(Controller::Memory));
        assert!(!host.is_v2(Controller::Devices));
    }

    #[test]
    fn version_2_has_devices_and_freezer_without_a_controller() {
        let host = host(UNIFIED, "cpu memory\n");
        assert_eq!(host.mode(), Mode::V2);
        for controller in [
            Controller::Devices,
            Controller::Freezer,
            Controller::Cpuacct,
        ] {
            assert!(host.is_v2(controller), "{controller:?}");
        }
        assert!(!host.has(Controller::Io));
        assert!(!host.has(Controller::NetCls));
    }

    #[test]
    fn no_hierarchy_is_an_error() {
        let error = Host::from_mounts(&[], "").expect_err("nothing is mounted");
        assert!(matches!(error, CgroupError::NotMounted));
    }
}
