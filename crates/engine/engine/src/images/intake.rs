//! Images from archives: loaded, imported. Each runs on its own task and reports through a channel; it ends
//! soon after the channel's reader has gone.

use std::sync::Arc;

use havre_api_traits::{ApiError, ApiResult, ImportRequest, LoadRequest, Progress};
use havre_engine_types::{ImageRunConfig, JsonMessage, ProgressDetail};
use havre_image::{Loaded, NewImage};
use havre_types::{Platform, Reference, Timestamp};
use tokio::sync::mpsc;

use crate::archive::Body;
use crate::engine::Shared;

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
            let mut names: Vec<String> = references.iter().map(Reference::familiar).collect();
            let line = if names.is_empty() {
                names.push(id.to_owned());
                "Loaded image ID: "
            } else {
                "Loaded image: "
            };
            for name in names {
                shared.announce_image("load", id, &name);
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
    let config = changes(&request.changes)?;
    let body = Body::new(request.archive);
    Ok(run(shared, move |shared, sender| {
        let name = reference.as_ref().map(Reference::familiar);
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
        shared.announce_image("import", &id, name.as_deref().unwrap_or(&id));
        sender.blocking_send(Ok(JsonMessage::status(id))).ok();
        Ok(())
    }))
}

/// `--change`: the Dockerfile instructions that only touch the configuration.
fn changes(instructions: &[String]) -> ApiResult<ImageRunConfig> {
    let mut config = ImageRunConfig::default();
    for instruction in instructions {
        let (word, rest) = instruction
            .trim()
            .split_once(char::is_whitespace)
            .ok_or_else(|| {
                ApiError::invalid(format!("invalid change {instruction:?}: no argument"))
            })?;
        change(&mut config, &word.to_ascii_uppercase(), rest.trim())?;
    }
    Ok(config)
}

fn change(config: &mut ImageRunConfig, word: &str, rest: &str) -> ApiResult<()> {
    let pair = || {
        let (key, value) = rest
            .split_once('=')
            .or_else(|| rest.split_once(char::is_whitespace))
            .ok_or_else(|| ApiError::invalid(format!("{word} must have two arguments")))?;
        Ok((
            key.trim().to_owned(),
            value.trim().trim_matches('"').to_owned(),
        ))
    };
    match word {
        "CMD" => config.cmd = Some(words(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(words(rest)),
        "USER" => rest.clone_into(&mut config.user),
        "WORKDIR" => rest.clone_into(&mut config.working_dir),
        "STOPSIGNAL" => {
            crate::signal::parse(rest)?;
            rest.clone_into(&mut config.stop_signal);
        }
        "ENV" => {
            let (key, value) = pair()?;
            config
                .env
                .get_or_insert_default()
                .push(format!("{key}={value}"));
        }
        "LABEL" => {
            let (key, value) = pair()?;
            config.labels.get_or_insert_default().insert(key, value);
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = if port.contains('/') {
                    port.to_owned()
                } else {
                    format!("{port}/tcp")
                };
                let empty = serde_json::Value::Object(serde_json::Map::new());
                config
                    .exposed_ports
                    .get_or_insert_default()
                    .insert(port, empty);
            }
        }
        "VOLUME" => {
            for path in words_or_list(rest) {
                let empty = serde_json::Value::Object(serde_json::Map::new());
                config.volumes.get_or_insert_default().insert(path, empty);
            }
        }
        other => {
            return Err(ApiError::invalid(format!(
                "{other} is not a valid change command"
            )));
        }
    }
    Ok(())
}

/// The JSON form as it is, the shell form through `/bin/sh -c`.
fn words(text: &str) -> Vec<String> {
    serde_json::from_str(text)
        .unwrap_or_else(|_shell_form| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn words_or_list(text: &str) -> Vec<String> {
    serde_json::from_str(text)
        .unwrap_or_else(|_plain| text.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_touch_the_configuration_only() {
        let given = [
            "CMD [\"sh\"]",
            "ENV A=b c",
            "label x=1",
            "EXPOSE 80 53/udp",
            "ENTRYPOINT run it",
        ]
        .map(str::to_owned);
        let config = changes(&given).unwrap();
        assert_eq!(config.cmd.unwrap(), ["sh"]);
        assert_eq!(config.env.unwrap(), ["A=b c"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "run it"]);
        assert_eq!(
            config.exposed_ports.unwrap().keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp"]
        );
        changes(&["RUN rm -rf /".to_owned()]).unwrap_err();
        changes(&["CMD".to_owned()]).unwrap_err();
    }
}
