//! `logs`.

use havre_client::LogOptions;
use havre_client::stdcopy::{Demux, HeaderError, Stream};
use havre_types::Timestamp;

use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::flags::Matches;
use crate::ui::Output;

/// `logs CONTAINER`
pub(super) async fn logs(app: &mut App, matches: &Matches) -> Outcome {
    let name = matches.args.first().map_or("", String::as_str);
    let now = Timestamp::now();
    let options = LogOptions {
        follow: matches.on("follow"),
        timestamps: matches.on("timestamps"),
        details: matches.on("details"),
        tail: matches.text("tail").unwrap_or("all").to_owned(),
        since: time(matches, "since", now)?,
        until: time(matches, "until", now)?,
    };
    let mut response = app.client.container_logs(name, &options).await?;
    let multiplexed = match response.header("content-type") {
        Some(kind) if kind.ends_with("multiplexed-stream") => true,
        Some(kind) if kind.ends_with("raw-stream") => false,
        _ => !has_terminal(app, name).await?,
    };
    let mut demux = Demux::default();
    while let Some(chunk) = response.chunk().await? {
        if multiplexed {
            let ui = &mut app.ui;
            demux
                .push::<HeaderError>(&chunk, |stream, bytes| {
                    ui.write(
                        if stream == Stream::Stdout {
                            Output::Out
                        } else {
                            Output::Err
                        },
                        bytes,
                    );
                    Ok(())
                })
                .map_err(|error| Failure::new(error.to_string()))?;
        } else {
            app.ui.write(Output::Out, &chunk);
        }
    }
    Ok(())
}

/// Engines before API 1.42 do not say whether a stream is multiplexed; it is unless the container has a terminal.
async fn has_terminal(app: &App, name: &str) -> Outcome<bool> {
    let container = app.client.container_inspect(name, false).await?;
    Ok(container
        .pointer("/Config/Tty")
        .and_then(serde_json::Value::as_bool)
        .unwrap_or(false))
}

/// A point in time that a flag names.
fn time(matches: &Matches, flag: &str, now: Timestamp) -> Outcome<Option<Timestamp>> {
    match matches.text(flag).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match Timestamp::parse_since(text, now) {
            Ok(time) => Ok(Some(time)),
            Err(error) => Err(Failure::new(format!(
                "invalid value for \"{flag}\": {error}"
            ))),
        },
    }
}
