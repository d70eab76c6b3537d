//! Reads a log from its first, last or a dated record on, through rotations, and follows it. Never blocks: a follower
//! waits on the descriptor.

mod source;
mod start;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use havre_types::Timestamp;

use self::source::{Line, Source};
use self::watch::Watch;
use crate::error::LogError;
use crate::files::{self, Input};
use crate::record::Entry;
use crate::writer::Format;

/// Which records to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only the last so many records (before `since` and `until` choose among them); `None` = all.
    pub tail: Option<u64>,
    /// Only records from this time on.
    pub since: Option<Timestamp>,
    /// Only records up to this time.
    pub until: Option<Timestamp>,
    /// Go on with records that are still to be written.
    pub follow: bool,
    /// How the log is written.
    pub format: Format,
}

/// A place in a log.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    options: ReadOptions,
    watch: Option<Watch>,
    /// The file that is being read, and newer ones.
    files: VecDeque<Source>,
    skipped: u64,
    finished: bool,
}

impl Reader {
    /// Opens the log at `path`. A log that does not exist yet is empty.
    ///
    /// # Errors
    /// Fails when a file cannot be read or is not a regular file, or (to follow) when the kernel gives no watch.
    pub fn open(path: &Path, options: ReadOptions) -> Result<Self, LogError> {
        // The watch comes first, or a record written in between would wake nobody.
        let watch = if options.follow {
            Some(Watch::new(path)?)
        } else {
            None
        };
        let chain = files::newer(path, None)?;
        let files = start::from(chain, &options).map_err(|source| LogError::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            options,
            watch,
            files,
            skipped: 0,
            finished: false,
        })
    }

    /// The next record, or `None` when there is none now. After `None` a follower waits until the descriptor is
    /// readable and asks again; others are done.
    ///
    /// # Errors
    /// Fails when a file cannot be read. Damaged records are no error: they are skipped and counted.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LogError> {
        if let Some(watch) = &self.watch {
            // Before reading, never after: a record that comes in between must leave the descriptor readable.
            watch.clear();
        }
        while !self.finished {
            let Some(front) = self.files.front_mut() else {
                if self.options.follow && self.look_for_newer()? {
                    continue;
                }
                return Ok(None);
            };
            let line = front.next_record().map_err(|source| LogError::Read {
                path: self.path.clone(),
                source,
            })?;
            match line {
                Line::Record(Some(entry)) => match self.choose(&entry) {
                    Choice::Give => return Ok(Some(*entry)),
                    Choice::Skip => {}
                    Choice::Stop => self.finished = true,
                },
                Line::Record(None) => self.skipped += 1,
                Line::End if front.complete => {
                    self.files.pop_front();
                }
                Line::End if self.files.len() > 1 || self.look_for_newer()? => {
                    // What was written between our last read and the rotation is still to come.
                    if let Some(front) = self.files.front_mut() {
                        front.complete = true;
                    }
                }
                Line::End => return Ok(None),
            }
        }
        Ok(None)
    }

    /// How many damaged records were passed over.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether a record after `until` was seen: nothing more will come.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// The descriptor that becomes readable when there may be more; `None` unless following.
    #[must_use]
    pub fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    fn choose(&self, entry: &Entry) -> Choice {
        if self
            .options
            .until
            .is_some_and(|until| entry.timestamp > until)
        {
            Choice::Stop
        } else if self
            .options
            .since
            .is_some_and(|since| entry.timestamp < since)
        {
            Choice::Skip
        } else {
            Choice::Give
        }
    }

    /// Adds the files that are newer than the last one known.
    fn look_for_newer(&mut self) -> Result<bool, LogError> {
        if !self.options.follow {
            return Ok(false);
        }
        let last = self.files.back().map(Source::input);
        match files::open_read(&self.path) {
            Ok(current) => {
                let current = Input::Plain(current);
                if last.is_some_and(|last| current.is_same(last).unwrap_or(false)) {
                    return Ok(false);
                }
            }
            // Between the two steps of a rotation, or before the first start.
            Err(LogError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        // When ours has been removed already, all that is left is newer.
        let newer = files::newer(&self.path, last)?;
        let before = self.files.len();
        let sources = newer.into_iter();
        self.files
            .extend(sources.map(|input| Source::new(input, self.options.format)));
        Ok(self.files.len() > before)
    }
}

/// What `since` and `until` say about a record.
enum Choice {
    Give,
    Skip,
    Stop,
}
