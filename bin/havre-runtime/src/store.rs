//! The containers that this command knows: one directory each below the root, with a record, a
//! copy of the configuration, and while it waits to be started the socket of its gate.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use fs_err::os::unix::fs::OpenOptionsExt as _;
use havre_cgroup::{Cgroup, Host};
use havre_runtime_core::{State, Status};
use havre_sys::net;
use havre_types::Timestamp;
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";
const GATE: &str = "start.sock";

/// What is recorded of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Of this file's form.
    pub(crate) version: u32,
    pub(crate) state: State,
    /// Clock ticks after boot at which the first process was made: a later process of the same
    /// number is another one.
    pub(crate) start_ticks: u64,
    pub(crate) created: String,
    pub(crate) cgroup: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// Where the standard streams led, for a checkpoint; the program may change that.
    #[serde(default)]
    pub(crate) descriptors: Vec<String>,
}

/// The directory of one container.
#[derive(Debug)]
pub(crate) struct Entry {
    dir: PathBuf,
}

/// The root directory.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn new(root: Option<&Path>) -> Self {
        Self {
            root: root.unwrap_or(Path::new("/run/havre-runtime")).to_owned(),
        }
    }

    /// Makes the directory of a new container, which reserves its name.
    pub(crate) fn reserve(&self, id: &str) -> Result<Entry> {
        check_id(id)?;
        let dir = self.root.join(id);
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        let made = match builder.create(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::DirBuilder::new()
                    .mode(0o700)
                    .recursive(true)
                    .create(&self.root)
                    .and_then(|()| builder.create(&dir))
            }
            other => other,
        };
        match made {
            Ok(()) => Ok(Entry { dir }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("container with given ID already exists")
            }
            Err(error) => {
                Err(error).with_context(|| format!("failed to create `{}`", dir.display()))
            }
        }
    }

    /// Finds a container.
    pub(crate) fn find(&self, id: &str) -> Result<Entry> {
        check_id(id)?;
        let dir = self.root.join(id);
        if !dir.is_dir() {
            bail!("container does not exist");
        }
        Ok(Entry { dir })
    }

    /// All containers, by name.
    pub(crate) fn list(&self) -> Result<Vec<Entry>> {
        let mut out = Vec::new();
        if !self.root.is_dir() {
            return Ok(out);
        }
        for item in fs_err::read_dir(&self.root)? {
            let item = item?;
            if item.path().join(RECORD).is_file() {
                out.push(Entry { dir: item.path() });
            }
        }
        out.sort_by(|a, b| a.dir.cmp(&b.dir));
        Ok(out)
    }
}

/// One component of a path, in runc's alphabet.
fn check_id(id: &str) -> Result<()> {
    let letters = id
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.'));
    if id.is_empty() || !letters || matches!(id, "." | "..") {
        bail!("invalid container ID format: {id:?}");
    }
    Ok(())
}

impl Entry {
    /// Listens where `start` will knock.
    pub(crate) fn make_gate(&self) -> Result<OwnedFd> {
        let dir = self.open()?;
        let mode = Mode::RUSR | Mode::WUSR;
        net::unix_listen_at(dir.as_fd(), OsStr::new(GATE), mode).context("failed to make the gate")
    }

    /// Knocks; the gate is gone afterwards.
    pub(crate) fn knock(&self) -> Result<OwnedFd> {
        let dir = self.open()?;
        let connected = net::unix_connect_at(dir.as_fd(), OsStr::new(GATE))
            .context("cannot start a container that has stopped or runs already")?;
        fs_err::remove_file(self.dir.join(GATE))?;
        Ok(connected)
    }

    fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.dir, flags, Mode::empty()).context("failed to open the state")
    }

    /// Keeps the configuration as it was when the container was made.
    pub(crate) fn write_config(&self, text: &[u8]) -> Result<()> {
        write_private(&self.dir.join(CONFIG), text)
    }

    pub(crate) fn spec(&self) -> Result<Spec> {
        let text = fs_err::read(self.dir.join(CONFIG))?;
        serde_json::from_slice(&text).context("failed to read the configuration of the container")
    }

    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let next = self.dir.join("state.json.new");
        write_private(&next, &serde_json::to_vec(record)?)?;
        Ok(fs_err::rename(next, self.dir.join(RECORD))?)
    }

    pub(crate) fn read(&self) -> Result<Record> {
        let path = self.dir.join(RECORD);
        let text = match fs_err::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("container does not exist")
            }
            other => other?,
        };
        let record: Record = serde_json::from_slice(&text)
            .with_context(|| format!("failed to read `{}`", path.display()))?;
        if record.version != 1 {
            bail!("`{}` was written by another version", path.display());
        }
        Ok(record)
    }

    /// The record with the state as it is now.
    pub(crate) fn look(&self) -> Result<Record> {
        let mut record = self.read()?;
        record.state.status = self.status(&record);
        if record.state.status == Status::Stopped {
            record.state.pid = 0;
        }
        Ok(record)
    }

    fn status(&self, record: &Record) -> Status {
        match start_ticks(record.state.pid) {
            Some(ticks) if ticks == record.start_ticks => {}
            _ => return Status::Stopped,
        }
        let cgroup = Host::detect().and_then(|host| Cgroup::open(&host, &record.cgroup));
        if cgroup
            .and_then(|cgroup| cgroup.is_frozen())
            .unwrap_or(false)
        {
            return Status::Paused;
        }
        if self.dir.join(GATE).exists() {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// Forgets the container.
    pub(crate) fn remove(&self) -> Result<()> {
        Ok(fs_err::remove_dir_all(&self.dir)?)
    }
}

fn write_private(path: &Path, text: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    Ok(options.open(path)?.write_all(text)?)
}

/// When the process was made, in clock ticks after boot (man 5 proc_pid_stat, field 22); None if
/// there is none or it is only waiting to be reaped.
pub(crate) fn start_ticks(pid: i32) -> Option<u64> {
    let text = fs_err::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the numbers come after the last one.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

impl Record {
    pub(crate) fn new(state: State, pid: Pid, cgroup: &Cgroup, rootfs: PathBuf) -> Self {
        let pid = pid.as_raw_pid();
        Self {
            version: 1,
            state: State { pid, ..state },
            start_ticks: start_ticks(pid).unwrap_or(0),
            created: Timestamp::now().to_string(),
            cgroup: Path::new("/").join(cgroup.path()),
            rootfs,
            descriptors: own_streams(),
        }
    }
}

/// Where the caller's standard streams lead, which the container inherits: `pipe:[7]`.
fn own_streams() -> Vec<String> {
    let link = |number: i32| {
        let target = fs_err::read_link(format!("/proc/self/fd/{number}"));
        target.map_or_else(|_closed| String::new(), |path| path.display().to_string())
    };
    (0..3).map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_component() {
        for id in ["", ".", "..", "a/b", "a b", "é", "a\n"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        check_id("a-1_b+c.d").unwrap();
    }

    #[test]
    fn our_own_start_is_known() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_ticks(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_ticks(i32::MAX), None);
    }
}
