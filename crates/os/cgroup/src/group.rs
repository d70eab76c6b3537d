//! One cgroup: its directories made, written, joined and removed.
//!
//! Few system calls are the aim, since every container start waits for them: a directory is made
//! only in hierarchies whose accounting or limits are needed, by one `mkdir` each (parents only
//! after ENOENT); nothing is written that was not asked for; and a process joins without the
//! kernel's global lock (see [`Joiner`]).

mod freeze;
mod io;
mod read;

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use havre_sys::bpf;
use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::Pid;

use crate::devices::Policy;
use crate::error::CgroupError;
use crate::host::{Controller, Host};
use crate::plan::{Plan, Write, plan};

/// Needed in every group: what `stats`, `pause`, `kill` and the device rules work with. Others
/// (cpu, cpuset, …) are added when a resource asks for them.
const BASE: [Controller; 6] = [
    Controller::Memory,
    Controller::Pids,
    Controller::Cpuacct,
    Controller::Io,
    Controller::Devices,
    Controller::Freezer,
];

/// A directory of version 1, for one controller or several that are mounted together.
#[derive(Debug)]
struct V1Dir {
    mount: PathBuf,
    path: PathBuf,
}

/// The directory in the unified hierarchy.
#[derive(Debug)]
struct V2Dir {
    path: PathBuf,
    fd: OwnedFd,
}

/// A cgroup, that is its directories in the hierarchies that are in use.
#[derive(Debug)]
pub struct Cgroup {
    host: Host,
    path: PathBuf,
    v1: Vec<V1Dir>,
    v2: Option<V2Dir>,
    ignored: Vec<&'static str>,
}

/// Where a process that is about to join was born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// By `clone3` in [`Cgroup::fd`], so only version 1 is left to join.
    InGroup,
    /// Anywhere else.
    Elsewhere,
}

/// Open files through which a single-threaded process puts itself into the group.
///
/// A thread that moves itself, by writing `0` to `tasks`, needs not stop the forks of the whole
/// system: the kernel then skips its global lock (kernel/cgroup/cgroup.c,
/// `cgroup_procs_write_start`), which costs up to 10 ms when it was not taken lately. The files
/// are opened before the process is made, so that it needs neither rights nor paths.
#[derive(Debug)]
pub struct Joiner(Vec<(PathBuf, OwnedFd)>);

impl Joiner {
    /// Its descriptors, which the process that is to join must not close.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_, fd)| fd.as_fd())
    }

    /// Moves the calling thread, which must be its process's only one, into the group.
    pub fn join_current(&self) -> Result<(), CgroupError> {
        for (path, fd) in &self.0 {
            rustix::io::write(fd, b"0").map_err(|errno| CgroupError::Join {
                path: path.clone(),
                source: errno.into(),
            })?;
        }
        Ok(())
    }
}

impl Cgroup {
    /// Makes the group `path` (parents included) and applies the resources.
    ///
    /// An existing group is taken over only if it holds no process. On an error, what was made
    /// is removed.
    pub fn create(
        host: &Host,
        path: &Path,
        resources: Option<&LinuxResources>,
    ) -> Result<Self, CgroupError> {
        let plan = match resources {
            Some(resources) => plan(host, resources)?,
            None => Plan::default(),
        };
        let mut group = Self::empty(host, path)?;
        match group.make_all(&plan).and_then(|()| group.perform(&plan)) {
            Ok(()) => Ok(group),
            Err(error) => {
                // The first error is the one to report; a directory that resists is found by
                // the sweep of the engine.
                drop(group.delete());
                Err(error)
            }
        }
    }

