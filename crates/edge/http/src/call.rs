//! One request: version, route, query, handler, answer. No handler runs before all of these are known.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use havre_api_traits::{Api, ApiError, Upload};
use havre_engine_types::{Filters, gojson};
use havre_types::ErrorKind;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SERVER};
use hyper::upgrade::{self, OnUpgrade};
use hyper::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tracing::{debug, error};

use crate::body::{self, Body};
use crate::conn::Shared;
use crate::handlers;
use crate::query::Query;
use crate::reply::{self, Reply};
use crate::route;
use crate::server::{Context, Scope};
use crate::version::{self, ApiVersion};

/// A request on its way to its handler.
pub(crate) struct Call {
    pub(crate) context: Arc<Context>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) version: ApiVersion,
    /// What stands for `{id}` or `{name}`.
    pub(crate) name: String,
    /// What stands for a second variable of the path.
    pub(crate) part: String,
    pub(crate) query: Query,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) upgrade: OnUpgrade,
    body: Incoming,
}

impl Call {
    pub(crate) fn api(&self) -> &Api {
        &self.context.api
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.context.scope
    }

    /// The filters of the query, in either of Docker's two forms.
    pub(crate) fn filters(&self) -> Result<Filters, ApiError> {
        Filters::parse(self.query.get("filters"))
            .map_err(|_malformed| ApiError::invalid("invalid filter"))
    }

    /// Reads the JSON body; None without one.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        check_json_type(&self.headers, self.body.is_end_stream())?;
        self.any_json().await
    }

    /// Reads the JSON body whatever its content type says; None without one.
    pub(crate) async fn any_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        let bytes = body::read_small(&mut self.body).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::invalid(
                "invalid JSON: got EOF while reading request body",
            ));
        }
        match gojson::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => match error.to_string() {
                text if text == gojson::TRAILING => Err(ApiError::invalid(text)),
                text => Err(ApiError::invalid(format!("invalid JSON: {text}"))),
            },
        }
    }

    /// Whether there is a body of more than so many bytes, or one of unknown length.
    pub(crate) fn has_body_over(&self, limit: u64) -> bool {
        let hint = self.body.size_hint();
        !self.body.is_end_stream() && hint.exact().is_none_or(|length| length > limit)
    }

    /// The body as an archive, and the call without it.
    pub(crate) fn into_upload(self) -> Upload {
        body::upload(self.body, &self.context.scope)
    }

    /// As [`Self::into_upload`], with the moment from which an answer does not meet a client that still writes.
    pub(crate) fn into_watched_upload(self) -> (Upload, oneshot::Receiver<()>) {
        body::watched_upload(self.body, &self.context.scope)
    }

    /// Runs what changes something to its end, whether or not the client stays.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = self.scope().finish(work).await;
        done.unwrap_or_else(|| Err(ApiError::internal("the request handler failed")))
    }
}

