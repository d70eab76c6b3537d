//! Commands that do one thing to each container that is named: `stop`, `kill`, `restart`, `rm`, `wait`.

use futures_util::stream::{self, StreamExt as _};
use havre_client::{Client, ClientError, Query, RemoveOptions, WaitCondition};
use havre_types::{Classify as _, ErrorKind};

use crate::app::App;
use crate::failure::{self, Failure, Outcome};
use crate::flags::Matches;

/// So many containers are worked on at once.
const AT_ONCE: usize = 50;

/// Does something to each container, several at once; prints names in the order given and collects failures.
pub(super) async fn each<F>(
    app: &mut App,
    names: &[String],
    action: impl Fn(String) -> F,
) -> Outcome
where
    F: Future<Output = Result<(), ClientError>>,
{
    let results: Vec<_> = stream::iter(names.iter().cloned())
        .map(&action)
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut failures = Vec::new();
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(()) => app.ui.line(name),
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    failure::all(failures)
}

/// `stop CONTAINER…`
pub(super) async fn stop(app: &mut App, matches: &Matches) -> Outcome {
    end(app, matches, "stop").await
}

/// `restart CONTAINER…`
pub(super) async fn restart(app: &mut App, matches: &Matches) -> Outcome {
    end(app, matches, "restart").await
}

async fn end(app: &mut App, matches: &Matches, action: &'static str) -> Outcome {
    let timeout = matches.int("timeout").or_else(|| matches.int("time"));
    let query = Query::new()
        .number("t", timeout)
        .text("signal", matches.text_or_empty("signal"));
    let client = &app.client.clone();
    let query = &query;
    each(app, &matches.args, |name| async move {
        client.container_post(&name, action, query).await
    })
    .await
}

/// `kill CONTAINER…`
pub(super) async fn kill(app: &mut App, matches: &Matches) -> Outcome {
    let query = Query::new().text("signal", matches.text_or_empty("signal"));
    let client = &app.client.clone();
    let query = &query;
    each(app, &matches.args, |name| async move {
        client.container_post(&name, "kill", query).await
    })
    .await
}

/// `rm CONTAINER…`
pub(super) async fn remove(app: &mut App, matches: &Matches) -> Outcome {
    let force = matches.on("force");
    let options = RemoveOptions {
        force,
        volumes: matches.on("volumes"),
        link: matches.on("link"),
    };
    let client = &app.client.clone();
    let names: Vec<String> = matches
        .args
        .iter()
        .map(|name| name.trim_matches('/').to_owned())
        .collect();
    if names.iter().any(String::is_empty) {
        return Err(Failure::new("container name cannot be empty"));
    }
    let results: Vec<_> = stream::iter(names)
        .map(|name| async move { client.container_remove(&name, options).await })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut failures = Vec::new();
    for (name, result) in matches.args.iter().zip(results) {
        match result {
            Ok(()) => app.ui.line(name),
            // What is gone already is what was wanted.
            Err(error) if force && error.kind() == ErrorKind::NotFound => {
                app.ui.complain(&Failure::from(error).message);
            }
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    failure::all(failures)
}

/// `wait CONTAINER…`: prints the exit code of each.
pub(super) async fn wait(app: &mut App, matches: &Matches) -> Outcome {
    let mut failures = Vec::new();
    for name in &matches.args {
        match wait_for(&app.client, name).await {
            Ok(code) => app.ui.line(&code.to_string()),
            Err(failure) => failures.push(failure),
        }
    }
    failure::all(failures)
}

async fn wait_for(client: &Client, name: &str) -> Outcome<i64> {
    let response = client
        .container_wait(name, WaitCondition::NotRunning)
        .await?;
    let result = client.wait_result(response).await?;
    match result.error {
        Some(error) if !error.message.is_empty() => Err(Failure::new(error.message)),
        _ => Ok(result.status_code),
    }
}
