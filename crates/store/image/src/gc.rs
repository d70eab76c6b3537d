//! Removing blobs and layers that no image needs any more.
//!
//! What a lease holds stays, and so does a layer that something lies on: a container's own layer
//! keeps the layers of its image even when the image is gone. What images refer to is read only
//! after the leases are locked: who brings an image in records it before it lets its lease go.

use crate::error::StoreError;
use crate::load::KEY;
use crate::record::{Image, LAYER, LayerRecord};
use crate::store::ImageStore;
use havre_content::Blob;
use havre_meta::Batch;
use havre_snapshot::{Kind, SnapshotError};
use havre_types::{ChainId, Digest};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// The size of these blobs.
    pub bytes: u64,
    /// Layers.
    pub layers: Vec<ChainId>,
}

/// What is referred to.
#[derive(Debug, Default)]
pub(crate) struct Keep {
    blobs: BTreeSet<Digest>,
    chains: BTreeSet<ChainId>,
}

impl Keep {
    pub(crate) fn image(&mut self, image: &Image, layers: &BTreeMap<ChainId, LayerRecord>) {
        self.blobs.insert(image.id().0.clone());
        self.blobs.extend(
            image
                .record
                .manifest
                .iter()
                .map(|manifest| manifest.digest.clone()),
        );
        for chain in image.chain_ids() {
            let blob = layers.get(&chain).and_then(|layer| layer.blob.as_ref());
            self.blobs.extend(blob.map(|blob| blob.digest.clone()));
            self.chains.insert(chain);
        }
    }
}

impl ImageStore {
    /// Removes every blob and layer that nothing needs and, of blobs, that is older than `grace`.
    pub fn collect_garbage(&self, grace: Duration) -> Result<Collected, StoreError> {
        let now = SystemTime::now();
        let old = |blob: &Blob| {
            now.duration_since(blob.modified)
                .is_ok_and(|age| age >= grace)
        };
        let blobs = self
            .content
            .list()
            .map_err(|source| StoreError::Content { source })?;
        let blobs: Vec<Blob> = blobs.into_iter().filter(old).collect();
        let chains: Vec<ChainId> = self.chains_from_the_top().into_iter().collect();
        let layers = self.remove_layers(&chains)?;
        let (blobs, bytes) = self.remove_blobs(&blobs)?;
        Ok(Collected {
            blobs,
            bytes,
            layers,
        })
    }

    /// Removes what a process before this one began to write: a load is not resumed, a
    /// pull is, for as long as `grace`.
    pub(crate) fn discard_partials(&self, grace: Duration) -> Result<(), StoreError> {
        let now = SystemTime::now();
        let partials = self.content.partials();
        for partial in partials.map_err(|source| StoreError::Content { source })? {
            let age = now.duration_since(partial.modified).unwrap_or_default();
            if !partial.key.starts_with(KEY) && age < grace {
                continue;
            }
            if let Err(error) = self.content.discard(&partial.key) {
                let error = havre_types::chain(&error);
                tracing::warn!(key = partial.key, %error, "a partial download stays");
            }
        }
        Ok(())
    }

    /// Removes what only this image needed, which is no longer in the index. Returns the layers,
    /// topmost first.
    pub(crate) fn remove_content_of(&self, image: &Image) -> Result<Vec<ChainId>, StoreError> {
        let mut gone = Keep::default();
        gone.image(image, &self.layers());
        let chains: Vec<ChainId> = image.chain_ids().into_iter().rev().collect();
        let layers = self.remove_layers(&chains)?;
        let blobs: Vec<Blob> = gone
            .blobs
            .into_iter()
            .map(|digest| {
                let size = self.content.size(&digest).unwrap_or_default();
                Blob {
                    digest,
                    size,
                    modified: SystemTime::UNIX_EPOCH,
                }
            })
            .collect();
        self.remove_blobs(&blobs)?;
        Ok(layers)
    }

    /// All layers in place, each before the one it lies on.
    fn chains_from_the_top(&self) -> Vec<ChainId> {
        let infos = self.snapshots.walk();
        let committed = infos.iter().filter(|info| info.kind == Kind::Committed);
        let parents: BTreeMap<&str, Option<&str>> = committed
            .map(|info| (info.key.as_str(), info.parent.as_deref()))
            .collect();
        let depth = |key: &str| {
            let below =
                std::iter::successors(Some(key), |key| parents.get(*key).copied().flatten());
            below.take(parents.len() + 1).count()
        };
        let mut chains: Vec<(usize, ChainId)> = parents
            .keys()
            .filter_map(|key| Some((depth(key), ChainId::parse(key).ok()?)))
            .collect();
        chains.sort_by_key(|(depth, _)| Reverse(*depth));
        chains.into_iter().map(|(_, chain)| chain).collect()
    }

    fn remove_layers(&self, chains: &[ChainId]) -> Result<Vec<ChainId>, StoreError> {
        let _writer = self.write_lock();
        let held = self.leases.lock();
        let keep = self.keep();
        let mut layers = BTreeMap::clone(&self.layers());
        let mut removed = Vec::new();
        let mut batch = Batch::new();
        let mut failure = None;
        let idle = chains
            .iter()
            .filter(|chain| !keep.chains.contains(*chain) && !held.chains.contains_key(*chain));
        for chain in idle {
            match self.snapshots.remove(chain.as_str()) {
                Ok(()) => {}
                Err(SnapshotError::InUse { .. }) => continue,
                Err(SnapshotError::NotFound { .. }) => {}
                Err(source) => {
                    failure.get_or_insert(StoreError::Snapshot { source });
                    continue;
                }
            }
            if layers.remove(chain).is_some() {
                batch = batch.delete(LAYER, chain.as_str());
                removed.push(chain.clone());
            }
        }
        drop(held);
        // A record that survives a crash here names a snapshot that is gone: `open` drops it.
        self.meta
            .write(batch)
            .wait()
            .map_err(|source| StoreError::Write { source })?;
        self.publish_layers(layers);
        failure.map_or(Ok(removed), Err)
    }

    pub(crate) fn remove_blobs(&self, blobs: &[Blob]) -> Result<(Vec<Digest>, u64), StoreError> {
        let held = self.leases.lock();
        let keep = self.keep();
        let mut removed = Vec::new();
        let mut bytes = 0_u64;
        for blob in blobs {
            if keep.blobs.contains(&blob.digest) || held.blobs.contains_key(&blob.digest) {
                continue;
            }
            let gone = self.content.delete(&blob.digest);
            if gone.map_err(|source| StoreError::Content { source })? {
                bytes = bytes.saturating_add(blob.size);
                removed.push(blob.digest.clone());
            }
        }
        Ok((removed, bytes))
    }
}
