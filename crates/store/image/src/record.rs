//! What is known of an image and of a layer, as it is stored and as it is handed out.

use havre_oci::{Descriptor, ImageConfig};
use havre_types::{ChainId, DiffId, ImageId, Reference, Timestamp};
use serde::{Deserialize, Serialize};

/// The kind of image documents in the metadata store; the id is the image id.
pub(crate) const IMAGE: &str = "image";
/// The kind of layer documents; the id is the chain id.
pub(crate) const LAYER: &str = "layer";
/// Written into each document.
pub(crate) const VERSION: u32 = 1;

/// The stored document of an image. Its configuration is the blob of its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The form of this document.
    pub version: u32,
    /// The digest of the configuration.
    pub id: ImageId,
    /// Names with a tag or a digest, in the order in which they were given.
    pub references: Vec<Reference>,
    /// The manifest it was fetched by, when the manifest is in the content store.
    pub manifest: Option<Descriptor>,
    /// When a name was last given to it by hand or by a pull.
    pub last_tagged: Option<Timestamp>,
    /// The image whose container it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ImageId>,
}

/// The stored document of a layer that has been unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The form of this document.
    pub version: u32,
    /// The layer and all below it.
    pub chain_id: ChainId,
    /// The layer alone.
    pub diff_id: DiffId,
    /// The layer below.
    pub parent: Option<ChainId>,
    /// Sum of the sizes of its files, in bytes.
    pub size: u64,
    /// The compressed form, when it is in the content store.
    pub blob: Option<Descriptor>,
}

/// An image with its parsed configuration.
#[derive(Debug)]
pub struct Image {
    /// What is stored.
    pub record: ImageRecord,
    /// The parsed configuration.
    pub config: ImageConfig,
    /// Sum of the sizes of all layers' files.
    pub size: u64,
}

impl Image {
    /// The image's id.
    pub fn id(&self) -> &ImageId {
        &self.record.id
    }

    /// The chain of all layers: the snapshot a container starts from. `None` of an image without any.
    pub fn chain_id(&self) -> Option<ChainId> {
        self.config.chain_id()
    }

    /// The chain ids of all layers, lowest first.
    pub fn chain_ids(&self) -> Vec<ChainId> {
        chain_ids(&self.config.rootfs.diff_ids)
    }

    /// `name:tag` of every tag, in the short form and sorted: `RepoTags`.
    pub fn repo_tags(&self) -> Vec<String> {
        self.familiar(|name| name.digest().is_none())
    }

    /// `name@digest` of every digest, in the short form and sorted: `RepoDigests`.
    pub fn repo_digests(&self) -> Vec<String> {
        self.familiar(|name| name.digest().is_some())
    }

    fn familiar(&self, wanted: impl Fn(&Reference) -> bool) -> Vec<String> {
        let names = self.record.references.iter().filter(|name| wanted(name));
        let mut names: Vec<String> = names.map(Reference::familiar).collect();
        names.sort_unstable();
        names
    }

    /// Whether nothing names it by a tag.
    pub fn is_dangling(&self) -> bool {
        self.record
            .references
            .iter()
            .all(|name| name.digest().is_some())
    }
}

/// The chain id of each prefix of a stack of layers.
pub(crate) fn chain_ids(diff_ids: &[DiffId]) -> Vec<ChainId> {
    let mut chain: Vec<ChainId> = Vec::with_capacity(diff_ids.len());
    for layer in diff_ids {
        chain.push(match chain.last() {
            Some(below) => below.then(layer),
            None => ChainId(layer.0.clone()),
        });
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use havre_types::Digest;

    #[test]
    fn the_last_chain_id_is_that_of_the_image() {
        let layers: Vec<DiffId> = [&b"a"[..], b"b", b"c"]
            .into_iter()
            .map(|bytes| DiffId(Digest::sha256_of(bytes)))
            .collect();
        let chain = chain_ids(&layers);
        assert_eq!(chain.len(), 3);
        assert_eq!(chain.last(), ChainId::of(&layers).as_ref());
        assert_eq!(
            chain.first().map(ChainId::as_str),
            layers.first().map(DiffId::as_str)
        );
        assert_eq!(chain_ids(&[]), []);
    }
}
