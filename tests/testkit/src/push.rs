//! Pushing an image to a registry by the distribution API.

use crate::http::{Body, request};
use crate::image::{Format, Image, digest};
use anyhow::{Context as _, Result, bail, ensure};

/// Where an image goes: `host:port/repository:tag`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`.
    pub authority: String,
    /// The repository's path.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

impl Target {
    /// Takes `host:port/repository[:tag]` apart.
    pub fn parse(text: &str) -> Result<Self> {
        let (authority, path) = text
            .split_once('/')
            .with_context(|| format!("{text} is not of the form HOST:PORT/REPOSITORY:TAG"))?;
        ensure!(authority.contains(':'), "{text} names no port");
        let (repository, tag) = path.split_once(':').unwrap_or((path, "latest"));
        Ok(Self {
            authority: authority.to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
        })
    }
}

/// Pushes all blobs and the manifest; returns the manifest's digest.
pub fn push(image: &Image, target: &Target, format: Format) -> Result<String> {
    for layer in &image.layers {
        push_blob(target, &layer.digest, &Body::File(&layer.path))?;
    }
    push_blob(
        target,
        &image.id(),
        &Body::Bytes(&image.config, "application/octet-stream"),
    )?;
    put_manifest(
        target,
        &target.tag,
        &image.manifest(format),
        format.manifest(),
    )
}

/// Pushes the image and an index over it, which gets the tag; returns the index's digest.
///
/// The registry refuses an index whose members it lacks, so the one for another platform is
/// a manifest over the same blobs with a note in it.
pub fn push_index(image: &Image, target: &Target, format: Format) -> Result<String> {
    push(image, target, format)?;
    let manifest = image.manifest(format);
    let mut other: serde_json::Value = serde_json::from_slice(&manifest)?;
    other["annotations"] = serde_json::json!({ "note": "another platform" });
    let other = other.to_string().into_bytes();
    put_manifest(target, &digest(&other), &other, format.manifest())?;
    let entry = |bytes: &[u8], architecture: &str| {
        serde_json::json!({
            "mediaType": format.manifest(),
            "digest": digest(bytes),
            "size": bytes.len(),
            "platform": { "architecture": architecture, "os": "linux" },
        })
    };
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": format.index(),
        "manifests": [entry(&other, "s390x"), entry(&manifest, "amd64")],
    });
    put_manifest(
        target,
        &target.tag,
        index.to_string().as_bytes(),
        format.index(),
    )
}

/// Pushes one blob unless the registry has it.
pub fn push_blob(target: &Target, digest: &str, body: &Body<'_>) -> Result<()> {
    let Target {
        authority,
        repository,
        ..
    } = target;
    let blob = format!("/v2/{repository}/blobs/{digest}");
    if request(authority, "HEAD", &blob, &Body::Empty)?.status == 200 {
        return Ok(());
    }
    let uploads = format!("/v2/{repository}/blobs/uploads/");
    let opened = request(authority, "POST", &uploads, &Body::Empty)?;
    ensure!(
        opened.status == 202,
        "the registry refused an upload: status {}",
        opened.status
    );
    let location = opened
        .header("location")
        .context("the registry named no upload location")?;
    let target = local_target(location, authority);
    let joint = if target.contains('?') { '&' } else { '?' };
    let done = request(
        authority,
        "PUT",
        &format!("{target}{joint}digest={digest}"),
        body,
    )?;
    if done.status != 201 {
        bail!(
            "the registry refused {digest}: {}",
            String::from_utf8_lossy(&done.body)
        );
    }
    Ok(())
}

/// Puts a manifest or an index under a tag or digest; returns its digest.
pub fn put_manifest(
    target: &Target,
    name: &str,
    manifest: &[u8],
    media_type: &str,
) -> Result<String> {
    let path = format!("/v2/{}/manifests/{name}", target.repository);
    let done = request(
        &target.authority,
        "PUT",
        &path,
        &Body::Bytes(manifest, media_type),
    )?;
    if done.status != 201 {
        bail!(
            "the registry refused manifest {name}: {}",
            String::from_utf8_lossy(&done.body)
        );
    }
    Ok(digest(manifest))
}

/// The path and query of a location that names the same server, in full or without its host.
fn local_target<'a>(location: &'a str, authority: &str) -> &'a str {
    let without_scheme = location.strip_prefix("http://").unwrap_or(location);
    without_scheme
        .strip_prefix(authority)
        .unwrap_or(without_scheme)
}

/// Writes what `push` printed on success, as the demo shows it.
pub fn report(target: &Target, digest: &str, out: &mut impl std::io::Write) -> Result<()> {
    let Target {
        authority,
        repository,
        tag,
    } = target;
    Ok(writeln!(out, "{authority}/{repository}:{tag} {digest}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_host_a_repository_and_a_tag() {
        let target = Target::parse("127.0.0.1:5000/a/b:1").unwrap();
        assert_eq!(
            (target.repository.as_str(), target.tag.as_str()),
            ("a/b", "1")
        );
        assert_eq!(Target::parse("127.0.0.1:5000/a").unwrap().tag, "latest");
        Target::parse("busybox").unwrap_err();
        Target::parse("example.org/busybox").unwrap_err();
    }

    #[test]
    fn a_location_may_name_the_host_or_not() {
        assert_eq!(local_target("http://h:1/v2/x?a=b", "h:1"), "/v2/x?a=b");
        assert_eq!(local_target("/v2/x", "h:1"), "/v2/x");
    }
}
