//! The bytes of one blob in their order, whatever breaks on the way: a cut is healed by asking for
//! the rest, so that who consumes the bytes sees one stream.

use crate::error::RequestError;
use crate::session::{Session, Wish, next_piece, pause, wait_before};
use crate::url::Url;
use bytes::Bytes;
use havre_oci::Descriptor;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName};
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// So many bytes are here.
    Position(u64),
    /// It will be tried again after this time.
    Retry(Duration),
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// All bytes have been handed on.
    Complete,
    /// Nobody takes them any more.
    Refused,
}

/// Hands on the bytes of a blob from an offset to its end.
pub(crate) async fn stream(
    session: &Session,
    blob: &Descriptor,
    from: u64,
    sink: &Sender<Bytes>,
    event: &(dyn Fn(Event) + Send + Sync),
) -> Result<End, RequestError> {
    let url = session.url(&format!("blobs/{}", blob.digest));
    let retries = session.retries();
    let mut position = from;
    let (mut in_a_row, mut total) = (0_u32, 0_u32);
    while position < blob.size {
        let before = position;
        let error = match attempt(session, &url, blob.size, &mut position, sink, event).await {
            Ok(end) => return Ok(end),
            Err(error) => error,
        };
        in_a_row = if position > before { 1 } else { in_a_row + 1 };
        total += 1;
        if !error.is_passing() || in_a_row > retries.in_a_row || total > retries.total {
            return Err(error);
        }
        // After a cut that brought something the rest is asked for at once.
        if position == before || error.retry_after().is_some() {
            let wait = wait_before(in_a_row, &error, retries);
            event(Event::Retry(wait));
            pause(wait).await;
        }
    }
    Ok(End::Complete)
}

async fn attempt(
    session: &Session,
    url: &Url,
    size: u64,
    position: &mut u64,
    sink: &Sender<Bytes>,
    event: &(dyn Fn(Event) + Send + Sync),
) -> Result<End, RequestError> {
    let wish = Wish {
        accept: "",
        from: *position,
    };
    let response = session.open(url, wish).await?;
    let mut skip = beginning(url, &response, size, *position)?;
    let patience = session.retries().stall;
    let text = url.to_string();
    let mut body = response.into_body();
    while *position < size {
        let Some(mut piece) = next_piece(&mut body, &text, patience).await? else {
            return Err(RequestError::Body {
                url: text,
                source: None,
            });
        };
        let passed = skip.min(piece.len() as u64);
        skip -= passed;
        let piece = piece.split_off(usize::try_from(passed).unwrap_or(piece.len()));
        if piece.is_empty() {
            continue;
        }
        let actual = position.saturating_add(piece.len() as u64);
        if actual > size {
            return Err(RequestError::Length {
                url: text,
                expected: size,
                actual,
            });
        }
        if sink.send(piece).await.is_err() {
            return Ok(End::Refused);
        }
        *position = actual;
        event(Event::Position(actual));
    }
    // One byte too many is as wrong as one too few.
    if next_piece(&mut body, &text, patience)
        .await
        .is_ok_and(|more| more.is_some())
    {
        return Err(RequestError::Length {
            url: text,
            expected: size,
            actual: size + 1,
        });
    }
    Ok(End::Complete)
}

/// How many bytes at the beginning of the answer are here already. A server may ignore the range and
/// send everything; one that sends another range, or a blob of another length, is not believed.
fn beginning(
    url: &Url,
    response: &Response<Incoming>,
    size: u64,
    position: u64,
) -> Result<u64, RequestError> {
    let partial = response.status().as_u16() == 206;
    let start = if partial {
        range_start(response.headers()).unwrap_or(u64::MAX)
    } else {
        0
    };
    let length = number(response.headers(), &CONTENT_LENGTH);
    let expected = size.saturating_sub(start);
    let wrong = |actual| RequestError::Length {
        url: url.to_string(),
        expected: size,
        actual,
    };
    if start > position {
        return Err(wrong(start));
    }
    match length {
        Some(length) if length != expected => Err(wrong(start.saturating_add(length))),
        _ => Ok(position - start),
    }
}

/// The first number of `bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .trim()
        .parse()
        .ok()
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
