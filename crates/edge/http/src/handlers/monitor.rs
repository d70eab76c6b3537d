//! Processes, statistics and the diagnosis of containers.

use futures_util::stream::poll_fn;
use havre_api_traits::{ApiError, StatsMode};
use havre_engine_types::ContainerStats;
use hyper::StatusCode;
use tracing::warn;

use crate::call::Call;
use crate::reply::{self, Reply};

pub(super) async fn top(call: &Call) -> Reply {
    let arguments = call.query.get("ps_args");
    let answer = call.api().monitor.top(&call.name, arguments).await?;
    reply::json(StatusCode::OK, &answer)
}

pub(super) async fn stats(call: &Call) -> Reply {
    let mode = if call.query.flag_or("stream", true) {
        StatsMode::Stream
    } else if call.query.flag("one-shot") && !call.version.before(41) {
        StatsMode::Single
    } else {
        StatsMode::Pair
    };
    let mut samples = call.api().monitor.stats(&call.name, mode).await?;
    if mode == StatsMode::Stream {
        return Ok(reply::stream(
            reply::JSON,
            poll_fn(move |cx| samples.poll_recv(cx).map(|sample| line(&sample?))),
        ));
    }
    let sample = samples
        .recv()
        .await
        // It was removed between two samples.
        .ok_or_else(|| ApiError::not_found(format!("No such container: {}", call.name)))?;
    reply::json(StatusCode::OK, &sample)
}

pub(super) async fn why(call: &Call) -> Reply {
    reply::json(StatusCode::OK, &call.api().monitor.why(&call.name).await?)
}

/// One sample as a line; one that cannot be written ends the stream.
fn line(sample: &ContainerStats) -> Option<bytes::Bytes> {
    reply::json_line(sample, "\n")
        .inspect_err(|error| warn!(%error, "statistics cannot be written"))
        .ok()
}
