//! A last look at restored processes before they run: a checkpoint never gives other rights than
//! the specification does, whatever its files say.
//!
//! At that moment everything about the processes is in place and they stand still. What is
//! compared is what confines: capabilities, no_new_privs, the filter, namespaces, the cgroup, and
//! the mounts.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use havre_sys::fsroot::Root;
use havre_sys::mount::MountAttrFlags;
use havre_sys::mounts::{MountInfo, parse};
use rustix::fs::{FileType, fstat, makedev, stat};
use rustix::process::Pid;

use super::places::{self, MASK_NULL};
use crate::child::rootfs::existing;
use crate::error::{RuntimeError, Step as _};
use crate::plan::{Kind, MountStep, Plan, ProcessPlan, What};

/// `CAP_SYS_ADMIN` (linux/capability.h).
const SYS_ADMIN: u64 = 1 << 21;
/// More processes than any checkpoint that could be restored has.
const PROCESSES_MAX: usize = 1 << 20;

/// What the processes may have.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    pub(super) plan: &'a Plan,
    pub(super) process: &'a ProcessPlan,
    /// Path of the container in the cgroup hierarchies, relative to their mounts.
    pub(super) cgroup: &'a Path,
}

impl Guard<'_> {
    /// Looks at the first process and all that descend from it.
    pub(super) fn check(&self, root: Pid) -> Result<(), RuntimeError> {
        let mut namespaces = HashMap::new();
        for pid in descendants(root.as_raw_pid())? {
            self.check_process(pid)?;
            let describe = || format!("look at the mounts of process {pid}");
            let own = stat(format!("/proc/{pid}/ns/mnt")).step(describe)?.st_ino;
            if namespaces.insert(own, pid).is_none() && self.plan.namespaces.has(Kind::Mount) {
                self.check_mounts(pid)?;
            }
        }
        Ok(())
    }

    fn check_process(&self, pid: i32) -> Result<(), RuntimeError> {
        let describe = || format!("look at process {pid}");
        let limit = Limits::of(self.process);
        let tasks = fs_err::read_dir(format!("/proc/{pid}/task")).step(describe)?;
        for task in tasks {
            let text = fs_err::read_to_string(task.step(describe)?.path().join("status"));
            limit.check(&Status::parse(&text.step(describe)?), pid)?;
        }
        for kind in KINDS {
            self.check_namespace(pid, kind)?;
        }
        let text = fs_err::read_to_string(format!("/proc/{pid}/cgroup")).step(describe)?;
        if in_cgroup(&text, self.cgroup) {
            return Ok(());
        }
        Err(refused(format!("process {pid} is outside of the cgroup")))
    }

    fn check_namespace(&self, pid: i32, kind: Kind) -> Result<(), RuntimeError> {
        let name = places::namespace_name(kind);
        let describe = || format!("look at the {name} namespace of process {pid}");
        let theirs = stat(format!("/proc/{pid}/ns/{name}")).step(describe)?;
        let ours = stat(format!("/proc/self/ns/{name}")).step(describe)?;
        let namespaces = &self.plan.namespaces;
        let joined = namespaces.join.iter().find(|(joined, _)| *joined == kind);
        let right = match joined {
            Some((_, path)) => stat(path).step(describe)?.st_ino == theirs.st_ino,
            None if namespaces.makes(kind) => theirs.st_ino != ours.st_ino,
            // The container shares it with the host; programs with the right to it make more.
            None => theirs.st_ino == ours.st_ino || self.may_mount(),
        };
        let right = right || (joined.is_some() && self.may_mount() && theirs.st_ino != ours.st_ino);
        if right {
            return Ok(());
        }
        Err(refused(format!(
            "process {pid} is in another {name} namespace"
        )))
    }

    fn may_mount(&self) -> bool {
        self.process
            .caps
            .is_some_and(|sets| sets.bounding & SYS_ADMIN != 0)
    }

    // === mounts ===

    /// Who may mount could have changed anything. For all others the mounts are those of the
    /// specification, no more and no less.
    fn check_mounts(&self, pid: i32) -> Result<(), RuntimeError> {
        if self.may_mount() {
            return Ok(());
        }
        let describe = || format!("look at the mounts of process {pid}");
        let text = fs_err::read(format!("/proc/{pid}/mountinfo")).step(describe)?;
        let mounts = parse(&text);
        let root = Root::open(Path::new(&format!("/proc/{pid}/root"))).step(describe)?;
        let mut known: Vec<PathBuf> = vec!["/".into()];
        for step in &self.plan.mounts {
            let at = root.follow(&step.target).step(describe)?;
            if step.what != What::Remount {
                check_mount(&root, &mounts, step, &at)?;
            }
            known.push(at);
        }
        self.check_covers(&root, &mounts, &mut known)?;
        for mount in &mounts {
            let below_cgroup = mount.fs_type.starts_with("cgroup")
                && self.plan.mounts.iter().any(|step| {
                    step.what == What::Cgroup && mount.mount_point.starts_with(&step.target)
                });
            if !below_cgroup && !known.contains(&mount.mount_point) && !is_console(mount) {
                let at = mount.mount_point.display();
                return Err(refused(format!("it has a mount of its own on `{at}`")));
            }
        }
        Ok(())
    }

    /// Masks, read-only places, device nodes and a read-only root.
    fn check_covers(
        &self,
        root: &Root,
        mounts: &[MountInfo],
        known: &mut Vec<PathBuf>,
    ) -> Result<(), RuntimeError> {
        for path in &self.plan.masked {
            let Some(kind) = kind_of(root, path)? else {
                continue;
            };
            let at = root
                .follow(path)
                .step(|| format!("look at `{}`", path.display()))?;
            let covered = if kind == FileType::Directory {
                top(mounts, &at).is_some_and(|m| m.fs_type == "tmpfs" && has(m, "ro"))
            } else {
                // A writable mount would let the host's own node be changed.
                is_null(root, path)? && top(mounts, &at).is_some_and(|m| has(m, "ro"))
            };
            if !covered {
                return Err(refused(format!("`{}` is not masked", path.display())));
            }
            known.push(at);
        }
        for path in &self.plan.readonly {
            if kind_of(root, path)?.is_none() {
                continue;
            }
            let at = root
                .follow(path)
                .step(|| format!("look at `{}`", path.display()))?;
            if !top(mounts, &at).is_some_and(|mount| has(mount, "ro")) {
                return Err(refused(format!("`{}` is not read-only", path.display())));
            }
            known.push(at);
        }
        if self.plan.readonly_root && !top(mounts, Path::new("/")).is_some_and(|m| has(m, "ro")) {
            return Err(refused("the root is not read-only".to_owned()));
        }
        known.extend(self.plan.devices.iter().map(|node| node.path.clone()));
        Ok(())
    }
}

