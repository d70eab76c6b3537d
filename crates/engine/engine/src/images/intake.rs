//! Images from archives: loaded, imported. Each runs on its own task and reports through a channel; it ends
//! soon after the channel's reader has gone.

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult, ImportRequest, LoadRequest, Progress};
use havre_engine_types::{ContainerConfig, JsonMessage, ProgressDetail};
use havre_image::{Loaded, NewImage};
use havre_types::{Platform, Reference, Timestamp};
use tokio::sync::mpsc;

use crate::archive::Body;
use crate::engine::Shared;
use crate::instructions;

/// Messages in flight to one client.
const DEPTH: usize = 64;

type Sender = mpsc::Sender<ApiResult<JsonMessage>>;

/// Runs blocking work that reports to the channel; its error is the channel's last item.
fn run(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared, &Sender) -> ApiResult<()> + Send + 'static,
) -> Progress {
    let (sender, progress) = mpsc::channel(DEPTH);
    let kept = Arc::clone(shared);
    shared.tasks.spawn_blocking(move || {
        if let Err(err) = work(&kept, &sender) {
            // A client that has left does not read the error.
            sender.blocking_send(Err(err)).ok();
        }
    });
    progress
}

pub(super) fn load(shared: &Arc<Shared>, request: LoadRequest) -> ApiResult<Progress> {
    let platform = match request.platforms.as_slice() {
        [] => Platform::host(),
        [one] => Platform::parse(one).map_err(|err| ApiError::from_classified(&err))?,
        [_, _, ..] => {
            return Err(ApiError::not_implemented(
                "loading more than one platform is not available yet",
            ));
        }
    };
    let body = Body::new(request.archive);
    let quiet = request.quiet;
    Ok(run(shared, move |shared, sender| {
        let report = |event: havre_image::LoadEvent| {
            if quiet {
                return;
            }
            let detail = ProgressDetail {
                current: i64::try_from(event.current).unwrap_or(0),
                total: i64::try_from(event.total).unwrap_or(0),
                ..ProgressDetail::default()
            };
            let message = JsonMessage {
                progress_detail: Some(detail),
                ..JsonMessage::layer(event.diff_id.short(), "Loading layer")
            };
            sender.blocking_send(Ok(message)).ok();
        };
        let loaded = shared
            .images
            .load(body, &platform, &report, Timestamp::now())
            .map_err(|err| ApiError::from_classified(&err))?;
        for Loaded { image, references } in loaded {
            let id = image.id().as_str();
            shared.announce_image("load", id, id);
            let mut names: Vec<String> = references.iter().map(Reference::familiar).collect();
            let line = if names.is_empty() {
                names.push(id.to_owned());
                "Loaded image ID: "
            } else {
                "Loaded image: "
            };
            for name in names {
                let stream = format!("{line}{name}\n");
                sender
                    .blocking_send(Ok(JsonMessage {
                        stream,
                        ..JsonMessage::default()
                    }))
                    .ok();
            }
        }
        Ok(())
    }))
}

pub(super) fn import(shared: &Arc<Shared>, request: ImportRequest) -> ApiResult<Progress> {
    let invalid = |err: &dyn std::error::Error| ApiError::invalid(havre_types::chain(err));
    let reference = match (request.repository.as_str(), request.tag.as_str()) {
        ("", _) => None,
        (name, "") => Some(name.to_owned()),
        (name, tag) => Some(format!("{name}:{tag}")),
    };
    let reference = reference
        .map(|text| Reference::parse_normalized(&text).map(Reference::with_default_tag))
        .transpose()
        .map_err(|err| invalid(&err))?;
    let platform = (!request.platform.is_empty())
        .then(|| Platform::parse(&request.platform))
        .transpose()
        .map_err(|err| invalid(&err))?;
    let comment = if request.message.is_empty() {
        "Imported from -".to_owned()
    } else {
        request.message
    };
    let mut config = ContainerConfig::default();
    instructions::apply(&mut config, &request.changes)?;
    let config = instructions::image_config(&config);
    let body = Body::new(request.archive);
    Ok(run(shared, move |shared, sender| {
        let image = shared
            .images
            .import(
                body,
                NewImage {
                    reference,
                    platform,
                    config,
                    comment,
                },
                Timestamp::now(),
            )
            .map_err(|err| ApiError::from_classified(&err))?;
        let id = image.id().to_string();
        shared.announce_image("import", &id, &id);
        sender.blocking_send(Ok(JsonMessage::status(id))).ok();
        Ok(())
    }))
}
