//! The members of an archive: small documents and layers, by name and by digest.

use crate::error::{ArchiveError, StoreError};
use crate::lease::Lease;
use havre_content::{Blob, ContentStore, Ingest};
use havre_layer::{Kind, TarReader, decompress};
use havre_types::Digest;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// More than any archive of images has, and few enough to list in memory.
const LIMIT: usize = 20_000;
/// The largest layer, compressed or not.
const SIZE: u64 = 64 << 30;
/// What is read and written at once.
const BUFFER: usize = 1 << 16;
/// How many links lead from one name to a file at most.
const LINKS: usize = 8;

/// How the keys of members begin: nobody goes on with what has arrived under one.
pub(crate) const KEY: &str = "load-";

/// What has been read.
#[derive(Debug)]
pub(super) struct Members<'a> {
    content: &'a ContentStore,
    lease: &'a Lease,
    files: BTreeMap<String, Digest>,
    links: BTreeMap<String, String>,
    sizes: BTreeMap<Digest, u64>,
}

impl<'a> Members<'a> {
    pub(super) fn new(content: &'a ContentStore, lease: &'a Lease) -> Self {
        let (files, links, sizes) = Default::default();
        Self {
            content,
            lease,
            files,
            links,
            sizes,
        }
    }

    /// Reads the whole archive into the content store.
    pub(super) fn read(&mut self, archive: impl Read + Send) -> Result<(), ArchiveError> {
        let archive = decompress(archive).map_err(|source| ArchiveError::Io { source })?;
        let mut reader = TarReader::new(BufReader::with_capacity(BUFFER, archive));
        while let Some(entry) = reader
            .next_entry()
            .map_err(|source| ArchiveError::Tar { source })?
        {
            if self.files.len() + self.links.len() >= LIMIT {
                return Err(ArchiveError::TooManyMembers { limit: LIMIT });
            }
            let name = plain_name(&entry.path);
            match &entry.kind {
                Kind::File => {
                    let digest = self.store(&mut reader.content(&entry), &name)?;
                    self.files.insert(name, digest);
                }
                // Old archives name a layer that several images share by a link.
                Kind::Symlink { target } => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let target = String::from_utf8_lossy(target);
                    self.links.insert(name.clone(), join(folder, &target));
                }
                Kind::HardLink { target } => {
                    self.links.insert(name, plain_name(target));
                }
                Kind::Directory | Kind::Character { .. } | Kind::Block { .. } | Kind::Fifo => {}
            }
        }
        Ok(())
    }

    /// Puts a member into the content store; of one that cannot be read to its end nothing stays.
    fn store(&mut self, data: &mut impl Read, name: &str) -> Result<Digest, ArchiveError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let failed = |source| ArchiveError::Store {
            source: StoreError::Ingest { source },
        };
        let key = format!("{KEY}{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut ingest = self.content.ingest(&key, None, None).map_err(failed)?;
        if let Err(error) = fill(&mut ingest, data, name) {
            // A disk that is full must not stay so because of what nobody can use.
            if let Err(left) = ingest.abort() {
                let left = havre_types::chain(&left);
                tracing::warn!(key, error = %left, "the beginning of a member stays");
            }
            return Err(error);
        }
        let size = ingest.offset();
        let digest = ingest.commit().map_err(failed)?;
        self.lease.blob(&digest);
        self.sizes.insert(digest.clone(), size);
        Ok(digest)
    }

    // === looking things up ===

    pub(super) fn contains(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// The member of a name, through links.
    pub(super) fn find(&self, name: &str) -> Result<(Digest, u64), ArchiveError> {
        let missing = || ArchiveError::MemberMissing {
            name: name.to_owned(),
        };
        let mut at = plain_name(name.as_bytes());
        for _ in 0..=LINKS {
            if let Some(digest) = self.files.get(&at) {
                let size = self.sizes.get(digest).copied().unwrap_or_default();
                return Ok((digest.clone(), size));
            }
            at = self.links.get(&at).ok_or_else(missing)?.clone();
        }
        Err(missing())
    }

    /// The size of the member with this digest.
    pub(super) fn size(&self, digest: &Digest) -> Result<u64, ArchiveError> {
        let missing = || ArchiveError::MemberMissing {
            name: digest.to_string(),
        };
        self.sizes.get(digest).copied().ok_or_else(missing)
    }

    /// A small member, whole, by its digest.
    pub(super) fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let size = self.size(digest)?;
        if size > limit {
            return Err(ArchiveError::MemberTooLarge {
                name: digest.to_string(),
                size,
                limit,
            });
        }
        self.content
            .read_limited(digest, limit)
            .map_err(|source| ArchiveError::Store {
                source: StoreError::Content { source },
            })
    }

    /// A small member, parsed, by its name.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<T, ArchiveError> {
        let bytes = self.document(&self.find(name)?.0, limit)?;
        serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Json {
            name: name.to_owned(),
            source,
        })
    }

    /// Everything that was stored.
    pub(super) fn into_blobs(self) -> Vec<Blob> {
        let blob = |(digest, size)| Blob {
            digest,
            size,
            modified: SystemTime::UNIX_EPOCH,
        };
        self.sizes.into_iter().map(blob).collect()
    }
}

/// A name as a key: components without `.`, with `..` resolved and never above the top.
fn plain_name(path: &[u8]) -> String {
    join("", &String::from_utf8_lossy(path))
}

fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { folder };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn fill(ingest: &mut Ingest, data: &mut impl Read, name: &str) -> Result<(), ArchiveError> {
    let failed = |source| ArchiveError::Store {
        source: StoreError::Ingest { source },
    };
    ingest.restart().map_err(failed)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = data
            .read(&mut buffer)
            .map_err(|source| ArchiveError::Io { source })?;
        if count == 0 {
            return Ok(());
        }
        let size = ingest.offset() + count as u64;
        if size > SIZE {
            let name = name.to_owned();
            return Err(ArchiveError::MemberTooLarge {
                name,
                size,
                limit: SIZE,
            });
        }
        ingest.write(&buffer[..count]).map_err(failed)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keys_not_paths() {
        for (folder, path, name) in [
            ("", "./manifest.json", "manifest.json"),
            ("", "/a//b/", "a/b"),
            ("", "../../etc/passwd", "etc/passwd"),
            ("abc", "../def/layer.tar", "def/layer.tar"),
            ("abc", "/def/layer.tar", "def/layer.tar"),
        ] {
            assert_eq!(join(folder, path), name);
        }
    }
}