const KINDS: [Kind; 7] = [
    Kind::Mount,
    Kind::Pid,
    Kind::Network,
    Kind::Ipc,
    Kind::Uts,
    Kind::User,
    Kind::Cgroup,
];

/// One mount of the specification: of the right kind, from the right place, no freer.
fn check_mount(
    root: &Root,
    mounts: &[MountInfo],
    step: &MountStep,
    at: &Path,
) -> Result<(), RuntimeError> {
    let shown = at.display();
    let Some(mount) = top(mounts, at) else {
        return Err(refused(format!("nothing is mounted on `{shown}`")));
    };
    for (flag, word) in [
        (MountAttrFlags::RDONLY, "ro"),
        (MountAttrFlags::NOSUID, "nosuid"),
        (MountAttrFlags::NODEV, "nodev"),
        (MountAttrFlags::NOEXEC, "noexec"),
    ] {
        let asked = (step.own.set.bits() | step.deep.set.bits()) & flag.bits() != 0;
        if asked && !has(mount, word) {
            return Err(refused(format!("the mount on `{shown}` is not {word}")));
        }
    }
    let right = match &step.what {
        What::Fs { fstype, .. } => mount.fs_type == *fstype,
        What::Bind { source, .. } => same(root, at, source)?,
        What::Cgroup => matches!(mount.fs_type.as_str(), "cgroup" | "cgroup2" | "tmpfs"),
        What::Remount => true,
    };
    if right {
        return Ok(());
    }
    Err(refused(format!("another thing is mounted on `{shown}`")))
}

/// Whether the place in the container is the file or directory of the host.
fn same(root: &Root, at: &Path, source: &Path) -> Result<bool, RuntimeError> {
    let describe = || format!("compare `{}` with its source", at.display());
    let inside = root
        .open_path(at)
        .and_then(|fd| Ok(fstat(fd)?))
        .step(describe)?;
    let outside = stat(source).step(describe)?;
    Ok((inside.st_dev, inside.st_ino) == (outside.st_dev, outside.st_ino))
}

/// The mount that is seen there: the last one that was made.
fn top<'a>(mounts: &'a [MountInfo], at: &Path) -> Option<&'a MountInfo> {
    mounts.iter().rev().find(|mount| mount.mount_point == at)
}

fn has(mount: &MountInfo, option: &str) -> bool {
    mount.options.split(',').any(|word| word == option)
}

fn is_console(mount: &MountInfo) -> bool {
    mount.mount_point == Path::new("/dev/console") && mount.fs_type == "devpts"
}

fn kind_of(root: &Root, path: &Path) -> Result<Option<FileType>, RuntimeError> {
    match existing(root, path) {
        Ok(None) => Ok(None),
        Ok(Some(fd)) => {
            let stat = fstat(&fd).step(|| format!("look at `{}`", path.display()))?;
            Ok(Some(FileType::from_raw_mode(stat.st_mode)))
        }
        Err(error) => Err(error).step(|| format!("look at `{}`", path.display())),
    }
}

