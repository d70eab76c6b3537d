//! `/_ping`, `/version`, `/info`, `/events`.

use futures_util::stream::poll_fn;
use havre_api_traits::{ApiError, EventsQuery};
use havre_types::Timestamp;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};
use hyper::{Method, StatusCode};
use serde_json::Value;
use tracing::warn;

use super::containers::to_value;
use super::shape;
use crate::body::Body;
use crate::call::Call;
use crate::reply::{self, Reply};
use crate::version;

pub(super) fn ping(call: &Call) -> Reply {
    let text = if call.method == Method::HEAD {
        ""
    } else {
        "OK"
    };
    let mut response = reply::with_type(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        Body::whole(text),
    );
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(
        HeaderName::from_static("builder-version"),
        HeaderValue::from_static("2"),
    );
    headers.insert(
        HeaderName::from_static("swarm"),
        HeaderValue::from_static("inactive"),
    );
    Ok(response)
}

pub(super) async fn version(call: &Call) -> Reply {
    let mut version = call.api().system.version().await?;
    version.api_version = version::MAX.to_string();
    version.min_api_version = version::MIN.to_string();
    // The docker CLI shows the component's versions, not those above.
    let engine = version
        .components
        .iter_mut()
        .find(|part| part.name == "Engine");
    if let Some(engine) = engine {
        let details = engine.details.get_or_insert_default();
        details.insert("ApiVersion".to_owned(), version.api_version.clone());
        details.insert("MinAPIVersion".to_owned(), version.min_api_version.clone());
    }
    reply::json(StatusCode::OK, &version)
}

pub(super) async fn info(call: &Call) -> Reply {
    let mut value = to_value(&call.api().system.info().await?)?;
    shape::info(call.version, &mut value);
    reply::json(StatusCode::OK, &value)
}

pub(super) async fn events(call: &Call) -> Reply {
    let since = moment(call, "since", '\'')?;
    let until = moment(call, "until", '\'')?;
    if let (Some(from), Some(to)) = (since, until)
        && to < from
    {
        let (from, to) = (call.query.get("since"), call.query.get("until"));
        return Err(ApiError::invalid(format!(
            "`since` time ({from}) cannot be after `until` time ({to})"
        )));
    }
    let query = EventsQuery {
        since,
        until,
        filters: call.filters()?,
    };
    let mut events = call.api().system.events(query).await?;
    let version = call.version;
    let content_type = if version.before(52) {
        reply::JSON
    } else {
        "application/jsonl"
    };
    let lines = poll_fn(move |cx| {
        loop {
            let Some(event) = std::task::ready!(events.poll_recv(cx)) else {
                return std::task::Poll::Ready(None);
            };
            match serde_json::to_value(&event).map(|value| shape::event(version, value)) {
                Ok(Some(value)) => match reply::json_line::<Value>(&value, "\n") {
                    Ok(line) => return std::task::Poll::Ready(Some(line)),
                    Err(error) => warn!(%error, "an event cannot be written"),
                },
                Ok(None) => {}
                Err(error) => warn!(%error, "an event cannot be written"),
            }
        }
    });
    Ok(reply::stream(content_type, lines))
}

/// A point in time from the query; absent, empty and `0` for `until` mean none. `quote` is how Docker's
/// message quotes the name.
pub(super) fn moment(call: &Call, name: &str, quote: char) -> Result<Option<Timestamp>, ApiError> {
    let text = call.query.get(name);
    if text.is_empty() || (name == "until" && text == "0") {
        return Ok(None);
    }
    match Timestamp::parse_since(text, Timestamp::now()) {
        Ok(moment) => Ok(Some(moment)),
        Err(error) => Err(ApiError::invalid(format!(
            "invalid value for {quote}{name}{quote}: {error}"
        ))),
    }
}
