//! Files of containers: changes, export, copies, commit.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::poll_fn;
use havre_api_traits::{ApiError, CommitRequest, Download, ExtractOptions};
use havre_engine_types::{IdResponse, PathStat};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use crate::body::Body;
use crate::call::Call;
use crate::reply::{self, Reply};

/// Carries the stat of a path as JSON in base64.
const PATH_STAT: &str = "x-docker-container-path-stat";
/// How long an answer waits for a client that is still writing.
const SETTLE: Duration = Duration::from_millis(500);
const TAR: &str = "application/x-tar";
const OCTETS: &str = "application/octet-stream";

pub(super) async fn changes(call: &Call) -> Reply {
    let found = call.api().archive.changes(&call.name).await?;
    if found.is_empty() {
        // Go's form of a list that was never begun.
        return reply::json(StatusCode::OK, &Value::Null);
    }
    reply::json(StatusCode::OK, &found)
}

pub(super) async fn export(call: &Call) -> Reply {
    let tree = call.api().archive.export(&call.name).await?;
    Ok(download(OCTETS, tree))
}

pub(super) async fn stat(call: &Call) -> Reply {
    let stat = call
        .api()
        .archive
        .path_stat(&call.name, path(call)?)
        .await?;
    let mut response = Response::new(Body::empty());
    put_stat(response.headers_mut(), &stat)?;
    Ok(response)
}

pub(super) async fn get(call: &Call) -> Reply {
    let (stat, content) = call.api().archive.archive(&call.name, path(call)?).await?;
    let mut response = download(TAR, content);
    put_stat(response.headers_mut(), &stat)?;
    Ok(response)
}

pub(super) async fn put(call: Call) -> Reply {
    let options = ExtractOptions {
        keep_kinds: call.query.flag("noOverwriteDirNonDir"),
        own_by_user: call.query.flag("copyUIDGID"),
    };
    let (id, path) = (call.name.clone(), path(&call)?.to_owned());
    let (archive, context) = (Arc::clone(&call.api().archive), Arc::clone(&call.context));
    let (upload, settling) = call.into_watched_upload();
    let work = async move { archive.extract(&id, &path, options, upload).await };
    let done = context.scope.finish(work).await;
    // The end of the sender is the signal, too; a client that stalls does not hold the answer up.
    timeout(SETTLE, settling).await.ok();
    done.unwrap_or_else(|| Err(ApiError::internal("the request handler failed")))?;
    reply::status(StatusCode::OK)
}

fn path(call: &Call) -> Result<&str, ApiError> {
    match call.query.get("path") {
        "" => Err(ApiError::invalid("bad parameter: path cannot be empty")),
        path => Ok(path),
    }
}

fn put_stat(headers: &mut HeaderMap, stat: &PathStat) -> Result<(), ApiError> {
    let document = reply::json_line(stat, "")?;
    let value = HeaderValue::from_str(&STANDARD.encode(document))
        .map_err(|error| ApiError::internal(format!("failed to write the answer: {error}")))?;
    headers.insert(HeaderName::from_static(PATH_STAT), value);
    Ok(())
}

fn download(content_type: &'static str, mut pieces: Download) -> Response<Body> {
    let body = Body::fallible(poll_fn(move |cx| pieces.poll_recv(cx)));
    reply::with_type(StatusCode::OK, content_type, body)
}

pub(super) async fn commit(mut call: Call) -> Reply {
    let config = call.json().await?;
    let text = |name: &str| call.query.get(name).to_owned();
    let request = CommitRequest {
        container: text("container"),
        repository: text("repo"),
        tag: text("tag"),
        author: text("author"),
        comment: text("comment"),
        // Docker: an empty value is the default too.
        pause: call.query.get("pause").is_empty() || call.query.flag("pause"),
        changes: call.query.all("changes"),
        config,
    };
    let archive = Arc::clone(&call.api().archive);
    let id = call
        .finish(async move { archive.commit(request).await })
        .await?;
    reply::json(StatusCode::CREATED, &IdResponse { id })
}
