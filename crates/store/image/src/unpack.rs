//! Layers from archive to disk: unpacked before their parents are known, then put in place together.

use crate::error::StoreError;
use crate::record::{LAYER, LayerRecord, VERSION};
use crate::store::ImageStore;
use havre_layer::{ApplyError, ApplyOptions, Fixups, apply};
use havre_meta::Batch;
use havre_oci::Descriptor;
use havre_snapshot::{LayerCommit, SnapshotError, Snapshotter};
use havre_types::{ChainId, Classify, DiffId, ErrorKind};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// Why a layer is not on disk.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The archive was refused or could not be written out.
    #[error("failed to unpack `{layer}`")]
    Apply {
        layer: String,
        source: Box<ApplyError>,
    },
    /// The archive is another one than the configuration says.
    #[error("layer has diff id `{actual}`, the image configuration says `{expected}`")]
    WrongDiffId { expected: DiffId, actual: DiffId },
    /// No place could be made for it.
    #[error("failed to make a place for `{layer}`")]
    Place {
        layer: String,
        source: Box<SnapshotError>,
    },
}

impl Classify for UnpackError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Apply { source, .. } => source.kind(),
            Self::WrongDiffId { .. } => ErrorKind::InvalidParameter,
            Self::Place { source, .. } => source.kind(),
        }
    }
}

/// A layer that is unpacked and has no place yet. Dropped without one, it is removed.
#[derive(Debug)]
pub struct Unpacked {
    place: Place,
    diff_id: DiffId,
    size: u64,
    fixups: Fixups,
}

/// A detached snapshot.
#[derive(Debug)]
struct Place {
    key: String,
    snapshots: Arc<dyn Snapshotter>,
}

impl Unpacked {
    /// The digest of the archive.
    pub fn diff_id(&self) -> &DiffId {
        &self.diff_id
    }

    /// Sum of the sizes of its files.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The usual case is that it has been given its place, and the key is gone.
        match self.snapshots.remove(&self.key) {
            Ok(()) | Err(SnapshotError::NotFound { .. }) => {}
            Err(error) => {
                let error = havre_types::chain(&error);
                tracing::warn!(key = %self.key, %error, "failed to remove an unused layer");
            }
        }
    }
}

/// A layer of an image that is to be put in its place.
#[derive(Clone, Debug)]
pub struct LayerSource {
    /// The layer and all below it.
    pub chain_id: ChainId,
    /// The layer below.
    pub parent: Option<ChainId>,
    /// The tree.
    pub unpacked: Arc<Unpacked>,
    /// The compressed archive, when it is in the content store.
    pub blob: Option<Descriptor>,
}

impl ImageStore {
    /// Unpacks an archive, compressed or not, that must have this diff id if one is given. Reads the
    /// source to its end. Other layers of the image may be unpacked at the same time.
    pub fn unpack(
        &self,
        source: impl Read + Send,
        expected: Option<&DiffId>,
    ) -> Result<Unpacked, UnpackError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let key = format!("unpack-{number}");
        let no_place = |source| UnpackError::Place {
            layer: name_of(expected),
            source: Box::new(source),
        };
        let root = self.snapshots.prepare_detached(&key).map_err(no_place)?;
        let place = Place {
            key,
            snapshots: Arc::clone(&self.snapshots),
        };
        let applied =
            apply(source, &root, &ApplyOptions::layer()).map_err(|source| UnpackError::Apply {
                layer: name_of(expected),
                source: Box::new(source),
            })?;
        if let Some(expected) = expected
            && *expected != applied.diff_id
        {
            let expected = expected.clone();
            return Err(UnpackError::WrongDiffId {
                expected,
                actual: applied.diff_id,
            });
        }
        let (diff_id, size, fixups) = (applied.diff_id, applied.content, applied.fixups);
        Ok(Unpacked {
            place,
            diff_id,
            size,
            fixups,
        })
    }

    /// Puts layers in their places, lowest first; those that are in place already are passed over.
    /// The caller holds a lease on each. Durable when this returns.
    pub fn commit_layers(&self, sources: &[LayerSource]) -> Result<(), StoreError> {
        let _writer = self.write_lock();
        let mut layers = BTreeMap::clone(&self.layers());
        let mut commits = Vec::new();
        let mut batch = Batch::new();
        for source in sources {
            if layers.contains_key(&source.chain_id) {
                continue;
            }
            let record = LayerRecord {
                version: VERSION,
                chain_id: source.chain_id.clone(),
                diff_id: source.unpacked.diff_id.clone(),
                parent: source.parent.clone(),
                size: source.unpacked.size,
                blob: source.blob.clone(),
            };
            let body = serde_json::to_vec(&record);
            let body = body.map_err(|source| StoreError::Encode { source })?;
            batch = batch.put(LAYER, source.chain_id.as_str(), body);
            // A crash between the two writes leaves a snapshot without a record.
            if self.snapshots.stat(source.chain_id.as_str()).is_err() {
                commits.push(LayerCommit {
                    key: source.unpacked.place.key.clone(),
                    name: source.chain_id.to_string(),
                    parent: source.parent.as_ref().map(ChainId::to_string),
                    fixups: source.unpacked.fixups.clone(),
                });
            }
            layers.insert(source.chain_id.clone(), record);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let committed = self.snapshots.commit_layers(&commits);
        committed.map_err(|source| StoreError::Snapshot { source })?;
        self.meta
            .write(batch)
            .wait()
            .map_err(|source| StoreError::Write { source })?;
        self.publish_layers(layers);
        Ok(())
    }
}

fn name_of(expected: Option<&DiffId>) -> String {
    expected.map_or_else(|| "layer".to_owned(), |diff_id| format!("layer {diff_id}"))
}
