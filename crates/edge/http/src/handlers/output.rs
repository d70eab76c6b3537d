//! A container's output: the log, and attached clients.

use std::future::ready as ready_now;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::poll_fn;
use havre_api_traits::{ApiError, AttachOptions, LogEntry, LogOptions};
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::{Response, StatusCode};

use super::system::moment;
use crate::body::Body;
use crate::call::Call;
use crate::detach::Detach;
use crate::hijack::{self, Attached, Framing, Takeover};
use crate::reply::{self, RAW_STREAM, Reply};
use crate::stdcopy;
use crate::websocket;

/// How a line of the log is written.
#[derive(Debug, Clone, Copy)]
struct LineFormat {
    framing: Framing,
    timestamps: bool,
    details: bool,
}

pub(super) async fn logs(call: &Call) -> Reply {
    let query = &call.query;
    let options = LogOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        since: moment(call, "since", '"')?,
        until: moment(call, "until", '"')?,
        // Docker takes everything that is no count for "all".
        tail: query.get("tail").parse().ok(),
    };
    if !options.stdout && !options.stderr {
        return Err(ApiError::invalid(
            "must specify at least one of 'stdout' or 'stderr'",
        ));
    }
    let session = call.api().containers.logs(&call.name, options).await?;
    let framing = if session.tty {
        Framing::Raw
    } else {
        Framing::Multiplexed
    };
    let format = LineFormat {
        framing,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
    };
    let content_type = hijack::content_type(framing, call.version);
    let mut entries = session.entries;
    let lines = poll_fn(move |cx| {
        let entry = ready!(entries.poll_recv(cx));
        Poll::Ready(entry.map(|entry| log_line(entry, format)))
    });
    Ok(reply::stream(content_type, lines))
}

fn log_line(entry: Result<LogEntry, ApiError>, format: LineFormat) -> Bytes {
    let (stream, line) = match entry {
        Ok(entry) => (stdcopy::number(entry.stream), text_of(&entry, format)),
        Err(failure) => {
            let text = format!("Error grabbing logs: {failure}\n");
            (stdcopy::SYSTEM_ERROR, Bytes::from(text))
        }
    };
    match format.framing {
        Framing::Raw => line,
        Framing::Multiplexed => stdcopy::frame(stream, &line),
    }
}

fn text_of(entry: &LogEntry, format: LineFormat) -> Bytes {
    if !format.timestamps && !format.details {
        return entry.line.clone();
    }
    let mut out = BytesMut::with_capacity(entry.line.len() + 64);
    if format.timestamps {
        out.put_slice(entry.timestamp.rfc3339_fixed().as_bytes());
        out.put_u8(b' ');
    }
    if format.details {
        let mut attrs: Vec<_> = entry.attrs.iter().collect();
        attrs.sort();
        let pairs: Vec<String> = attrs
            .iter()
            .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
            .collect();
        out.put_slice(pairs.join(",").as_bytes());
        out.put_u8(b' ');
    }
    out.put_slice(&entry.line);
    out.freeze()
}

/// Go's `url.QueryEscape`.
fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => write!(out, "%{other:02X}").expect("writing to a string cannot fail"),
        }
    }
    out
}

pub(super) async fn attach(call: Call) -> Reply {
    let query = &call.query;
    let options = AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
    };
    match attach_session(&call, options).await {
        Ok(takeover) => Ok(take_over(call, takeover)),
        // dockerd reports these as plain text: it has taken the connection over already.
        Err(failure) => {
            let status = StatusCode::from_u16(failure.kind.http_status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let text = format!("{}\r\n", failure.message);
            Ok(reply::with_type(status, RAW_STREAM, Body::whole(text)))
        }
    }
}

async fn attach_session(call: &Call, options: AttachOptions) -> Result<Takeover, ApiError> {
    let detach = Detach::parse(call.query.get("detachKeys"))?;
    let session = call.api().containers.attach(&call.name, options).await?;
    let (containers, id) = (Arc::clone(&call.api().containers), call.name.clone());
    Ok(Takeover {
        framing: if session.tty {
            Framing::Raw
        } else {
            Framing::Multiplexed
        },
        session: Box::pin(ready_now(Attached {
            detach: session.tty.then_some(detach),
            session,
        })),
        on_detach: Box::pin(async move { containers.detached(&id).await }),
    })
}

/// Answers hyper with an upgrade that the client never sees, and serves the session on the connection.
pub(super) fn take_over(call: Call, takeover: Takeover) -> Response<Body> {
    let content_type = hijack::content_type(takeover.framing, call.version);
    let head = hijack::head(call.shared.is_legacy(), content_type);
    call.shared.silence();
    call.context
        .scope
        .spawn(hijack::run(call.upgrade, head, takeover));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static("tcp"));
    response
}

pub(super) async fn attach_ws(call: Call) -> Reply {
    let query = &call.query;
    // Before 1.42 the parameters were ignored and every stream was attached to.
    let old = call.version.before(42);
    let options = AttachOptions {
        stdin: old || query.flag("stdin"),
        stdout: old || query.flag("stdout"),
        stderr: old || query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
    };
    let takeover = attach_session(&call, options).await?;
    let handshake = websocket::handshake(&call.method, &call.headers)?;
    // Text frames, which the bytes of a process are not, were a mistake of before 1.28.
    let binary = !call.version.before(28);
    let scope = call.scope().clone();
    scope.spawn(websocket::run(call.upgrade, binary, takeover));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&handshake.accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = handshake.protocol
        && let Ok(protocol) = HeaderValue::from_str(&protocol)
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use havre_api_traits::OutputStream;
    use havre_types::Timestamp;

    use super::*;

    fn entry() -> LogEntry {
        LogEntry {
            stream: OutputStream::Stderr,
            timestamp: Timestamp { secs: 1, nanos: 5 },
            line: Bytes::from_static(b"hi\n"),
            attrs: vec![
                ("b".to_owned(), "x y".to_owned()),
                ("a".to_owned(), "ä=".to_owned()),
            ],
        }
    }

    #[test]
    fn lines_are_written_as_docker_writes_them() {
        let line = |framing, timestamps, details| {
            log_line(
                Ok(entry()),
                LineFormat {
                    framing,
                    timestamps,
                    details,
                },
            )
        };
        assert_eq!(&line(Framing::Raw, false, false)[..], b"hi\n");
        assert_eq!(
            &line(Framing::Multiplexed, false, false)[..],
            b"\x02\0\0\0\0\0\0\x03hi\n"
        );
        assert_eq!(
            &line(Framing::Raw, true, false)[..],
            b"1970-01-01T00:00:01.000000005Z hi\n"
        );
        assert_eq!(
            &line(Framing::Raw, true, true)[..],
            b"1970-01-01T00:00:01.000000005Z a=%C3%A4%3D,b=x+y hi\n"
        );
    }

    #[test]
    fn errors_come_in_the_stream() {
        let format = LineFormat {
            framing: Framing::Multiplexed,
            timestamps: true,
            details: false,
        };
        let line = log_line(Err(ApiError::internal("gone")), format);
        assert_eq!(
            &line[..],
            b"\x03\0\0\0\0\0\0\x1aError grabbing logs: gone\n"
        );
    }
}