fn is_null(root: &Root, path: &Path) -> Result<bool, RuntimeError> {
    let describe = || format!("look at `{}`", path.display());
    let fd = root.open_path(path).step(describe)?;
    let stat = fstat(&fd).step(describe)?;
    Ok(
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == makedev(MASK_NULL.0, MASK_NULL.1),
    )
}

fn refused(reason: String) -> RuntimeError {
    RuntimeError::Checkpoint { reason }
}

// === processes ===

/// The process and all that descend from it.
fn descendants(root: i32) -> Result<Vec<i32>, RuntimeError> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        let describe = || format!("look for the children of process {pid}");
        for task in fs_err::read_dir(format!("/proc/{pid}/task")).step(describe)? {
            let path = task.step(describe)?.path().join("children");
            let text = match fs_err::read_to_string(path) {
                // The thread has ended; its children are now another one's.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.step(describe)?,
            };
            all.extend(
                text.split_ascii_whitespace()
                    .filter_map(|n| n.parse::<i32>().ok()),
            );
        }
        if all.len() > PROCESSES_MAX {
            return Err(io::Error::other("there are too many")).step(describe);
        }
    }
    Ok(all)
}

/// True if every hierarchy that the container has a part of names that part or one below it.
fn in_cgroup(text: &str, cgroup: &Path) -> bool {
    let own = Path::new("/").join(cgroup);
    let mut found = false;
    for line in text.lines() {
        let Some(path) = line.splitn(3, ':').nth(2) else {
            return false;
        };
        // A hierarchy of version 1 that the container did not ask for has no part of it.
        if Path::new(path).starts_with(&own) {
            found = true;
        }
    }
    found
}

/// What `/proc/PID/status` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    /// All five sets together.
    caps: u64,
    no_new_privs: bool,
    filtered: bool,
}

impl Status {
    fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match name {
                "CapInh" | "CapPrm" | "CapEff" | "CapBnd" | "CapAmb" => {
                    // What cannot be read counts as everything.
                    out.caps |= u64::from_str_radix(value, 16).unwrap_or(u64::MAX);
                }
                "NoNewPrivs" => out.no_new_privs = value == "1",
                "Seccomp" => out.filtered = value == "2",
                _ => {}
            }
        }
        out
    }
}

/// The most that a process may have.
#[derive(Clone, Copy, Debug)]
struct Limits {
    caps: u64,
    no_new_privs: bool,
    filtered: bool,
}

impl Limits {
    fn of(plan: &ProcessPlan) -> Self {
        let caps = plan.caps.map_or(0, |sets| {
            sets.bounding | sets.permitted | sets.effective | sets.inheritable | sets.ambient
        });
        Self {
            caps,
            no_new_privs: plan.no_new_privs,
            filtered: plan.filter.is_some(),
        }
    }

    fn check(self, status: &Status, pid: i32) -> Result<(), RuntimeError> {
        let fault = if status.caps & !self.caps != 0 {
            "has capabilities that the container has not"
        } else if self.no_new_privs && !status.no_new_privs {
            "may gain rights that the container may not"
        } else if self.filtered && !status.filtered {
            "has no seccomp filter"
        } else {
            return Ok(());
        };
        Err(refused(format!("process {pid} {fault}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh\nCapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\n\
        CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn the_status_of_a_process_is_read() {
        let status = Status::parse(STATUS);
        let expected = Status {
            caps: 0xa804_25fb,
            no_new_privs: true,
            filtered: true,
        };
        assert_eq!(status, expected);
        assert_eq!(Status::parse("CapBnd:\tx\n").caps, u64::MAX);
    }

    #[test]
    fn a_process_with_more_rights_is_refused() {
        let limits = Limits {
            caps: 0xa804_25fb,
            no_new_privs: true,
            filtered: true,
        };
        limits.check(&Status::parse(STATUS), 1).unwrap();
        for (from, to) in [
            ("CapBnd:\t00000000a80425fb", "CapBnd:\t00000000a82425fb"),
            ("CapAmb:\t0000000000000000", "CapAmb:\t0000000000200000"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
        ] {
            let status = Status::parse(&STATUS.replace(from, to));
            let outcome = limits.check(&status, 1);
            assert!(
                matches!(outcome, Err(RuntimeError::Checkpoint { .. })),
                "{to}"
            );
        }
        let free = Limits {
            no_new_privs: false,
            filtered: false,
            ..limits
        };
        free.check(&Status::parse(STATUS), 1).unwrap();
    }

    #[test]
    fn every_process_is_in_the_cgroup() {
        let own = Path::new("havre/abc");
        assert!(in_cgroup("0::/havre/abc\n", own));
        assert!(in_cgroup(
            "9:name=systemd:/\n8:pids:/havre/abc/inner\n",
            own
        ));
        assert!(!in_cgroup("0::/havre/abcd\n", own));
        assert!(!in_cgroup("0::/\n", own));
        assert!(!in_cgroup("", own));
    }

    #[test]
    fn our_own_children_are_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(descendants(own).unwrap().first(), Some(&own));
    }
}
