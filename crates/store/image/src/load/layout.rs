//! The form of an OCI layout: `index.json` refers to manifests and indexes by digest.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use super::Found;
use super::members::Members;
use crate::error::ArchiveError;
use crate::limits;
use havre_oci::{
    ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Descriptor, Document, Index, media_type,
};
use havre_types::{Digest, Platform, Reference};
use std::collections::BTreeSet;

pub(super) const INDEX: &str = "index.json";

/// Every image of the archive, of an index the one for the platform.
pub(super) fn images(
    members: &Members<'_>,
    platform: &Platform,
) -> Result<Vec<Found>, ArchiveError> {
    let index: Index = members.json(INDEX, limits::MANIFEST)?;
    let mut search = Search {
        members,
        platform,
        seen: BTreeSet::new(),
    };
    let mut found = Vec::new();
    for member in index.manifests.iter().take(limits::INDEX_MEMBERS) {
        // One archive may hold the same image under several names.
        search.seen.clear();
        if let Some(mut image) = search.image(member, limits::INDEX_DEPTH)? {
            image.references.extend(name_of(member)?);
            found.push(image);
        }
    }
    if found.is_empty() {
        return Err(ArchiveError::NoPlatform {
            platform: platform.to_string(),
        });
    }
    Ok(found)
}

struct Search<'a> {
    members: &'a Members<'a>,
    platform: &'a Platform,
    seen: BTreeSet<Digest>,
}

impl Search<'_> {
    /// The image a member of an index stands for; `None` when it is for another platform.
    fn image(&mut self, member: &Descriptor, depth: usize) -> Result<Option<Found>, ArchiveError> {
        let other = |wanted: &Platform| {
            let platform = member.platform.as_ref();
            platform.is_some_and(|platform| !wanted.matches(&platform.to_platform()))
        };
        if depth == 0 || !self.seen.insert(member.digest.clone()) || other(self.platform) {
            return Ok(None);
        }
        let bytes = self.members.document(&member.digest, limits::MANIFEST)?;
        let served = Some(member.media_type.as_str());
        let document =
            Document::parse(&bytes, served).map_err(|source| ArchiveError::Document {
                name: member.digest.to_string(),
                source,
            })?;
        match document {
            Document::Manifest(manifest)
                if media_type::is_image_config(&manifest.config.media_type) =>
            {
                Ok(Some(Found {
                    config: manifest.config.digest,
                    layers: manifest.layers,
                    manifest: Some(manifest_of(member, bytes.len() as u64)),
                    references: Vec::new(),
                }))
            }
            // An attestation or another artifact.
            Document::Manifest(_) => Ok(None),
            Document::Index(index) => {
                if let Some(chosen) = index.select(self.platform) {
                    return self.image(chosen, depth - 1);
                }
                for member in index.manifests.iter().take(limits::INDEX_MEMBERS) {
                    if let Some(found) = self.image(member, depth - 1)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// The name a member has by its annotations. A bare tag, as `skopeo` writes it, names no image.
fn name_of(member: &Descriptor) -> Result<Option<Reference>, ArchiveError> {
    let Some(annotations) = &member.annotations else {
        return Ok(None);
    };
    let whole = annotations.get(ANNOTATION_IMAGE_NAME);
    let short = annotations
        .get(ANNOTATION_REF_NAME)
        .filter(|name| name.contains([':', '/']));
    let Some(name) = whole.or(short) else {
        return Ok(None);
    };
    match Reference::parse_normalized(name) {
        Ok(reference) => Ok(Some(reference.with_default_tag())),
        Err(source) => Err(ArchiveError::Name {
            name: name.clone(),
            source,
        }),
    }
}

fn manifest_of(member: &Descriptor, size: u64) -> Descriptor {
    Descriptor::new(&member.media_type, member.digest.clone(), size)
}
