//! What both drivers share: numbered directories, the records of what is in them, and the rules
//! about parents. Reads are served from memory; a record is in memory as usable only once its
//! directory is complete.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use havre_meta::{Batch, Meta, Pending};
use havre_types::Timestamp;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::SnapshotError;
use crate::trash::Trash;
use crate::{Info, Kind};

/// As stored in the metadata, under the snapshot's key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) parent: Option<String>,
    pub(crate) created: Timestamp,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct State {
    root: PathBuf,
    meta: Meta,
    /// Kind of our documents in the metadata.
    documents: &'static str,
    table: Mutex<Table>,
    trash: Trash,
    lost: Vec<String>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    records: BTreeMap<String, Slot>,
}

#[derive(Debug, Clone)]
enum Slot {
    /// Taken by an operation that is still making it.
    Reserved {
        parent: Option<String>,
    },
    Ready(Record),
}

impl Slot {
    fn parent(&self) -> Option<&str> {
        match self {
            Self::Reserved { parent, .. } => parent.as_deref(),
            Self::Ready(record) => record.parent.as_deref(),
        }
    }
}

impl State {
    pub(crate) fn open(
        root: &Path,
        meta: &Meta,
        documents: &'static str,
        make: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<Self, SnapshotError> {
        let failed = |source| SnapshotError::Open {
            path: root.to_owned(),
            source,
        };
        fs_err::create_dir_all(root).map_err(failed)?;
        spread(root).map_err(failed)?;
        let trash = Trash::open(root).map_err(failed)?;
        let mut numbers = numbered(root).map_err(failed)?;
        let mut table = Table {
            next: numbers.iter().max().map_or(1, |max| max + 1),
            ..Table::default()
        };
        let mut lost = Vec::new();
        let mut forget = Batch::new();
        for document in meta
            .list(documents)
            .map_err(|source| SnapshotError::Records { source })?
        {
            match serde_json::from_slice::<Record>(&document.body) {
                Ok(record) if numbers.contains(&record.number) => {
                    numbers.retain(|number| *number != record.number);
                    table.next = table.next.max(record.number + 1);
                    table.records.insert(document.id, Slot::Ready(record));
                }
                // Power was cut after the record was on disk and before the directory was; nothing
                // that was written to it can have survived either.
                Ok(record) if matches!(record.kind, Kind::Active | Kind::View) => {
                    make(&root.join(record.number.to_string())).map_err(failed)?;
                    table.next = table.next.max(record.number + 1);
                    table.records.insert(document.id, Slot::Ready(record));
                }
                // Its removal was cut short after the directory had gone, or somebody deleted it.
                Ok(_) | Err(_) => {
                    forget = forget.delete(documents, &document.id);
                    lost.push(document.id);
                }
            }
        }
        let orphans = cut_loose(&mut table, &mut lost);
        for key in &lost {
            forget = forget.delete(documents, key);
        }
        meta.write(forget)
            .wait()
            .map_err(|source| SnapshotError::Record {
                key: lost.join(", "),
                source,
            })?;
        // Without a record that was damaged, what it named looks like a left-over.
        let has_lost = meta
            .has_lost(documents)
            .map_err(|source| SnapshotError::Records { source })?;
        let unnamed = numbers.into_iter().chain(orphans);
        for number in unnamed.filter(|_| !has_lost) {
            trash
                .take(&root.join(number.to_string()), number)
                .map_err(failed)?;
        }
        let table = Mutex::new(table);
        Ok(Self {
            root: root.to_owned(),
            meta: meta.clone(),
            documents,
            table,
            trash,
            lost,
        })
    }

    pub(crate) fn lost(&self) -> Vec<String> {
        self.lost.clone()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn directory(&self, number: u64) -> PathBuf {
        self.root.join(number.to_string())
    }

    /// Takes a key that must be free, on a parent that must be committed; the number of its
    /// directory. [`State::publish`] or [`State::release`] must follow.
    pub(crate) fn reserve(&self, key: &str, parent: Option<&str>) -> Result<u64, SnapshotError> {
        if key.is_empty() {
            return Err(SnapshotError::EmptyKey);
        }
        let mut table = self.table();
        if table.records.contains_key(key) {
            return Err(SnapshotError::Exists {
                key: key.to_owned(),
            });
        }
        if let Some(parent) = parent {
            committed(&table, parent)?;
        }
        let number = table.next;
        table.next += 1;
        let parent = parent.map(str::to_owned);
        table
            .records
            .insert(key.to_owned(), Slot::Reserved { parent });
        Ok(number)
    }

    /// A number for a directory that no key stands for yet.
    pub(crate) fn fresh_number(&self) -> u64 {
        let mut table = self.table();
        table.next += 1;
        table.next - 1
    }

    /// Removes a directory that no record names.
    pub(crate) fn discard(&self, number: u64) {
        // Left in place if the rename fails: nothing refers to it, the next start sweeps it.
        drop(self.trash.take(&self.directory(number), number));
    }

    /// Gives a reserved key back and removes what was made for it.
    pub(crate) fn release(&self, key: &str, number: u64) {
        self.table().records.remove(key);
        self.discard(number);
    }

    pub(crate) fn record(&self, number: u64, kind: Kind, parent: Option<&str>) -> Record {
        Record {
            version: 1,
            number,
            kind,
            parent: parent.map(str::to_owned),
            created: Timestamp::now(),
            labels: BTreeMap::new(),
        }
    }

    /// Makes a reserved key usable, and queues its record unless it is a detached one.
    pub(crate) fn publish(&self, key: &str, record: Record) -> Pending {
        let batch = if record.kind == Kind::Detached {
            Batch::new()
        } else {
            Batch::new().put(self.documents, key, body(&record))
        };
        let pending = self.meta.write(batch);
        self.table()
            .records
            .insert(key.to_owned(), Slot::Ready(record));
        pending
    }

    /// Renames records, durably and all together: each old key goes, its new name comes.
    pub(crate) fn rename(&self, moves: Vec<(String, String, Record)>) -> Result<(), SnapshotError> {
        let mut batch = Batch::new();
        for (old, new, record) in &moves {
            batch = batch
                .delete(self.documents, old)
                .put(self.documents, new, body(record));
        }
        let first = moves
            .first()
            .map(|(_, new, _)| new.clone())
            .unwrap_or_default();
        self.meta
            .write(batch)
            .wait()
            .map_err(|source| SnapshotError::Record { key: first, source })?;
        let mut table = self.table();
        for (old, new, record) in moves {
            table.records.remove(&old);
            table.records.insert(new, Slot::Ready(record));
        }
        Ok(())
    }

    /// Fails if the name is taken.
    pub(crate) fn check_free(&self, name: &str) -> Result<(), SnapshotError> {
        let taken = self.table().records.contains_key(name);
        if taken {
            return Err(SnapshotError::Exists {
                key: name.to_owned(),
            });
        }
        Ok(())
    }

    pub(crate) fn get(&self, key: &str) -> Result<Record, SnapshotError> {
        ready(&self.table(), key).cloned()
    }

    pub(crate) fn get_kind(&self, key: &str, kinds: &[Kind]) -> Result<Record, SnapshotError> {
        let record = self.get(key)?;
        if kinds.contains(&record.kind) {
            Ok(record)
        } else {
            Err(SnapshotError::WrongKind {
                key: key.to_owned(),
                found: record.kind,
            })
        }
    }

    /// The numbers of the parents, the topmost first.
    pub(crate) fn chain(&self, parent: Option<&str>) -> Result<Vec<u64>, SnapshotError> {
        let table = self.table();
        let mut numbers = Vec::new();
        let mut next = parent;
        while let Some(key) = next {
            let record = committed(&table, key)?;
            numbers.push(record.number);
            next = record.parent.as_deref();
        }
        Ok(numbers)
    }

    /// Takes a snapshot that nothing lies on out of sight. The directory goes first: a record
    /// without a directory is recognised at the next start, a damaged directory would not be.
    pub(crate) fn remove(&self, key: &str) -> Result<(), SnapshotError> {
        let record = {
            let mut table = self.table();
            let record = ready(&table, key)?.clone();
            let child = table
                .records
                .iter()
                .find(|(_, slot)| slot.parent() == Some(key));
            if let Some((child, _)) = child {
                let child = child.clone();
                return Err(SnapshotError::InUse {
                    key: key.to_owned(),
                    child,
                });
            }
            let parent = record.parent.clone();
            table
                .records
                .insert(key.to_owned(), Slot::Reserved { parent });
            record
        };
        if let Err(source) = self
            .trash
            .take(&self.directory(record.number), record.number)
        {
            self.table()
                .records
                .insert(key.to_owned(), Slot::Ready(record));
            return Err(SnapshotError::Remove {
                key: key.to_owned(),
                source,
            });
        }
        // Not waited for: if it is lost, the next start finds the directory gone and repeats it.
        drop(self.meta.delete(self.documents, key));
        self.table().records.remove(key);
        Ok(())
    }

    /// Waits until the space of what was removed is free.
    pub(crate) fn wait_for_trash(&self, limit: Duration) {
        self.trash.wait(limit);
    }

    pub(crate) fn info(&self, key: &str) -> Result<Info, SnapshotError> {
        Ok(to_info(key, &self.get(key)?))
    }

    pub(crate) fn walk(&self) -> Vec<Info> {
        let table = self.table();
        let ready = table.records.iter().filter_map(|(key, slot)| match slot {
            Slot::Ready(record) => Some(to_info(key, record)),
            Slot::Reserved { .. } => None,
        });
        ready.collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_info(key: &str, record: &Record) -> Info {
    Info {
        key: key.to_owned(),
        parent: record.parent.clone(),
        kind: record.kind,
        created: record.created,
        labels: record.labels.clone(),
    }
}

fn ready<'a>(table: &'a Table, key: &str) -> Result<&'a Record, SnapshotError> {
    match table.records.get(key) {
        Some(Slot::Ready(record)) => Ok(record),
        Some(Slot::Reserved { .. }) | None => Err(SnapshotError::NotFound {
            key: key.to_owned(),
        }),
    }
}

fn committed<'a>(table: &'a Table, key: &str) -> Result<&'a Record, SnapshotError> {
    let record = ready(table, key)?;
    match record.kind {
        Kind::Committed => Ok(record),
        Kind::Active | Kind::View | Kind::Detached => Err(SnapshotError::WrongKind {
            key: key.to_owned(),
            found: record.kind,
        }),
    }
}

