//! Wakes a follower when files of the log's directory change.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::read;

use crate::error::LogError;

#[derive(Debug)]
pub(super) struct Watch {
    fd: OwnedFd,
}

impl Watch {
    /// Watches the directory: its events cover the file that is written now and the one that rotation puts in its
    /// place.
    pub(super) fn new(path: &Path) -> Result<Self, LogError> {
        let failed = |source: io::Error| LogError::Watch {
            path: path.to_owned(),
            source,
        };
        let directory = path.parent().unwrap_or(Path::new("."));
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let fd = inotify::init(flags).map_err(|error| failed(error.into()))?;
        let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, directory, events).map_err(|error| failed(error.into()))?;
        Ok(Self { fd })
    }

    /// Forgets what happened so far. The events themselves do not matter: the reader looks at the files.
    pub(super) fn clear(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        // Reading fails when there is nothing (left) to forget.
        while read(&self.fd, &mut buffer).is_ok_and(|(events, _)| !events.is_empty()) {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
