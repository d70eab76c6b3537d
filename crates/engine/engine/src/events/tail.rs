//! Events that the journal does not have yet, in two files by turns: written without a sync, so they outlive the
//! engine but not the machine, and cost no more than a copy. What the journal has is dropped from them.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fs_err::{File, OpenOptions};
use havre_engine_types::Event;
use serde::{Deserialize, Serialize};

/// A line of the files.
#[derive(Serialize)]
struct Written<'a> {
    sequence: u64,
    event: &'a Event,
}

#[derive(Deserialize)]
struct Read {
    sequence: u64,
    event: Event,
}

/// The files.
#[derive(Debug)]
pub(super) struct Tail(Mutex<Files>);

#[derive(Debug)]
struct Files {
    files: [File; 2],
    current: usize,
}

impl Tail {
    /// Opens the files below `directory`, and reads what a former engine left: events by their numbers, in order.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Vec<(u64, Event)>)> {
        let mut left = Vec::new();
        let mut open = |name: &str| -> io::Result<File> {
            let path = directory.join(name);
            let text = fs_err::read(&path).unwrap_or_default();
            for line in text.split(|byte| *byte == b'\n') {
                // The last line may be cut: the engine was killed in the middle of it.
                if let Ok(read) = serde_json::from_slice::<Read>(line) {
                    left.push((read.sequence, read.event));
                }
            }
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            // So that what comes next does not continue a line that was cut.
            file.write_all(b"\n")?;
            Ok(file)
        };
        let files = [open("events.0")?, open("events.1")?];
        left.sort_by_key(|(sequence, _)| *sequence);
        left.dedup_by_key(|(sequence, _)| *sequence);
        Ok((Self(Mutex::new(Files { files, current: 0 })), left))
    }

    /// Adds an event.
    pub(super) fn append(&self, sequence: u64, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Written { sequence, event })?;
        line.push(b'\n');
        let mut files = self.lock();
        let current = files.current;
        match files.files.get_mut(current) {
            Some(file) => file.write_all(&line),
            None => Ok(()),
        }
    }

    /// What comes from now on goes to the other file, which [`Tail::forget`] has emptied.
    pub(super) fn turn(&self) {
        let mut files = self.lock();
        files.current = 1 - files.current;
    }

    /// Drops what stands before the last turn: the journal has it.
    pub(super) fn forget(&self) -> io::Result<()> {
        let files = self.lock();
        match files.files.get(1 - files.current) {
            Some(file) => file.set_len(0),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