    /// Opens the group `path` in all hierarchies in which it exists.
    pub fn open(host: &Host, path: &Path) -> Result<Self, CgroupError> {
        let mut group = Self::empty(host, path)?;
        for mount in v1_mounts(host, &Controller::every()) {
            let dir = V1Dir {
                path: mount.join(&group.path),
                mount,
            };
            if dir.path.is_dir() {
                group.v1.push(dir);
            }
        }
        if let Some(mount) = host.unified() {
            let path = mount.join(&group.path);
            if path.is_dir() {
                group.v2 = Some(V2Dir {
                    fd: open_dir(&path)?,
                    path,
                });
            }
        }
        if group.v1.is_empty() && group.v2.is_none() {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(CgroupError::Read {
                path: group.path,
                source,
            });
        }
        Ok(group)
    }

    fn empty(host: &Host, path: &Path) -> Result<Self, CgroupError> {
        let path = relative(path)?;
        Ok(Self {
            host: host.clone(),
            path,
            v1: Vec::new(),
            v2: None,
            ignored: Vec::new(),
        })
    }

    /// The path, relative to the mount of each hierarchy.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory in the unified hierarchy, for `clone3` to give birth in.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(|dir| dir.fd.as_fd())
    }

    /// The directories, for mounting `/sys/fs/cgroup` in a container: the hierarchy's mount and
    /// the group's directory in it.
    #[must_use]
    pub fn directories(&self) -> Vec<(PathBuf, PathBuf)> {
        let v1 = self
            .v1
            .iter()
            .map(|dir| (dir.mount.clone(), dir.path.clone()));
        let v2 = self
            .v2
            .iter()
            .filter_map(|dir| Some((self.host.unified()?.to_path_buf(), dir.path.clone())));
        v1.chain(v2).collect()
    }

    /// Fields of the resources that have no meaning on this host, for the caller to report.
    #[must_use]
    pub fn ignored(&self) -> &[&'static str] {
        &self.ignored
    }

    /// Sets what the resources name and leaves the rest as it is. A controller that the group
    /// did not use so far is added, with the processes that are there.
    pub fn apply(&mut self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let plan = plan(&self.host, resources)?;
        let wanted = plan.writes.iter().filter_map(|w| w.controller).collect();
        let before = self.v1.len();
        self.make(&wanted, &plan)?;
        let added: Vec<usize> = (before..self.v1.len()).collect();
        self.perform(&plan)?;
        if !added.is_empty() {
            self.bring_processes(&added)?;
        }
        Ok(())
    }

    /// Makes the directories of all controllers that this host has, for a container that makes groups of its own.
    pub fn complete(&mut self) -> Result<(), CgroupError> {
        let every = Controller::every();
        let had = every.into_iter().filter(|c| self.host.has(*c)).collect();
        self.make(&had, &Plan::default())
    }

    /// Files for a process to put itself into the group.
    pub fn joiner(&self, birth: Birth) -> Result<Joiner, CgroupError> {
        let v1 = self.v1.iter().map(|dir| dir.path.join("tasks"));
        let v2 = self.v2.iter().filter(|_| birth == Birth::Elsewhere);
        v1.chain(v2.map(|dir| dir.path.join("cgroup.procs")))
            .map(
                |path| match open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
                    Ok(fd) => Ok((path, fd)),
                    Err(errno) => Err(CgroupError::Join {
                        path,
                        source: errno.into(),
                    }),
                },
            )
            .collect::<Result<_, _>>()
            .map(Joiner)
    }

    /// Puts another process, with all its threads, into the group.
    pub fn join(&self, pid: Pid) -> Result<(), CgroupError> {
        let pid = pid.as_raw_nonzero().to_string();
        for dir in self.every_dir() {
            let written = io::write(&dir.join("cgroup.procs"), &pid);
            written.map_err(|source| CgroupError::Join {
                path: dir.to_path_buf(),
                source,
            })?;
        }
        Ok(())
    }

    fn every_dir(&self) -> impl Iterator<Item = &Path> {
        let v1 = self.v1.iter().map(|dir| dir.path.as_path());
        self.v2.iter().map(|dir| dir.path.as_path()).chain(v1)
    }

    /// The directory in which a file of this controller is.
    fn dir_of(&self, controller: Controller) -> Option<&Path> {
        if self.host.is_v2(controller) {
            return self.v2.as_ref().map(|dir| dir.path.as_path());
        }
        let mount = self.host.v1_mount(controller)?;
        self.v1
            .iter()
            .find(|dir| dir.mount == mount)
            .map(|dir| dir.path.as_path())
    }

    // === creation ===

    fn make_all(&mut self, plan: &Plan) -> Result<(), CgroupError> {
        let asked = plan.writes.iter().filter_map(|w| w.controller);
        let wanted = BASE.into_iter().chain(asked).collect();
        self.make(&wanted, plan)
    }

    fn make(&mut self, wanted: &BTreeSet<Controller>, plan: &Plan) -> Result<(), CgroupError> {
        let by_name = plan.writes.iter().any(|w| w.controller.is_none());
        let unified = by_name || wanted.iter().any(|c| self.host.is_v2(*c));
        if let Some(mount) = self.host.unified().filter(|_| unified) {
            io::enable(&self.host, mount, &self.path, wanted)?;
            if self.v2.is_none() {
                let path = mount.join(&self.path);
                io::make_dir(mount, &self.path)?;
                self.v2 = Some(V2Dir {
                    fd: open_dir(&path)?,
                    path,
                });
            }
        }
        for mount in v1_mounts(&self.host, wanted) {
            if self.v1.iter().any(|dir| dir.mount == mount) {
                continue;
            }
            io::make_dir(&mount, &self.path)?;
            if self.host.v1_mount(Controller::Cpuset) == Some(&mount) {
                io::fill_cpuset(&mount, &self.path)?;
            }
            self.v1.push(V1Dir {
                path: mount.join(&self.path),
                mount,
            });
        }
        Ok(())
    }

    /// Processes that are in the group already also join the directories added later. A process
    /// that forks meanwhile may leave a child behind, so it is repeated until none is left.
    fn bring_processes(&self, added: &[usize]) -> Result<(), CgroupError> {
        let mut moved = BTreeSet::new();
        loop {
            let left: Vec<u32> = self
                .procs()?
                .into_iter()
                .filter(|pid| !moved.contains(pid))
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                for dir in added.iter().filter_map(|index| self.v1.get(*index)) {
                    match io::write(&dir.path.join("cgroup.procs"), &pid.to_string()) {
                        // It has ended meanwhile.
                        Err(error) if error.raw_os_error() == Some(3) => {}
                        result => result.map_err(|source| CgroupError::Join {
                            path: dir.path.clone(),
                            source,
                        })?,
                    }
                }
                moved.insert(pid);
            }
        }
    }

    // === resources ===

    fn perform(&mut self, plan: &Plan) -> Result<(), CgroupError> {
        self.ignored.clone_from(&plan.ignored);
        if let Some(policy) = &plan.devices {
            self.restrict_devices(policy)?;
        }
        // A value may be refused only because another, which it depends on, is still to come
        // (memory and its sum with swap, quota and period): such a write gets a second chance.
        let mut refused = Vec::new();
        for write in &plan.writes {
            match self.write(write) {
                Err(CgroupError::Write { source, .. })
                    if source.kind() == std::io::ErrorKind::InvalidInput =>
                {
                    refused.push(write);
                }
                // Without swap accounting there is no limit to take away.
                Err(CgroupError::Write { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound
                        && write.file == "memory.memsw.limit_in_bytes"
                        && write.value == "-1" => {}
                Err(CgroupError::Write { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound
                        && write.file == "io.weight" =>
                {
                    self.write(&bfq(write))?;
                }
                other => other?,
            }
        }
        refused.into_iter().try_for_each(|write| self.write(write))
    }

    fn write(&self, write: &Write) -> Result<(), CgroupError> {
        let dir = match write.controller {
            Some(controller) => self.dir_of(controller),
            None => self.v2.as_ref().map(|dir| dir.path.as_path()),
        };
        // The directories of all writes were made before.
        let path = dir.unwrap_or(&self.path).join(&*write.file);
        io::write(&path, &write.value).map_err(|source| CgroupError::Write {
            path,
            value: write.value.clone(),
            source,
        })
    }

    fn restrict_devices(&self, policy: &Policy) -> Result<(), CgroupError> {
        if self.host.is_v2(Controller::Devices) {
            let Some(dir) = &self.v2 else { return Ok(()) };
            return attach(dir, policy).map_err(|source| CgroupError::Devices {
                path: dir.path.clone(),
                source,
            });
        }
        let Some(dir) = self.dir_of(Controller::Devices) else {
            let (controller, field) = ("devices", "devices");
            return Err(CgroupError::NoController { controller, field });
        };
        let ((file, line), (others, lines)) = policy.v1_writes();
        io::write_lines(&dir.join(file), &[line])?;
        if lines.is_empty() {
            Ok(())
        } else {
            io::write_lines(&dir.join(others), &lines)
        }
    }
}

/// Without the io.cost model the weight is that of the BFQ scheduler, on another scale (1 to 1000).
fn bfq(write: &Write) -> Write {
    let (device, weight) = match write.value.rsplit_once(' ') {
        Some((device, weight)) => (format!("{device} "), weight),
        None => (String::new(), write.value.as_str()),
    };
    let weight = weight.parse::<u64>().unwrap_or(1).saturating_sub(1) * 990 / 9999 + 10;
    Write {
        controller: write.controller,
        file: "io.bfq.weight".into(),
        value: format!("{device}{weight}"),
    }
}

impl Controller {
    fn every() -> BTreeSet<Self> {
        use Controller::{
            Cpu, Cpuacct, Cpuset, Devices, Freezer, Hugetlb, Io, Memory, NetCls, NetPrio, Pids,
            Rdma,
        };
        let all = [
            Cpu, Cpuacct, Cpuset, Memory, Devices, Freezer, Io, Pids, Hugetlb, NetCls, NetPrio,
            Rdma,
        ];
        all.into_iter().collect()
    }
}

/// The v1 mounts of these controllers, each once.
fn v1_mounts(host: &Host, wanted: &BTreeSet<Controller>) -> Vec<PathBuf> {
    let mounts: BTreeSet<_> = wanted.iter().filter_map(|c| host.v1_mount(*c)).collect();
    mounts.into_iter().map(Path::to_path_buf).collect()
}

/// Puts the program in the place of the one that is there, in one step, so that there is no
/// moment without any.
fn attach(dir: &V2Dir, policy: &Policy) -> std::io::Result<()> {
    let program = bpf::load_device_program(&policy.program())?;
    let old = bpf::device_programs(dir.fd.as_fd())?;
    bpf::attach_device(
        dir.fd.as_fd(),
        program.as_fd(),
        old.first().map(|fd| fd.as_fd()),
    )?;
    old.iter()
        .skip(1)
        .try_for_each(|fd| bpf::detach_device(dir.fd.as_fd(), fd.as_fd()))
}

fn open_dir(path: &Path) -> Result<OwnedFd, CgroupError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|errno| CgroupError::Create {
        path: path.to_path_buf(),
        source: errno.into(),
    })
}

/// The path without a leading slash. It is a path of cgroup file systems, which have no symbolic
/// links, so a check of its components is enough to keep it below the mount.
fn relative(path: &Path) -> Result<PathBuf, CgroupError> {
    let invalid = || CgroupError::InvalidPath {
        path: path.to_path_buf(),
    };
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(invalid()),
        }
    }
    if out.as_os_str().is_empty() {
        Err(invalid())
    } else {
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_of_bfq_is_the_one_asked_for() {
        for (given, expected) in [("1", "10"), ("8:0 10000", "8:0 1000"), ("2930", "300")] {
            let write = Write {
                controller: Some(Controller::Io),
                file: "io.weight".into(),
                value: given.to_owned(),
            };
            let bfq = bfq(&write);
            assert_eq!(
                (&*bfq.file, bfq.value.as_str()),
                ("io.bfq.weight", expected)
            );
        }
    }
}