fn body(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("a record has only texts and numbers")
}

fn numbered(root: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs_err::read_dir(root)? {
        if let Ok(number) = entry?.file_name().to_string_lossy().parse() {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

/// Drops records whose parents are gone, and those on them; the numbers of their directories.
fn cut_loose(table: &mut Table, lost: &mut Vec<String>) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let loose = table
            .records
            .iter()
            .find_map(|(key, slot)| match slot.parent() {
                Some(parent) if !table.records.contains_key(parent) => Some(key.clone()),
                _ => None,
            });
        let Some(key) = loose else { return numbers };
        if let Some(Slot::Ready(record)) = table.records.remove(&key) {
            numbers.push(record.number);
        }
        lost.push(key);
    }
}

/// Tells ext4 that the snapshots have nothing to do with each other, so that it spreads them over
/// the disk. Otherwise a new layer goes where a removed one was, and ext4, which does not give a
/// freed inode away for some minutes, looks at each of them again for every file it makes: measured
/// here, 51,000 files took four to five times as long after a removal.
/// <https://github.com/torvalds/linux/blob/v6.18/fs/ext4/ialloc.c> (`find_group_orlov`,
/// `recently_deleted`)
fn spread(root: &Path) -> io::Result<()> {
    let directory = fs_err::File::open(root)?;
    // Other file systems have no such flag; they are as fast without it.
    if let Ok(flags) = ioctl_getflags(&directory)
        && !flags.contains(IFlags::TOPDIR)
        && let Err(errno) = ioctl_setflags(&directory, flags | IFlags::TOPDIR)
        && !matches!(
            errno,
            Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::PERM
        )
    {
        return Err(errno.into());
    }
    Ok(())
}
