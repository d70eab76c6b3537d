//! Durable metadata: one SQLite file, one writer. It stores named documents and knows nothing about
//! what is in them; it must never acknowledge a write that `kill -9` or a power cut could undo, and
//! one damaged document must never keep the others from being read.

mod error;
mod open;
mod pending;
mod salvage;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension as _};

pub use crate::error::{OpenError, ReadError, WriteError};
pub use crate::pending::Pending;

use crate::pending::Completion;
use crate::schema::Stored;
use crate::writer::Job;

/// A document: its id within a kind, and its bytes (JSON by convention, not looked at here).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub id: String,
    pub body: Vec<u8>,
}

/// A document that was damaged on disk and has been set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub kind: String,
    pub id: String,
    pub reason: String,
}

/// Changes that become durable together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put {
        kind: String,
        id: String,
        body: Vec<u8>,
    },
    Delete {
        kind: String,
        id: String,
    },
}

impl Batch {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a document.
    #[must_use]
    pub fn put(mut self, kind: &str, id: &str, body: impl Into<Vec<u8>>) -> Self {
        self.changes.push(Change::Put {
            kind: kind.to_owned(),
            id: id.to_owned(),
            body: body.into(),
        });
        self
    }

    /// Removes a document; one that does not exist is no error.
    #[must_use]
    pub fn delete(mut self, kind: &str, id: &str) -> Self {
        self.changes.push(Change::Delete {
            kind: kind.to_owned(),
            id: id.to_owned(),
        });
        self
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// The store. Clones share it; the last one to go waits until everything queued is on disk.
#[derive(Debug, Clone)]
pub struct Meta {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    reader: Mutex<Connection>,
    quarantined: Mutex<Vec<Quarantined>>,
    jobs: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Meta {
    /// Opens or creates the store at `path`, whose directory must exist. Damaged documents are set
    /// aside (see [`Meta::quarantined`]) and do not make this fail.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let opened = open::open(path)?;
        let (jobs, queue) = channel();
        let connection = opened.writer;
        let writer = std::thread::Builder::new()
            .name("meta-writer".to_owned())
            .spawn(move || writer::run(connection, &queue))
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                reader: Mutex::new(opened.reader),
                quarantined: Mutex::new(opened.quarantined),
                jobs: Some(jobs),
                writer: Some(writer),
            }),
        })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Queues a batch. Batches become durable in the order of these calls, so whoever has seen a
    /// later one succeed knows that an earlier one was at least attempted before it; only the
    /// returned [`Pending`] tells that this one is durable.
    pub fn write(&self, batch: Batch) -> Pending {
        let (completion, pending) = pending::pair();
        if batch.changes.is_empty() {
            completion.finish(Ok(()));
            return pending;
        }
        let job = Job {
            changes: batch.changes,
            completion,
        };
        let refused = match &self.inner.jobs {
            Some(jobs) => jobs.send(job).err().map(|refused| refused.0),
            None => Some(job),
        };
        if let Some(job) = refused {
            job.completion.finish(Err(WriteError::Closed));
        }
        pending
    }

    /// Queues one document; as [`Meta::write`].
    pub fn put(&self, kind: &str, id: &str, body: impl Into<Vec<u8>>) -> Pending {
        self.write(Batch::new().put(kind, id, body))
    }

    /// Queues the removal of one document; as [`Meta::write`].
    pub fn delete(&self, kind: &str, id: &str) -> Pending {
        self.write(Batch::new().delete(kind, id))
    }

    /// The document as of the last durable write.
    pub fn get(&self, kind: &str, id: &str) -> Result<Option<Vec<u8>>, ReadError> {
        let failed = |source| ReadError::Get {
            kind: kind.to_owned(),
            id: id.to_owned(),
            source,
        };
        let row = {
            let reader = self
                .inner
                .reader
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut statement = reader.prepare_cached(schema::GET).map_err(failed)?;
            statement
                .query_row((kind, id), |row| Ok(Stored::read(row)))
                .optional()
                .map_err(failed)?
        };
        let Some(stored) = row else { return Ok(None) };
        if !stored.is_intact() {
            return Err(ReadError::Damaged {
                kind: kind.to_owned(),
                id: id.to_owned(),
            });
        }
        Ok(Some(stored.body))
    }

    /// All intact documents of a kind, by id. Damaged ones are left out and named by
    /// [`Meta::quarantined`].
    pub fn list(&self, kind: &str) -> Result<Vec<Document>, ReadError> {
        let failed = |source| ReadError::List {
            kind: kind.to_owned(),
            source,
        };
        let rows = {
            let reader = self
                .inner
                .reader
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut statement = reader.prepare_cached(schema::LIST).map_err(failed)?;
            let rows = statement
                .query_map((kind,), |row| Ok(Stored::read(row)))
                .map_err(failed)?;
            rows.collect::<Result<Vec<_>, _>>().map_err(failed)?
        };
        let mut documents = Vec::with_capacity(rows.len());
        for stored in rows {
            if stored.is_intact() {
                documents.push(Document {
                    id: stored.id_text(),
                    body: stored.body,
                });
            } else {
                self.note(stored.quarantined("its checksum does not match"));
            }
        }
        Ok(documents)
    }

    /// The damaged documents met since the store was opened.
    #[must_use]
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.inner
            .quarantined
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether documents of this kind may have been lost to damage, now or in an earlier run. Then what no document
    /// names is not left over: it may be all that remains of them. True until a person has emptied the table
    /// `quarantine` and taken the files `*.damaged-N` away.
    pub fn has_lost(&self, kind: &str) -> Result<bool, ReadError> {
        if was_rebuilt(&self.inner.path) {
            return Ok(true);
        }
        let reader = self
            .inner
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = "SELECT EXISTS(SELECT 1 FROM quarantine WHERE kind = ?1)";
        let found = reader.query_row(wanted, (kind.as_bytes(),), |row| row.get(0));
        found.map_err(|source| ReadError::List {
            kind: kind.to_owned(),
            source,
        })
    }

    fn note(&self, damaged: Quarantined) {
        let mut known = self
            .inner
            .quarantined
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&damaged) {
            known.push(damaged);
        }
    }
}

/// A damaged file is kept beside the one that was made of its remains.
fn was_rebuilt(path: &Path) -> bool {
    let (Some(name), Some(directory)) = (path.file_name(), path.parent()) else {
        return false;
    };
    let kept = format!("{}.damaged", name.to_string_lossy());
    let entries = fs_err::read_dir(directory).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().starts_with(&kept))
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has failed its jobs already: Completion does it on drop.
            drop(writer.join());
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.abandon();
    }
}
