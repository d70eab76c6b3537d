//! What makes an engine the only one on its directories: locks on both roots, and the pid file.
//! A lock ends with the process, so a crash never leaves one behind.

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fs_err::OpenOptions;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::event::{Timespec, poll};
use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::io::Errno;
use rustix::process::Pid;
use tracing::warn;

/// How long the last child of an engine that was killed may keep its locks.
const CRASHED: Duration = Duration::from_secs(2);

/// Held as long as the engine runs.
#[derive(Debug)]
pub(crate) struct Claim {
    _data: OwnedFd,
    _exec: OwnedFd,
    pidfile: PathBuf,
}

impl Claim {
    /// Makes the directories and takes them.
    pub(crate) fn take(data_root: &Path, exec_root: &Path, pidfile: &Path) -> anyhow::Result<Self> {
        make_dir(data_root, 0o700)?;
        // The socket may lie in it, for a group that has no other business here.
        make_dir(exec_root, 0o711)?;
        let (data, exec) = (lock(data_root)?, lock(exec_root)?);
        write_pidfile(pidfile).with_context(|| {
            let path = pidfile.display();
            format!("failed to start daemon, ensure havred is not running or delete {path}")
        })?;
        Ok(Self {
            _data: data,
            _exec: exec,
            pidfile: pidfile.to_owned(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Err(error) = fs_err::remove_file(&self.pidfile) {
            warn!(%error, "the pid file stays");
        }
    }
}

fn make_dir(path: &Path, mode: u32) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(mode).create(path);
    made.with_context(|| format!("failed to make the directory `{}`", path.display()))
}

fn lock(root: &Path) -> anyhow::Result<OwnedFd> {
    let path = root.join("havred.lock");
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(&path)?;
    let file = OwnedFd::from(file.into_file());
    // Not flock(2): a child on its way to its exec would hold that on. This kind is held on only by one that has not
    // made its table of descriptors its own yet, so an engine that is started at once after a crash waits a moment.
    let until = Instant::now() + CRASHED;
    loop {
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::ACCESS) if Instant::now() < until => pause(),
            Err(Errno::WOULDBLOCK | Errno::ACCESS) => {
                bail!("another engine is using `{}`", root.display())
            }
            Err(error) => {
                let what = || format!("failed to lock `{}`", path.display());
                return Err(error).with_context(what);
            }
        }
    }
}

fn pause() {
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 10_000_000,
    };
    if poll(&mut [], Some(&moment)).is_err() {
        // Interrupted: the next attempt comes early.
    }
}

fn write_pidfile(path: &Path) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        make_dir(parent, 0o755)?;
    }
    let own = rustix::process::getpid();
    if let Ok(text) = fs_err::read_to_string(path)
        && let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw)
        && pid != own
        && is_engine(pid)
    {
        bail!("process with PID {pid} is still running");
    }
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o644)
        .custom_flags(flags)
        .open(path)?;
    std::io::Write::write_all(&mut file, own.to_string().as_bytes())?;
    Ok(())
}

/// After a crash the number may have gone to another program, which must not keep the engine from its start.
fn is_engine(pid: Pid) -> bool {
    let name = |of: &str| fs_err::read_to_string(format!("/proc/{of}/comm")).ok();
    let found = name(&pid.as_raw_nonzero().to_string());
    found.is_some() && found == name("self")
}
