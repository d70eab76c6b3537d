//! `load`: archives of images, of `docker save`'s form or an OCI layout, compressed or not.
//!
//! The archive is read once, front to back. Its members go into the content store under their own
//! digests, never under the names the archive gives them; what no image keeps is removed at the end.

mod docker;
mod layout;
mod members;

use crate::error::ArchiveError;
use crate::limits;
use crate::record::{Image, chain_ids};
use crate::store::{AddImage, ImageStore, parse_config};
use crate::unpack::{LayerSource, Unpacked};
use havre_oci::Descriptor;
use havre_types::{DiffId, Digest, ImageId, Platform, Reference, Timestamp};
pub(crate) use members::KEY;
use members::Members;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How many layers are unpacked at the same time.
const WORKERS: usize = 4;

/// One image of an archive, now in the store.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image.
    pub image: Arc<Image>,
    /// The names the archive gave it.
    pub references: Vec<Reference>,
}

/// What goes on during a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadEvent {
    /// The layer.
    pub diff_id: DiffId,
    /// How much of its archive has been unpacked: nothing or all.
    pub current: u64,
    /// The size of its archive.
    pub total: u64,
}

/// An image as the documents of an archive describe it.
#[derive(Debug)]
struct Found {
    config: Digest,
    /// The layers' archives, lowest first, in the content store.
    layers: Vec<Descriptor>,
    /// The manifest, when the compressed layers are to be kept with it.
    manifest: Option<Descriptor>,
    references: Vec<Reference>,
}

impl ImageStore {
    /// Takes in the images of an archive: of an index only the one for the platform.
    pub fn load(
        &self,
        archive: impl Read + Send,
        platform: &Platform,
        progress: &(dyn Fn(LoadEvent) + Sync),
        now: Timestamp,
    ) -> Result<Vec<Loaded>, ArchiveError> {
        let lease = self.lease();
        let mut members = Members::new(&self.content, &lease);
        let result = members
            .read(archive)
            .and_then(|()| self.load_members(&members, platform, progress, now));
        let blobs = members.into_blobs();
        drop(lease);
        // The images are in place or the error says more; what stays is collected later.
        if let Err(error) = self.remove_blobs(&blobs) {
            let error = havre_types::chain(&error);
            tracing::warn!(%error, "failed to remove the members of a loaded archive");
        }
        result
    }

    fn load_members(
        &self,
        members: &Members<'_>,
        platform: &Platform,
        progress: &(dyn Fn(LoadEvent) + Sync),
        now: Timestamp,
    ) -> Result<Vec<Loaded>, ArchiveError> {
        let found = if members.contains(docker::MANIFEST) {
            docker::images(members)?
        } else if members.contains(layout::INDEX) {
            layout::images(members, platform)?
        } else {
            return Err(ArchiveError::NoManifest);
        };
        let mut loaded = Vec::new();
        for found in found {
            let references = found.references.clone();
            let image = self.load_image(members, found, progress, now)?;
            loaded.push(Loaded { image, references });
        }
        Ok(loaded)
    }

    fn load_image(
        &self,
        members: &Members<'_>,
        found: Found,
        progress: &(dyn Fn(LoadEvent) + Sync),
        now: Timestamp,
    ) -> Result<Arc<Image>, ArchiveError> {
        let store = |source| ArchiveError::Store { source };
        let config = members.document(&found.config, limits::CONFIG)?;
        let id = ImageId(found.config);
        let diff_ids = parse_config(&id, &config).map_err(store)?.rootfs.diff_ids;
        let (expected, actual) = (diff_ids.len(), found.layers.len());
        if expected != actual {
            return Err(ArchiveError::LayerCount { expected, actual });
        }
        let chain = chain_ids(&diff_ids);
        let lease = self.lease();
        chain.iter().for_each(|layer| lease.chain(layer));
        let missing: Vec<usize> = (0..chain.len())
            .filter(|number| self.layer(&chain[*number]).is_none())
            .collect();
        let unpacked = self.unpack_all(&missing, &diff_ids, &found.layers, progress)?;
        let keep_blobs = found.manifest.is_some();
        let sources: Vec<LayerSource> = unpacked
            .into_iter()
            .map(|(number, unpacked)| LayerSource {
                chain_id: chain[number].clone(),
                parent: number.checked_sub(1).map(|below| chain[below].clone()),
                unpacked: Arc::new(unpacked),
                blob: keep_blobs.then(|| found.layers[number].clone()),
            })
            .collect();
        self.commit_layers(&sources).map_err(store)?;
        let manifest = found.manifest;
        self.add(AddImage {
            config,
            manifest,
            references: found.references,
            parent: None,
            now,
        })
        .map_err(store)
    }

    /// Unpacks the numbered layers, several at a time.
    fn unpack_all(
        &self,
        missing: &[usize],
        diff_ids: &[DiffId],
        layers: &[Descriptor],
        progress: &(dyn Fn(LoadEvent) + Sync),
    ) -> Result<BTreeMap<usize, Unpacked>, ArchiveError> {
        let queue = Mutex::new(missing.iter().copied());
        let done = Mutex::new(Ok(BTreeMap::new()));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some(number) = next() {
                let result = self.unpack_member(&diff_ids[number], &layers[number], progress);
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                match (&mut *done, result) {
                    (Ok(unpacked), Ok(layer)) => {
                        unpacked.insert(number, layer);
                    }
                    (Ok(_), Err(error)) => *done = Err(error),
                    (Err(_), _) => {}
                }
                if done.is_err() {
                    break;
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..WORKERS.min(missing.len()) {
                scope.spawn(work);
            }
            work();
        });
        done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpack_member(
        &self,
        diff_id: &DiffId,
        layer: &Descriptor,
        progress: &(dyn Fn(LoadEvent) + Sync),
    ) -> Result<Unpacked, ArchiveError> {
        let event = |current| LoadEvent {
            diff_id: diff_id.clone(),
            current,
            total: layer.size,
        };
        progress(event(0));
        let file = self
            .content
            .blob(&layer.digest)
            .map_err(|source| ArchiveError::Store {
                source: crate::StoreError::Content { source },
            })?;
        let unpacked = self
            .unpack(file, Some(diff_id))
            .map_err(|source| ArchiveError::Unpack {
                source: Box::new(source),
            })?;
        progress(event(layer.size));
        Ok(unpacked)
    }
}
