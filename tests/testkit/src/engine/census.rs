//! What an engine has in the kernel, told by its private directory, and the means to end it.
//!
//! A process counts when it was started with a path below the directory, works in it, or has a mount
//! of it in its namespace: so shims, containers and helpers are found without asking the engine.

use anyhow::{Result, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was found of one engine.
#[derive(Debug, Default)]
pub struct Census {
    /// Processes, with their command lines.
    pub processes: Vec<Process>,
    /// Mount points of the host below the engine's directory.
    pub mounts: Vec<PathBuf>,
    /// Directories of cgroup hierarchies that the engine made.
    pub cgroups: Vec<PathBuf>,
}

/// One process that belongs to an engine.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its command line, words parted by spaces.
    pub command: String,
    handle: OwnedFd,
}

impl Census {
    /// Looks for everything that belongs to the engine of this directory and with cgroups of this
    /// name, except the engine itself.
    pub(super) fn take(directory: &Path, cgroup: &str, engine: Option<u32>) -> Result<Self> {
        let mut census = Self {
            mounts: mounts_below(directory)?,
            ..Self::default()
        };
        // A mount in our own namespace may be seen from others that have nothing to do with the engine.
        let by_mounts = census.mounts.is_empty();
        let own = std::process::id();
        for pid in process_ids()? {
            let unsigned = pid.cast_unsigned();
            if unsigned == own || Some(unsigned) == engine {
                continue;
            }
            // A process that ends while it is looked at is none.
            let Some(process) = belonging(pid, directory, by_mounts) else {
                continue;
            };
            // The name server of the containers stays for as long as the engine does.
            if engine.is_none() || !process.is_companion() {
                census.processes.push(process);
            }
        }
        // The parent of all is there for as long as the engine is.
        census.cgroups = cgroups_below(cgroup, engine.is_none())?;
        Ok(census)
    }

    /// Waits until one of the processes has ended; `false` when there is none or none did in time.
    pub(super) fn wait_for_one(&self, time: Duration) -> Result<bool> {
        match self.processes.first() {
            Some(process) => super::wait_readable(&process.handle, time),
            None => Ok(false),
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.mounts.is_empty() && self.cgroups.is_empty()
    }

    /// Kills the processes, unmounts, and removes the cgroups.
    pub(super) fn sweep(self) -> Result<()> {
        for process in &self.processes {
            // It may have ended since, by the death of its shim.
            let _killed = pidfd_send_signal(&process.handle, Signal::KILL);
        }
        for process in &self.processes {
            let gone = super::wait_readable(&process.handle, Duration::from_secs(10))?;
            ensure!(
                gone,
                "process {} ({}) cannot be killed",
                process.pid,
                process.command
            );
        }
        for mount in self.mounts.iter().rev() {
            rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH)?;
        }
        for cgroup in self.cgroups.iter().rev() {
            fs_err::remove_dir(cgroup)?;
        }
        Ok(())
    }
}

impl Process {
    fn is_companion(&self) -> bool {
        let program = self.command.split(' ').next().unwrap_or_default();
        Path::new(program).ends_with("havre-net")
    }
}

fn process_ids() -> Result<Vec<i32>> {
    let mut ids = Vec::new();
    for entry in fs_err::read_dir("/proc")? {
        if let Some(id) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The process, when it belongs to the directory. The handle is opened first, so that the facts read
/// later are those of the process it means or of none.
fn belonging(pid: i32, directory: &Path, by_mounts: bool) -> Option<Process> {
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let words = fs_err::read(proc.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&words)
        .replace('\0', " ")
        .trim_end()
        .to_owned();
    let needle = directory.as_os_str().as_bytes();
    let named = is_havre(&command) && contains(&words, needle);
    let inside = fs_err::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    let mounts = fs_err::read(proc.join("mountinfo")).ok()?;
    let other_namespace =
        fs_err::read_link(proc.join("ns/mnt")).ok() != fs_err::read_link("/proc/self/ns/mnt").ok();
    let mounted = by_mounts && other_namespace && contains(&mounts, needle);
    (named || inside || mounted).then_some(Process {
        pid,
        command,
        handle,
    })
}

/// A client that a test itself runs also has the directory in its words.
fn is_havre(command: &str) -> bool {
    let program = command.split(' ').next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    command.contains("containerd-shim") || matches!(name, "havred" | "havre-runtime")
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

fn mounts_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let text = fs_err::read_to_string("/proc/self/mountinfo")?;
    let points = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    Ok(points
        .filter(|point| point.starts_with(directory))
        .collect())
}

/// The directories of this name in all hierarchies and those in them, parents before children.
fn cgroups_below(name: &str, with_parent: bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![(PathBuf::from("/sys/fs/cgroup"), false)];
    while let Some((folder, inside)) = pending.pop() {
        // A cgroup may vanish while it is looked at.
        let Ok(entries) = fs_err::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let is_parent = !name.is_empty() && entry.file_name() == name;
            if inside || (is_parent && with_parent) {
                found.push(entry.path());
            }
            pending.push((entry.path(), inside || is_parent));
        }
    }
    found.sort();
    Ok(found)
}
