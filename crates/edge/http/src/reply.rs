//! Answers: JSON, nothing, streams, errors; each as dockerd writes it.

use bytes::Bytes;
use futures_util::Stream;
use havre_api_traits::ApiError;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tracing::error;

use crate::body::Body;

/// What a handler returns.
pub(crate) type Reply = Result<Response<Body>, ApiError>;

/// The type of JSON bodies.
pub(crate) const JSON: &str = "application/json";
/// The type of output without framing.
pub(crate) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// The type of output with framing.
pub(crate) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// A JSON document, ended by a newline as Go's encoder does.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    Ok(with_type(
        status,
        JSON,
        Body::whole(json_line(value, "\n")?),
    ))
}

/// One JSON document as a line of a stream.
pub(crate) fn json_line<T: Serialize>(value: &T, newline: &str) -> Result<Bytes, ApiError> {
    let mut out = serde_json::to_vec(value)
        .map_err(|error| ApiError::internal(format!("failed to write the answer: {error}")))?;
    out.extend_from_slice(newline.as_bytes());
    Ok(out.into())
}

/// A status alone.
pub(crate) fn status(status: StatusCode) -> Reply {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    Ok(response)
}

/// A stream; its headers are sent at once.
pub(crate) fn stream(
    content_type: &'static str,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    with_type(StatusCode::OK, content_type, Body::pieces(pieces))
}

/// An error in the form that the client reads.
pub(crate) fn failure(failure: &ApiError, plain: bool) -> Response<Body> {
    let status = StatusCode::from_u16(failure.kind.http_status())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::NOT_MODIFIED {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        return response;
    }
    if plain {
        let text = format!("{}\n", failure.message);
        return with_type(status, "text/plain; charset=utf-8", Body::whole(text));
    }
    with_type(status, JSON, Body::whole(message(&failure.message)))
}

/// A body of any type.
pub(crate) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn message(text: &str) -> Bytes {
    let document = serde_json::json!({ "message": text });
    json_line(&document, "\n").unwrap_or_else(|failure| {
        error!(%failure, "an error without a form");
        Bytes::from_static(b"{\"message\":\"internal error\"}\n")
    })
}
