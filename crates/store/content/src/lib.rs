//! Content-addressed blob store in OCI layout: `blobs/<algorithm>/<hex>`, and `ingest/` for what is
//! still arriving. A blob must never be visible under its digest before its bytes have been compared
//! with that digest and are on disk.
//!
//! Layout: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

mod error;
mod hasher;
mod ingest;

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err::File;
use havre_types::{Algorithm, Digest};

pub use crate::error::{ContentError, IngestError};
pub use crate::hasher::Hasher;
pub use crate::ingest::Ingest;

const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];

/// The store. Cheap to clone; several may be open on one directory.
#[derive(Debug, Clone)]
pub struct ContentStore {
    root: PathBuf,
}

/// A blob that is complete and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    pub size: u64,
    pub modified: SystemTime,
}

/// A blob that has not arrived completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    pub key: String,
    pub size: u64,
    pub modified: SystemTime,
}

impl ContentStore {
    /// Opens the store, making its directories if they are missing.
    pub fn open(root: &Path) -> Result<Self, ContentError> {
        let failed = |source| ContentError::Open {
            path: root.to_owned(),
            source,
        };
        for algorithm in ALGORITHMS {
            fs_err::create_dir_all(root.join("blobs").join(algorithm.as_str())).map_err(failed)?;
        }
        fs_err::create_dir_all(root.join("ingest")).map_err(failed)?;
        let layout = root.join("oci-layout");
        if fs_err::read(&layout).ok().as_deref() != Some(LAYOUT.as_bytes()) {
            let temporary = root.join("oci-layout.tmp");
            fs_err::write(&temporary, LAYOUT).map_err(failed)?;
            sync(&temporary).map_err(failed)?;
            fs_err::rename(&temporary, &layout).map_err(failed)?;
        }
        for directory in [&root.join("blobs"), root] {
            sync(directory).map_err(failed)?;
        }
        Ok(Self {
            root: root.to_owned(),
        })
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Starts or resumes the arrival of a blob. `key` names the arrival (usually the digest): one
    /// that was cut short, by `kill -9` too, goes on at [`Ingest::offset`]. Without `expected` the
    /// digest is whatever SHA-256 comes out. A key that is in use is refused.
    pub fn ingest(
        &self,
        key: &str,
        expected: Option<&Digest>,
        size: Option<u64>,
    ) -> Result<Ingest, IngestError> {
        Ingest::open(&self.root, key, expected, size)
    }

    /// Stores bytes that are at hand.
    pub fn put(&self, bytes: &[u8], expected: Option<&Digest>) -> Result<Digest, IngestError> {
        let digest = expected
            .cloned()
            .unwrap_or_else(|| Digest::sha256_of(bytes));
        // Several may store the same bytes at once; each takes the first key that is free.
        let mut attempt = 0_u32;
        let mut ingest = loop {
            let key = format!("put-{attempt}-{digest}");
            match self.ingest(&key, Some(&digest), Some(bytes.len() as u64)) {
                Err(IngestError::Busy { .. }) if attempt < 64 => attempt += 1,
                other => break other?,
            }
        };
        ingest.restart()?;
        ingest.write(bytes)?;
        ingest.commit()
    }

    /// The blob's file, open for reading. It stays readable when the blob is deleted meanwhile.
    pub fn blob(&self, digest: &Digest) -> Result<File, ContentError> {
        File::open(self.path(digest)).map_err(|source| missing_or(digest, source))
    }

    /// Where the blob is, or would be.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.root, digest)
    }

    pub fn size(&self, digest: &Digest) -> Result<u64, ContentError> {
        fs_err::metadata(self.path(digest))
            .map(|metadata| metadata.len())
            .map_err(|source| missing_or(digest, source))
    }

    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// A small blob as a whole, compared with its digest again. Refuses one larger than `limit`.
    pub fn read_limited(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ContentError> {
        let read = |source| ContentError::Read {
            digest: digest.clone(),
            source,
        };
        let file = self.blob(digest)?;
        let size = file.metadata().map_err(read)?.len();
        if size > limit {
            return Err(ContentError::TooLarge {
                digest: digest.clone(),
                size,
                limit,
            });
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(read)?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            return Err(ContentError::Damaged {
                digest: digest.clone(),
            });
        }
        Ok(bytes)
    }

    /// Reads the whole blob and compares it with its digest.
    pub fn verify(&self, digest: &Digest) -> Result<(), ContentError> {
        let mut file = self.blob(digest)?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher
            .update_from(&mut file)
            .map_err(|source| ContentError::Read {
                digest: digest.clone(),
                source,
            })?;
        if hasher.finish() == *digest {
            Ok(())
        } else {
            Err(ContentError::Damaged {
                digest: digest.clone(),
            })
        }
    }

    /// Removes a blob; `false` when there was none.
    pub fn delete(&self, digest: &Digest) -> Result<bool, ContentError> {
        match fs_err::remove_file(self.path(digest)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ContentError::Delete {
                digest: digest.clone(),
                source,
            }),
        }
    }

    /// All blobs, by digest. Files whose names are not digests are left out.
    pub fn list(&self) -> Result<Vec<Blob>, ContentError> {
        let mut blobs = Vec::new();
        for algorithm in ALGORITHMS {
            let directory = self.root.join("blobs").join(algorithm.as_str());
            let failed = |source| ContentError::List {
                path: directory.clone(),
                source,
            };
            for entry in fs_err::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let text = format!("{}:{}", algorithm.as_str(), name.to_string_lossy());
                let Ok(digest) = Digest::parse(&text) else {
                    continue;
                };
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(source) => return Err(failed(source)),
                };
                let modified = metadata.modified().map_err(failed)?;
                blobs.push(Blob {
                    digest,
                    size: metadata.len(),
                    modified,
                });
            }
        }
        blobs.sort_by(|one, other| one.digest.as_str().cmp(other.digest.as_str()));
        Ok(blobs)
    }

    /// What has begun to arrive and is not complete, in use or not.
    pub fn partials(&self) -> Result<Vec<Partial>, ContentError> {
        ingest::partials(&self.root)
    }

    /// Removes an unfinished arrival; `false` when there is none. One in use is refused.
    pub fn discard(&self, key: &str) -> Result<bool, IngestError> {
        ingest::discard(&self.root, key)
    }
}

pub(crate) fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs")
        .join(digest.algorithm().as_str())
        .join(digest.hex())
}

pub(crate) fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

fn missing_or(digest: &Digest, source: std::io::Error) -> ContentError {
    if source.kind() == ErrorKind::NotFound {
        ContentError::NotFound {
            digest: digest.clone(),
        }
    } else {
        ContentError::Read {
            digest: digest.clone(),
            source,
        }
    }
}
