//! `commit`: the changes of a container become one more layer on its image.

use crate::error::ArchiveError;
use crate::record::Image;
use crate::store::{AddImage, ImageStore};
use crate::unpack::LayerSource;
use havre_oci::{History, ImageRunConfig};
use havre_types::{ChainId, DiffId, Digest, Reference, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// An archive of nothing is two empty blocks.
const EMPTY_ARCHIVE: [u8; 1024] = [0; 1024];

/// What an image on top of another is to be.
#[derive(Clone, Debug, Default)]
pub struct ChildImage {
    /// Its name; without one it is dangling.
    pub reference: Option<Reference>,
    /// How containers of it run.
    pub config: ImageRunConfig,
    /// Who made it.
    pub author: String,
    /// The comment of its newest step.
    pub comment: String,
    /// The command of its newest step.
    pub created_by: String,
    /// Further fields of the configuration document, which replace the parent's.
    pub other: BTreeMap<String, Value>,
}

impl ImageStore {
    /// Makes an image of `parent` and a layer, given as an archive. An archive of nothing makes no layer.
    pub fn add_child(
        &self,
        parent: &Image,
        layer: impl Read + Send,
        child: ChildImage,
        now: Timestamp,
    ) -> Result<Arc<Image>, ArchiveError> {
        let store = |source| ArchiveError::Store { source };
        let lease = self.lease();
        for chain in parent.chain_ids() {
            lease.chain(&chain);
        }
        let unpacked = self
            .unpack(layer, None)
            .map_err(|source| ArchiveError::Unpack {
                source: Box::new(source),
            })?;
        let mut config = parent.config.clone();
        let diff_id = unpacked.diff_id().clone();
        let is_empty = diff_id == DiffId(Digest::sha256_of(&EMPTY_ARCHIVE));
        if !is_empty {
            let below = parent.chain_id();
            let chain_id = match &below {
                Some(below) => below.then(&diff_id),
                None => ChainId(diff_id.0.clone()),
            };
            lease.chain(&chain_id);
            config.rootfs.diff_ids.push(diff_id);
            let source = LayerSource {
                chain_id,
                parent: below,
                unpacked: Arc::new(unpacked),
                blob: None,
            };
            self.commit_layers(&[source]).map_err(store)?;
        }
        config.created = Some(now);
        config.author.clone_from(&child.author);
        config.comment.clear();
        config.docker_version.clear();
        config.config = child.config;
        config.other.extend(child.other);
        config.history.push(History {
            created: Some(now),
            created_by: child.created_by,
            author: child.author,
            comment: child.comment,
            empty_layer: is_empty,
        });
        let config = config.to_bytes();
        let config = config.map_err(|source| store(crate::StoreError::Encode { source }))?;
        self.add(AddImage {
            config,
            manifest: None,
            references: child.reference.into_iter().collect(),
            parent: Some(parent.id().clone()),
            now,
        })
        .map_err(store)
    }
}