/// Answers one request. Begins synchronously, so that the connection knows of the request before more is read.
pub(crate) fn serve(
    context: Arc<Context>,
    shared: Arc<Shared>,
    tcp: bool,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send {
    let server = HeaderValue::from_str(&context.server).ok();
    let plain = version::reads_plain_errors(version::split(request.uri().path()).0);
    let subject = format!("{} {}", request.method(), request.uri().path());
    let reporting = Arc::clone(&shared);
    let stop = context.scope.stop_token();
    let answer = AssertUnwindSafe(answer(context, shared, tcp, request)).catch_unwind();
    async move {
        let reply = answer
            .await
            .unwrap_or_else(|_panic| Err(ApiError::internal("the request handler failed")));
        let mut response = reply.unwrap_or_else(|failure| {
            if failure.kind.http_status() >= 500 {
                error!(request = %subject, error = %failure, "request failed");
            } else {
                debug!(request = %subject, error = %failure, "request refused");
            }
            reply::failure(&failure, plain)
        });
        debug!(request = %subject, status = response.status().as_u16(), "request");
        add_headers(response.headers_mut(), server);
        Ok(response.map(|body| body.on_connection(reporting, stop)))
    }
}

async fn answer(
    context: Arc<Context>,
    shared: Arc<Shared>,
    tcp: bool,
    mut request: Request<Incoming>,
) -> Reply {
    if tcp {
        check_origin(request.headers())?;
    }
    if request.method() == Method::OPTIONS {
        return reply::status(StatusCode::OK);
    }
    let upgrade = upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let (asked, path) = version::split(parts.uri.path());
    let Some(found) = route::find(&parts.method, path)? else {
        return Err(ApiError::not_found("page not found"));
    };
    let version = version::check(asked)?;
    let Some(action) = found.route.action else {
        if let Some((kind, text)) = found.route.absent {
            return Err(ApiError::new(kind, text.replace("{}", &found.name)));
        }
        return Err(ApiError::not_implemented(format!(
            "{} {} is not implemented in Havre yet",
            found.route.method, found.route.path
        )));
    };
    let query = Query::parse(parts.uri.query().unwrap_or(""))?;
    let call = Call {
        context,
        shared,
        version,
        name: found.name,
        part: found.part,
        query,
        method: parts.method,
        headers: parts.headers,
        upgrade,
        body,
    };
    handlers::run(action, call).await
}

/// Headers that every answer carries.
fn add_headers(headers: &mut HeaderMap, server: Option<HeaderValue>) {
    let mut set = |name: &'static str, value: &'static str| {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    };
    set("api-version", version::MAX_TEXT);
    // Without it the docker command line offers no checkpoints.
    set("docker-experimental", "true");
    set("ostype", "linux");
    if let Some(server) = server {
        headers.insert(SERVER, server);
    }
}

/// Refuses what a web page in a browser on this machine could send: the loopback address is no secret, and
/// a foreign name may resolve to it.
fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let forbidden = |text: String| Err(ApiError::new(ErrorKind::Forbidden, text));
    if headers.contains_key(ORIGIN) {
        return forbidden("requests from web pages are not allowed".to_owned());
    }
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("");
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    if name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    forbidden(format!(
        "host {host:?} is not allowed: use localhost or an address"
    ))
}

/// Docker's check of the type of a JSON body.
fn check_json_type(headers: &HeaderMap, empty: bool) -> Result<(), ApiError> {
    let value = headers
        .get(CONTENT_TYPE)
        .map_or("", |value| value.to_str().unwrap_or("?"));
    if value.is_empty() && empty {
        return Ok(());
    }
    let media_type = value.split(';').next().unwrap_or("").trim();
    if media_type.is_empty() {
        return Err(ApiError::invalid(format!(
            "malformed Content-Type header ({value}): mime: no media type"
        )));
    }
    if media_type.eq_ignore_ascii_case(reply::JSON) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "unsupported Content-Type header ({value}): must be 'application/json'"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn json_types_are_checked_in_dockers_words() {
        for (value, empty, message) in [
            (None, true, None),
            (Some("application/json"), false, None),
            (Some("Application/JSON; charset=utf-8"), false, None),
            (
                None,
                false,
                Some("malformed Content-Type header (): mime: no media type"),
            ),
            (
                Some("text/plain"),
                true,
                Some("unsupported Content-Type header (text/plain): must be 'application/json'"),
            ),
        ] {
            let given = value.map(|value| ("content-type", value));
            let result = check_json_type(&headers(given.as_slice()), empty);
            assert_eq!(result.err().map(|error| error.message).as_deref(), message);
        }
    }

    #[test]
    fn web_pages_are_refused() {
        for (given, allowed) in [
            (&[("host", "127.0.0.1:2375")][..], true),
            (&[("host", "localhost")], true),
            (&[("host", "[::1]:2375")], true),
            (&[("host", "evil.example:2375")], false),
            (&[], false),
            (
                &[("host", "localhost"), ("origin", "http://localhost")],
                false,
            ),
        ] {
            assert_eq!(check_origin(&headers(given)).is_ok(), allowed, "{given:?}");
        }
    }
}
