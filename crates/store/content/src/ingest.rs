//! The arrival of one blob: bytes go to `ingest/<hash of the key>/data`, and only a complete and
//! verified file is renamed into `blobs/`. What a crash leaves behind is never trusted: on resume it
//! is hashed again from its first byte.

use std::io::{ErrorKind, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs_err::{File, OpenOptions};
use havre_types::{Algorithm, Digest};
use rustix::fs::FlockOperation;

use crate::error::{ContentError, IngestError};
use crate::hasher::Hasher;
use crate::{Partial, blob_path, sync};

/// Longest key; it is kept in a file beside the data.
const KEY_LIMIT: usize = 4096;

/// An open arrival. Dropping it keeps what has arrived, for a later resume.
#[derive(Debug)]
pub struct Ingest {
    root: PathBuf,
    directory: PathBuf,
    key: String,
    /// Locked by flock, which ends with the descriptor: a killed process leaves no lock behind.
    file: File,
    hasher: Hasher,
    offset: u64,
    expected: Option<Digest>,
    size: Option<u64>,
}

impl Ingest {
    pub(crate) fn open(
        root: &Path,
        key: &str,
        expected: Option<&Digest>,
        size: Option<u64>,
    ) -> Result<Self, IngestError> {
        if key.is_empty() || key.len() > KEY_LIMIT {
            return Err(IngestError::Key { length: key.len() });
        }
        let failed = |source| IngestError::Io {
            key: key.to_owned(),
            source,
        };
        let directory = directory_of(root, key);
        let mut file = lock_data(&directory, key)?;
        // Synced only with the data: the key is for listing, nothing depends on it.
        if let Err(source) = fs_err::write(directory.join("key"), key) {
            // Without its key nobody would find it to remove it.
            if file.metadata().is_ok_and(|data| data.len() == 0) {
                remove(&directory, &["key", "data"]).map_err(failed)?;
            }
            return Err(failed(source));
        }
        let mut hasher = Hasher::new(expected.map_or(Algorithm::Sha256, Digest::algorithm));
        let mut offset = hasher.update_from(&mut file).map_err(failed)?;
        if size.is_some_and(|size| offset > size) {
            file.set_len(0).map_err(failed)?;
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            hasher = Hasher::new(expected.map_or(Algorithm::Sha256, Digest::algorithm));
            offset = 0;
        }
        Ok(Self {
            root: root.to_owned(),
            directory,
            key: key.to_owned(),
            file,
            hasher,
            offset,
            expected: expected.cloned(),
            size,
        })
    }

    /// How many bytes are here: where the source should go on.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes. More than the announced size is refused at once.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        let offset = self.offset + bytes.len() as u64;
        if let Some(expected) = self.size
            && offset > expected
        {
            return Err(IngestError::Size {
                key: self.key.clone(),
                expected,
                actual: offset,
            });
        }
        if let Err(source) = self.file.write_all(bytes) {
            // A part may have arrived. It goes, or a second try would put the bytes behind it, and
            // the hash would be that of another file; if it cannot, `publish` sees the length.
            let back = self.file.set_len(self.offset);
            drop(back.and_then(|()| self.file.seek(SeekFrom::Start(self.offset))));
            return Err(self.failed(source));
        }
        self.hasher.update(bytes);
        self.offset = offset;
        Ok(())
    }

    /// Throws away what is here, for a source that cannot go on in the middle.
    pub fn restart(&mut self) -> Result<(), IngestError> {
        self.file.set_len(0).map_err(|source| self.failed(source))?;
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(|source| self.failed(source))?;
        self.hasher = Hasher::new(self.algorithm());
        self.offset = 0;
        Ok(())
    }

    /// Verifies size and digest, syncs, and makes the blob visible. When the bytes are wrong, or
    /// could not be synced, they are removed, so that the next attempt starts from nothing.
    pub fn commit(self) -> Result<Digest, IngestError> {
        if let Some(expected) = self.size
            && self.offset != expected
        {
            // Too short: the bytes so far may be right, and are kept.
            return Err(IngestError::Size {
                key: self.key,
                expected,
                actual: self.offset,
            });
        }
        let actual = self.hasher.clone().finish();
        if let Some(expected) = self.expected.clone()
            && expected != actual
        {
            let key = self.key.clone();
            self.abort()?;
            return Err(IngestError::Digest {
                key,
                expected,
                actual,
            });
        }
        match self.publish(&actual) {
            Ok(()) => {
                // Not `data`: whoever begins anew under this key has made a new one.
                remove(&self.directory, &["key"]).map_err(|source| self.failed(source))?;
                Ok(actual)
            }
            Err(source) => {
                let error = self.failed(source);
                self.abort()?;
                Err(error)
            }
        }
    }

    /// Gives up and removes what has arrived.
    pub fn abort(self) -> Result<(), IngestError> {
        remove(&self.directory, &["key", "data"]).map_err(|source| self.failed(source))
    }

    fn publish(&self, digest: &Digest) -> std::io::Result<()> {
        let target = blob_path(&self.root, digest);
        if self.file.metadata()?.len() != self.offset {
            return Err(std::io::Error::other("the file is not what was hashed"));
        }
        self.file.sync_all()?;
        fs_err::rename(self.directory.join("data"), &target)?;
        match target.parent() {
            Some(parent) => sync(parent),
            None => Ok(()),
        }
    }

    fn algorithm(&self) -> Algorithm {
        self.expected
            .as_ref()
            .map_or(Algorithm::Sha256, Digest::algorithm)
    }

    fn failed(&self, source: std::io::Error) -> IngestError {
        IngestError::Io {
            key: self.key.clone(),
            source,
        }
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Self::write(self, bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Opens and locks `data`. A winner of the race may just have renamed or removed the file that was
/// locked here, so the name is looked at again under the lock.
fn lock_data(directory: &Path, key: &str) -> Result<File, IngestError> {
    let failed = |source| IngestError::Io {
        key: key.to_owned(),
        source,
    };
    let data = directory.join("data");
    loop {
        match fs_err::create_dir(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&data);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(IngestError::Busy {
                    key: key.to_owned(),
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        if is_at(&file, &data).map_err(failed)? {
            return Ok(file);
        }
    }
}

fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let held = file.metadata()?;
    match fs_err::metadata(path) {
        Ok(found) => Ok(found.ino() == held.ino() && found.dev() == held.dev()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn directory_of(root: &Path, key: &str) -> PathBuf {
    root.join("ingest")
        .join(Digest::sha256_of(key.as_bytes()).hex())
}

/// `data`, if among the names, goes last: it carries the lock.
fn remove(directory: &Path, names: &[&str]) -> std::io::Result<()> {
    for name in names {
        match fs_err::remove_file(directory.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match fs_err::remove_dir(directory) {
        // Someone has just begun anew under this key.
        Err(error)
            if !matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

pub(crate) fn partials(root: &Path) -> Result<Vec<Partial>, ContentError> {
    let directory = root.join("ingest");
    let failed = |source| ContentError::List {
        path: directory.clone(),
        source,
    };
    let mut partials = Vec::new();
    for entry in fs_err::read_dir(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        let Ok(metadata) = fs_err::metadata(entry.join("data")) else {
            continue;
        };
        let key = fs_err::read_to_string(entry.join("key")).unwrap_or_default();
        let modified = metadata.modified().map_err(failed)?;
        partials.push(Partial {
            key,
            size: metadata.len(),
            modified,
        });
    }
    partials.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(partials)
}

pub(crate) fn discard(root: &Path, key: &str) -> Result<bool, IngestError> {
    let directory = directory_of(root, key);
    if !directory.exists() {
        return Ok(false);
    }
    let locked = lock_data(&directory, key)?;
    let removed = remove(&directory, &["key", "data"]);
    drop(locked);
    removed.map(|()| true).map_err(|source| IngestError::Io {
        key: key.to_owned(),
        source,
    })
}
