//! `import`: a root file system in an archive becomes an image of one layer.

use crate::error::ArchiveError;
use crate::record::Image;
use crate::store::{AddImage, ImageStore};
use crate::unpack::LayerSource;
use havre_oci::{History, ImageConfig, ImageRunConfig, RootFs};
use havre_types::{ChainId, Platform, Reference, Timestamp};
use std::io::Read;
use std::sync::Arc;

/// What an imported image is to be.
#[derive(Clone, Debug, Default)]
pub struct NewImage {
    /// Its name; without one it is dangling.
    pub reference: Option<Reference>,
    /// Its platform.
    pub platform: Option<Platform>,
    /// How containers of it run.
    pub config: ImageRunConfig,
    /// The comment of its one step; Docker's default is `Imported from -`.
    pub comment: String,
}

impl ImageStore {
    /// Makes an image of the archive, compressed or not.
    pub fn import(
        &self,
        archive: impl Read + Send,
        image: NewImage,
        now: Timestamp,
    ) -> Result<Arc<Image>, ArchiveError> {
        let lease = self.lease();
        let unpacked = self
            .unpack(archive, None)
            .map_err(|source| ArchiveError::Unpack {
                source: Box::new(source),
            })?;
        let diff_ids = vec![unpacked.diff_id().clone()];
        // The chain id of a single layer is its diff id.
        let chain_id = ChainId(unpacked.diff_id().0.clone());
        lease.chain(&chain_id);
        let unpacked = Arc::new(unpacked);
        let sources = [LayerSource {
            chain_id,
            parent: None,
            unpacked,
            blob: None,
        }];
        let store = |source| ArchiveError::Store { source };
        self.commit_layers(&sources).map_err(store)?;
        let platform = image.platform.unwrap_or_else(Platform::host);
        let config = ImageConfig {
            created: Some(now),
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            config: image.config,
            rootfs: RootFs {
                diff_ids,
                ..RootFs::default()
            },
            history: vec![History {
                created: Some(now),
                comment: image.comment,
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let config = config.to_bytes();
        let config = config.map_err(|source| store(crate::StoreError::Encode { source }))?;
        let references = image.reference.into_iter().collect();
        self.add(AddImage {
            config,
            manifest: None,
            references,
            parent: None,
            now,
        })
        .map_err(store)
    }
}
