//! `pull`, and the pull that `run` does by itself.

use havre_client::Query;
use havre_types::reference::AnyReference;
use havre_types::{Platform, Reference};

use crate::app::App;
use crate::auth;
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::flags::Matches;
use crate::progress;
use crate::ui::Output;

/// `pull NAME[:TAG|@DIGEST]`
pub(super) async fn pull(app: &mut App, matches: &Matches) -> Outcome {
    let name = matches.args.first().map_or("", String::as_str);
    let all = matches.on("all-tags");
    let quiet = matches.on("quiet");
    let mut reference =
        Reference::parse_normalized(name).map_err(|error| Failure::new(error.to_string()))?;
    if all && !reference.is_name_only() {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    if !all && reference.is_name_only() {
        reference = reference.with_default_tag();
        if !quiet {
            app.ui.line(&format!(
                "Using default tag: {}",
                reference.tag().unwrap_or_default()
            ));
        }
    }
    let output = (!quiet).then_some(Output::Out);
    let platform = config::default_platform(matches, &app.environment).to_owned();
    send(app, &reference, &platform, output).await?;
    app.ui.line(&reference.to_string());
    Ok(())
}

/// Pulls one image; progress goes to `output`, or nowhere.
pub(super) async fn image(
    app: &mut App,
    name: &str,
    platform: &str,
    output: Option<Output>,
) -> Outcome {
    match Reference::parse_any(name) {
        Ok(AnyReference::Name(reference)) => {
            send(app, &reference.with_default_tag(), platform, output).await
        }
        Ok(AnyReference::Id(id)) => Err(Failure::new(format!("cannot pull image {id} by its id"))),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

async fn send(
    app: &mut App,
    reference: &Reference,
    platform: &str,
    output: Option<Output>,
) -> Outcome {
    if !platform.is_empty() {
        Platform::parse(platform).map_err(|error| Failure::new(error.to_string()))?;
    }
    let tag = match reference.digest() {
        Some(digest) => digest.as_str(),
        None => reference.tag().unwrap_or_default(),
    };
    let query = Query::new()
        .text("fromImage", &reference.name())
        .text("tag", tag)
        .text("platform", platform);
    let credentials = auth::header(app, reference.domain())?;
    let mut stream = match app.client.image_pull(&query, credentials.clone()).await {
        Err(error) if error.is_nobody_there() => {
            app.start_engine(error).await?;
            app.client.image_pull(&query, credentials).await?
        }
        other => other?,
    };
    match output {
        Some(output) => progress::show(&mut app.ui, output, &mut stream).await,
        None => progress::skip(&mut stream).await,
    }
}
