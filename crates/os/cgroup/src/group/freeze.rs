//! Suspension, the end of all processes, and removal.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open, rmdir};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::nanosleep;
use rustix::time::Timespec;

use super::{Cgroup, io, read};
use crate::error::CgroupError;
use crate::host::Controller;

/// For tasks that are in the middle of an uninterruptible operation.
const FREEZE_TIME: Duration = Duration::from_secs(10);
/// For processes that were killed to be gone.
const DELETE_TIME: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Suspends every process of the group. Returns when all of them stand still.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        match &self.v2 {
            Some(dir) => {
                write(&dir.path.join("cgroup.freeze"), "1")?;
                await_event(&dir.path, "frozen 1", FREEZE_TIME)
                    .inspect_err(|_late| drop(self.thaw()))
            }
            None => self.freeze_v1().inspect_err(|_late| drop(self.thaw())),
        }
    }

    /// Lets every process of the group go on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        match &self.v2 {
            Some(dir) => write(&dir.path.join("cgroup.freeze"), "0"),
            None => match self.dir_of(Controller::Freezer) {
                Some(dir) => write(&dir.join("freezer.state"), "THAWED"),
                None => Ok(()),
            },
        }
    }

    /// True if the group is suspended, or about to be.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        if let Some(dir) = &self.v2 {
            return Ok(io::read(&dir.path.join("cgroup.freeze"))?.trim() == "1");
        }
        match self.dir_of(Controller::Freezer) {
            Some(dir) => Ok(io::read(&dir.join("freezer.self_freezing"))?.trim() == "1"),
            None => Ok(false),
        }
    }

    /// Version 1 gives no notice and may stay at FREEZING while processes are born; writing the
    /// state again makes it look at the new ones.
    fn freeze_v1(&self) -> Result<(), CgroupError> {
        let Some(dir) = self.dir_of(Controller::Freezer) else {
            let (controller, field) = ("freezer", "pause");
            return Err(CgroupError::NoController { controller, field });
        };
        let file = dir.join("freezer.state");
        let mut wait = Backoff::new(FREEZE_TIME);
        loop {
            write(&file, "FROZEN")?;
            if io::read(&file)?.trim() == "FROZEN" {
                return Ok(());
            }
            if !wait.pause() {
                return Err(CgroupError::Timeout {
                    path: dir.to_path_buf(),
                    state: "frozen",
                });
            }
        }
    }

    /// Sends KILL to every process of the group and of the groups below it. Those that are born
    /// meanwhile are hit too. Does not wait until they are gone.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        if let Some(dir) = &self.v2 {
            match io::write(&dir.path.join("cgroup.kill"), "1") {
                // Since Linux 5.14.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Ok(()) => return self.thaw(),
                Err(source) => {
                    let path = dir.path.join("cgroup.kill");
                    return Err(CgroupError::Write {
                        path,
                        value: "1".to_owned(),
                        source,
                    });
                }
            }
        }
        // Nothing forks while it stands still. If it cannot be stopped, killing goes on anyway.
        let frozen = self.freeze();
        let killed = self.kill_each();
        // On version 1 a frozen process dies only when it is thawed, also one that was suspended
        // by a group inside.
        if let Some(dir) = self
            .dir_of(Controller::Freezer)
            .filter(|_| self.v2.is_none())
        {
            thaw_tree(dir)?;
        } else if frozen.is_ok() {
            self.thaw()?;
        }
        killed
    }

    fn kill_each(&self) -> Result<(), CgroupError> {
        for pid in self.procs()? {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            // One that has ended meanwhile is as good as killed.
            if let Some(Err(errno)) = pid.map(|pid| kill_process(pid, Signal::KILL))
                && errno != Errno::SRCH
            {
                let path = self.path.clone();
                return Err(CgroupError::Join {
                    path,
                    source: errno.into(),
                });
            }
        }
        Ok(())
    }

    /// Removes the group, and groups that the container made below it. What is gone already is
    /// fine; processes that were killed get some time to go. All hierarchies are tried before
    /// the first error is returned.
    pub fn delete(&self) -> Result<(), CgroupError> {
        let mut result = Ok(());
        for dir in self.every_dir() {
            let removed = remove(dir);
            if result.is_ok() {
                result = removed;
            }
        }
        result
    }
}

fn thaw_tree(dir: &Path) -> Result<(), CgroupError> {
    write(&dir.join("freezer.state"), "THAWED")?;
    read::children(dir)?
        .iter()
        .try_for_each(|child| thaw_tree(child))
}

/// The fast path is one system call.
fn remove(dir: &Path) -> Result<(), CgroupError> {
    let mut wait = Backoff::new(DELETE_TIME);
    loop {
        match rmdir(dir) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => {
                for child in read::children(dir).unwrap_or_default() {
                    remove(&child)?;
                }
                if rmdir(dir).is_ok() {
                    return Ok(());
                }
                if !wait.pause() {
                    let source = Errno::BUSY.into();
                    return Err(CgroupError::Delete {
                        path: dir.to_path_buf(),
                        source,
                    });
                }
            }
            Err(errno) => {
                let source = errno.into();
                return Err(CgroupError::Delete {
                    path: dir.to_path_buf(),
                    source,
                });
            }
        }
    }
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    io::write(path, value).map_err(|source| CgroupError::Write {
        path: path.to_path_buf(),
        value: value.to_owned(),
        source,
    })
}

/// Waits until a line is in `cgroup.events`, of which the kernel gives notice by POLLPRI.
fn await_event(dir: &Path, line: &str, time: Duration) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.events");
    let failed = |errno: Errno| CgroupError::Read {
        path: path.clone(),
        source: errno.into(),
    };
    let fd = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let end = Instant::now() + time;
    loop {
        let mut text = [0; 256];
        let got = rustix::io::pread(&fd, &mut text, 0).map_err(failed)?;
        if text[..got]
            .split(|b| *b == b'\n')
            .any(|l| l == line.as_bytes())
        {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_range| failed(Errno::RANGE))?;
        let mut polled = [PollFd::new(&fd, PollFlags::PRI)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => {
                return Err(CgroupError::Timeout {
                    path: dir.to_path_buf(),
                    state: "frozen",
                });
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// Pauses that grow, up to a deadline: for states of which the kernel gives no notice.
struct Backoff {
    end: Instant,
    next: Duration,
}

impl Backoff {
    fn new(time: Duration) -> Self {
        Self {
            end: Instant::now() + time,
            next: Duration::from_micros(50),
        }
    }

    /// Pauses, or returns false if the time is up.
    fn pause(&mut self) -> bool {
        if Instant::now() >= self.end {
            return false;
        }
        let nanos = i64::from(self.next.subsec_nanos());
        // An early end of a pause is harmless: the state is looked at again.
        drop(nanosleep(&Timespec {
            tv_sec: 0,
            tv_nsec: nanos,
        }));
        self.next = (self.next * 2).min(Duration::from_millis(20));
        true
    }
}
