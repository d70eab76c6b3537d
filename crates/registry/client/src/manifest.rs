//! From a reference to the manifest of one image, through indexes, with every digest checked.

use crate::error::{PullError, RegistryAnswer, RequestError};
use crate::session::Session;
use bytes::Bytes;
use havre_image::limits;
use havre_oci::{Descriptor, Document, Manifest, media_type};
use havre_types::{Digest, Platform, Reference};
use hyper::header::CONTENT_TYPE;
use std::collections::BTreeSet;

/// The manifest of one image and what led to it.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The digest of what the reference names: of the index, if there is one.
    pub(crate) digest: Digest,
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Bytes,
    pub(crate) manifest: Manifest,
    /// Whether an index chose it for the platform.
    pub(crate) chosen: bool,
}

/// Fetches the manifest of a reference for a platform.
pub(crate) async fn resolve(
    session: &Session,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved, PullError> {
    let name = match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or("latest").to_owned(),
    };
    let (mut kind, mut bytes) = fetch(session, reference, &name).await?;
    let digest = check(reference.digest(), &bytes)?;
    let mut at = digest.clone();
    let mut seen = BTreeSet::new();
    let mut chosen = false;
    for _ in 0..=limits::INDEX_DEPTH {
        let document =
            Document::parse(&bytes, kind.as_deref()).map_err(|source| PullError::Document {
                reference: reference.familiar(),
                source,
            })?;
        let index = match document {
            Document::Manifest(manifest) => {
                check_kinds(reference, &manifest)?;
                let kind = manifest.media_type.clone().or(kind).unwrap_or_default();
                let descriptor = Descriptor::new(&kind, at, bytes.len() as u64);
                return Ok(Resolved {
                    digest,
                    descriptor,
                    bytes,
                    manifest: *manifest,
                    chosen,
                });
            }
            Document::Index(index) => index,
        };
        let member = (index.manifests.len() <= limits::INDEX_MEMBERS)
            .then(|| index.select(platform))
            .flatten()
            .filter(|member| seen.insert(member.digest.clone()));
        let no_platform = || PullError::NoPlatform {
            platform: platform.to_string(),
        };
        let member = member.ok_or_else(no_platform)?;
        (_, bytes) = fetch(session, reference, member.digest.as_str()).await?;
        at = check(Some(&member.digest), &bytes)?;
        kind = Some(member.media_type.clone());
        chosen = true;
    }
    Err(not_an_image(
        reference,
        "its index is nested too deep".to_owned(),
    ))
}

/// Refuses artifacts that are no container images.
fn check_kinds(reference: &Reference, manifest: &Manifest) -> Result<(), PullError> {
    if !media_type::is_image_config(&manifest.config.media_type) {
        let problem = format!(
            "its configuration has the type `{}`",
            manifest.config.media_type
        );
        return Err(not_an_image(reference, problem));
    }
    if manifest.layers.len() > limits::LAYERS {
        let problem = format!("it has {} layers", manifest.layers.len());
        return Err(not_an_image(reference, problem));
    }
    if let Some(layer) = manifest
        .layers
        .iter()
        .find(|layer| !media_type::is_layer(&layer.media_type))
    {
        let problem = format!("a layer has the type `{}`", layer.media_type);
        return Err(not_an_image(reference, problem));
    }
    if let Some(layer) = manifest
        .layers
        .iter()
        .find(|layer| layer.size > limits::LAYER)
    {
        let problem = format!("a layer has {} bytes", layer.size);
        return Err(not_an_image(reference, problem));
    }
    Ok(())
}

fn not_an_image(reference: &Reference, problem: String) -> PullError {
    PullError::NotAnImage {
        reference: reference.familiar(),
        problem,
    }
}

async fn fetch(
    session: &Session,
    reference: &Reference,
    name: &str,
) -> Result<(Option<String>, Bytes), PullError> {
    let url = session.url(&format!("manifests/{name}"));
    let accept = media_type::MANIFESTS.join(", ");
    let answer = session.get(&url, &accept, limits::MANIFEST).await;
    let (headers, bytes) = answer.map_err(|error| translate(error, reference))?;
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned());
    Ok((kind, bytes))
}

/// The digest of the bytes, which must be this one when it is known.
fn check(expected: Option<&Digest>, bytes: &[u8]) -> Result<Digest, PullError> {
    let Some(expected) = expected else {
        return Ok(Digest::sha256_of(bytes));
    };
    let mut hasher = havre_content::Hasher::new(expected.algorithm());
    hasher.update(bytes);
    if hasher.finish() == *expected {
        Ok(expected.clone())
    } else {
        Err(PullError::Manifest {
            digest: expected.clone(),
        })
    }
}

/// The refusals that Docker has its own sentences for
/// (<https://github.com/moby/moby/blob/v28.5.2/distribution/errors.go>).
pub(crate) fn translate(error: RequestError, reference: &Reference) -> PullError {
    let RequestError::Refused { answer, .. } = &error else {
        return PullError::Request(error);
    };
    let (name, answer): (String, RegistryAnswer) = (reference.familiar_name(), answer.clone());
    match answer.code.as_str() {
        "DENIED" => PullError::Denied { name, answer },
        "MANIFEST_UNKNOWN" => PullError::ManifestUnknown {
            reference: reference.familiar(),
            answer,
        },
        "NAME_UNKNOWN" => PullError::NameUnknown { name, answer },
        _ => PullError::Request(error),
    }
}
