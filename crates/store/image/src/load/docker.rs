//! The form of `docker save`: `manifest.json` lists configurations, layers and names.
//!
//! <https://github.com/moby/docker-image-spec/blob/main/v1.2.md#combined-image-json--filesystem-changeset-format>

use super::Found;
use super::members::Members;
use crate::error::ArchiveError;
use crate::limits;
use havre_oci::{Descriptor, media_type};
use havre_types::Reference;
use serde::Deserialize;

pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// Every image of the archive.
pub(super) fn images(members: &Members<'_>) -> Result<Vec<Found>, ArchiveError> {
    let items: Vec<Item> = members.json(MANIFEST, limits::MANIFEST)?;
    items.into_iter().map(|item| image(members, item)).collect()
}

fn image(members: &Members<'_>, item: Item) -> Result<Found, ArchiveError> {
    let (config, _) = members.find(&item.config)?;
    let mut layers = Vec::new();
    for name in item.layers.unwrap_or_default() {
        let (digest, size) = members.find(&name)?;
        layers.push(Descriptor::new(media_type::DOCKER_LAYER, digest, size));
    }
    let mut references = Vec::new();
    for name in item.repo_tags.unwrap_or_default() {
        let reference = Reference::parse_normalized(&name);
        references.push(reference.map_err(|source| ArchiveError::Name { name, source })?);
    }
    Ok(Found {
        config,
        layers,
        manifest: None,
        references,
    })
}
