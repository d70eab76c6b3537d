//! An image of a container: its changes as a layer on its image, its configuration with what the request
//! changes in it.
//!
//! <https://github.com/moby/moby/blob/master/daemon/commit.go>

use std::collections::BTreeMap;
use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult, CommitRequest, Lifecycle as _};
use havre_engine_types::ContainerConfig;
use havre_image::{ChildImage, Image};
use havre_layer::{ExportOptions, export_changes, export_diff};
use havre_oci::ImageConfig;
use havre_types::{Reference, Timestamp, chain};

use super::download::Pipe;
use super::places::places;
use super::upload::Body;
use super::usable;
use crate::container::{Container, Fixed};
use crate::engine::{Engine, Shared};
use crate::error::{classified, internal};
use crate::images::blocking;
use crate::instructions;
use crate::plan;

pub(super) async fn run(engine: &Engine, request: CommitRequest) -> ApiResult<String> {
    let shared = &engine.shared;
    let reference = reference(&request)?;
    let container = shared.registry.find(&request.container)?;
    usable(&container, "commit")?;
    // One that does not run, or is paused already, needs none; Docker goes on without it, too.
    let paused = request.pause && engine.pause(container.id().as_str()).await.is_ok();
    let (owned, kept) = (Arc::clone(shared), Arc::clone(&container));
    let comment = request.comment.clone();
    let image = blocking(move || make(&owned, &kept, request, reference)).await;
    if paused && let Err(err) = engine.unpause(container.id().as_str()).await {
        tracing::warn!(container = %container.id(), error = %err.message, "not unpaused after a commit");
    }
    let (image, name) = image?;
    let id = image.id().to_string();
    shared.announce_image("create", &id, &id);
    if !name.is_empty() {
        shared.announce_image("tag", &id, &name);
    }
    let attributes = [
        ("comment", comment.as_str()),
        ("imageID", id.as_str()),
        ("imageRef", name.as_str()),
    ];
    let fixed = Arc::clone(&container.now().fixed);
    shared.announce(&fixed, "commit", &attributes);
    Ok(id)
}

/// The image's name, if it gets one.
/// <https://github.com/moby/moby/blob/master/daemon/server/httputils/form.go> (`RepoTagReference`)
fn reference(request: &CommitRequest) -> ApiResult<Option<Reference>> {
    if request.repository.is_empty() {
        return Ok(None);
    }
    let invalid = |err: &dyn std::error::Error| ApiError::invalid(chain(err));
    let name = Reference::parse_normalized(&request.repository).map_err(|err| invalid(&err))?;
    if name.digest().is_some() {
        return Err(ApiError::invalid("cannot import digest reference"));
    }
    if request.tag.is_empty() {
        return Ok(Some(name.with_default_tag()));
    }
    let text = format!("{}:{}", name.familiar_name(), request.tag);
    let name = Reference::parse_normalized(&text).map_err(|err| invalid(&err))?;
    Ok(Some(name))
}

fn make(
    shared: &Shared,
    container: &Container,
    request: CommitRequest,
    reference: Option<Reference>,
) -> ApiResult<(Arc<Image>, String)> {
    let fixed = Arc::clone(&container.now().fixed);
    let config = configuration(&fixed, request.config, &request.changes)?;
    let Some(parent) = shared.images.get(&fixed.image) else {
        let text = format!("the image {} of the container is gone", fixed.image);
        return Err(ApiError::not_found(text));
    };
    let name = reference.as_ref().map(Reference::familiar);
    let child = ChildImage {
        reference,
        config: instructions::image_config(&config),
        author: request.author,
        comment: request.comment,
        created_by: fixed.config.cmd.clone().unwrap_or_default().join(" "),
        other: origin(&fixed)?,
    };
    let image = add(shared, &fixed, &parent, child)?;
    Ok((image, name.unwrap_or_default()))
}

/// The given configuration, or the container's, with the instructions applied; the container's for all that
/// is left out.
fn configuration(
    fixed: &Fixed,
    given: Option<ContainerConfig>,
    changes: &[String],
) -> ApiResult<ContainerConfig> {
    let own = &fixed.config;
    let mut config = given.unwrap_or_else(|| own.clone());
    instructions::apply(&mut config, changes)?;
    let base = ImageConfig {
        config: instructions::image_config(own),
        ..ImageConfig::default()
    };
    let volumes = own.volumes.clone();
    let mut merged = plan::merge(config, &base)?;
    for (merged, own) in [
        (&mut merged.exposed_ports, own.exposed_ports.clone()),
        (&mut merged.volumes, volumes),
    ] {
        if let Some(own) = own {
            merged.get_or_insert_default().extend(own);
        }
    }
    if merged.healthcheck.is_none() {
        merged.healthcheck.clone_from(&own.healthcheck);
    }
    Ok(merged)
}

/// Which container it was, as Docker writes it into the image.
fn origin(fixed: &Fixed) -> ApiResult<BTreeMap<String, serde_json::Value>> {
    let config = serde_json::to_value(&fixed.config);
    let config = config.map_err(|err| internal("failed to write the image's origin", &err))?;
    Ok([
        ("container".to_owned(), fixed.id.to_string().into()),
        ("container_config".to_owned(), config),
    ]
    .into())
}

/// One thread writes the layer, this one unpacks it where images have theirs.
fn add(shared: &Shared, fixed: &Fixed, parent: &Image, child: ChildImage) -> ApiResult<Arc<Image>> {
    let failed = "failed to read the container's changes";
    let trees = shared.snapshots.trees(fixed.id.as_str());
    let trees = trees.map_err(|err| classified(failed, &err))?;
    let options = ExportOptions {
        omit: places(&trees),
        ..ExportOptions::default()
    };
    let (pipe, layer) = Pipe::new();
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new().name("commit".to_owned());
        let writer = writer.spawn_scoped(scope, || {
            let sender = pipe.sender();
            let written = if trees.own_is_changes {
                export_changes(&trees.own, pipe, &options)
            } else {
                export_diff(&trees.parents, &trees.merged, pipe, &options)
            };
            Pipe::end(&sender, written.map(|_whole| ()));
        });
        writer.map_err(|err| internal(failed, &err))?;
        let made = shared
            .images
            .add_child(parent, Body::new(layer), child, Timestamp::now());
        made.map_err(|err| ApiError::from_classified(&err))
    })
}
