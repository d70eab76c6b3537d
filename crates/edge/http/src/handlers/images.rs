//! `/images/…`.

use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use futures_util::stream::poll_fn;
use havre_api_traits::{ApiError, ImportRequest, LoadRequest, Progress, PullRequest, RemoveImage};
use havre_engine_types::JsonMessage;
use hyper::{Response, StatusCode};

use super::auth::registry_auth;
use super::containers::to_value;
use super::shape;
use crate::body::Body;
use crate::call::Call;
use crate::reply::{self, Reply};

/// What separates the messages of a progress stream.
const NEWLINE: &str = "\r\n";

pub(super) async fn list(call: &Call) -> Reply {
    let mut filters = call.filters()?;
    let old = call.query.get("filter");
    if call.version.before(41) && !old.is_empty() && !filters.contains("reference") {
        filters.add("reference", old);
    }
    let images = call
        .api()
        .images
        .list(call.query.flag("all"), filters)
        .await?;
    let mut value = to_value(&images)?;
    shape::image_list(call.version, &mut value);
    reply::json(StatusCode::OK, &value)
}

pub(super) async fn create(call: Call) -> Reply {
    let query = &call.query;
    let platform = if call.version.before(32) {
        ""
    } else {
        query.get("platform")
    }
    .to_owned();
    let images = Arc::clone(&call.api().images);
    let image = query.get("fromImage").to_owned();
    if !image.is_empty() {
        let tag = query.get("tag").to_owned();
        let auth = registry_auth(&call.headers);
        let progress = images
            .pull(PullRequest {
                image,
                tag,
                platform,
                auth,
            })
            .await?;
        return progress_reply(progress).await;
    }
    let source = query.get("fromSrc");
    if source != "-" {
        return Err(ApiError::not_implemented(
            "importing an image from a URL is not implemented in Havre yet: send the archive itself",
        ));
    }
    let text = |name: &str| query.get(name).to_owned();
    let message = match query.get("message") {
        "" => format!("Imported from {source}"),
        given => given.to_owned(),
    };
    let (repository, tag, changes) = (text("repo"), text("tag"), query.all("changes"));
    let archive = call.into_upload();
    let request = ImportRequest {
        repository,
        tag,
        message,
        changes,
        platform,
        archive,
    };
    progress_reply(images.import(request).await?).await
}

pub(super) async fn load(call: Call) -> Reply {
    let images = Arc::clone(&call.api().images);
    let quiet = call.query.flag_or("quiet", true);
    let platforms = if call.version.before(48) {
        Vec::new()
    } else {
        call.query.all("platform")
    };
    if platforms.len() > 1 && call.version.before(52) {
        return Err(ApiError::invalid(
            "multiple platform parameters are not supported in this API version; use API version 1.52 or later",
        ));
    }
    let archive = call.into_upload();
    // Docker reports every failure of a load in the stream.
    match images
        .load(LoadRequest {
            quiet,
            platforms,
            archive,
        })
        .await
    {
        Ok(progress) => Ok(progress_stream(None, progress)),
        Err(failure) => Ok(reply::with_type(
            StatusCode::OK,
            reply::JSON,
            Body::whole(error_line(&failure)),
        )),
    }
}

pub(super) async fn inspect(call: &Call) -> Reply {
    let image = call.api().images.inspect(&call.name).await?;
    let mut value = to_value(&image)?;
    shape::image(call.version, &mut value);
    reply::json(StatusCode::OK, &value)
}

pub(super) async fn history(call: &Call) -> Reply {
    reply::json(
        StatusCode::OK,
        &call.api().images.history(&call.name).await?,
    )
}

pub(super) async fn tag(call: &Call) -> Reply {
    let (repository, tag) = (
        call.query.get("repo").to_owned(),
        call.query.get("tag").to_owned(),
    );
    let (images, name) = (Arc::clone(&call.api().images), call.name.clone());
    call.finish(async move { images.tag(&name, &repository, &tag).await })
        .await?;
    reply::status(StatusCode::CREATED)
}

pub(super) async fn remove(call: &Call) -> Reply {
    if call.name.trim().is_empty() {
        return Err(ApiError::invalid("image name cannot be blank"));
    }
    let how = RemoveImage {
        force: call.query.flag("force"),
        keep_parents: call.query.flag("noprune"),
    };
    let (images, name) = (Arc::clone(&call.api().images), call.name.clone());
    let removed = call
        .finish(async move { images.remove(&name, how).await })
        .await?;
    reply::json(StatusCode::OK, &removed)
}

/// Progress, or the status of a failure that comes before any.
async fn progress_reply(mut progress: Progress) -> Reply {
    match progress.recv().await {
        None => Ok(reply::with_type(StatusCode::OK, reply::JSON, Body::empty())),
        Some(Err(failure)) => Err(failure),
        Some(Ok(first)) => Ok(progress_stream(Some(first), progress)),
    }
}

fn progress_stream(first: Option<JsonMessage>, mut progress: Progress) -> Response<Body> {
    let mut first = first;
    let lines = poll_fn(move |cx| {
        if let Some(message) = first.take() {
            return Poll::Ready(Some(progress_line(Ok(message))));
        }
        let next = ready!(progress.poll_recv(cx));
        Poll::Ready(next.map(progress_line))
    });
    reply::stream(reply::JSON, lines)
}

fn progress_line(message: Result<JsonMessage, ApiError>) -> Bytes {
    let line = message.and_then(|message| reply::json_line(&message, NEWLINE));
    line.unwrap_or_else(|failure| error_line(&failure))
}

fn error_line(failure: &ApiError) -> Bytes {
    let document = JsonMessage::failure(failure.message.clone());
    reply::json_line(&document, NEWLINE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_failure_is_a_message() {
        let line = error_line(&ApiError::not_found("no \"x\""));
        assert_eq!(
            &line[..],
            b"{\"errorDetail\":{\"message\":\"no \\\"x\\\"\"},\"error\":\"no \\\"x\\\"\"}\r\n"
        );
    }
}
