//! `/containers/{id}/exec` and `/exec/…`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use havre_api_traits::{
    ApiError, AttachSession, ExecStart, Output, OutputStream, StdinEof, TerminalSize,
};
use havre_engine_types::{ExecCreateRequest, ExecStartRequest, IdResponse};
use hyper::StatusCode;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::containers::size;
use super::output::take_over;
use crate::call::Call;
use crate::detach::Detach;
use crate::hijack::{Attached, Framing, Takeover};
use crate::reply::{self, Reply};

pub(super) async fn create(mut call: Call) -> Reply {
    let mut request = call.json::<ExecCreateRequest>().await?.unwrap_or_default();
    if request.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::invalid("No exec command specified"));
    }
    Detach::parse(&request.detach_keys)?;
    if call.version.before(42) {
        request.console_size = None;
    }
    let (execs, container) = (Arc::clone(&call.api().execs), call.name.clone());
    let id = call
        .finish(async move { execs.create(&container, request).await })
        .await?;
    reply::json(StatusCode::CREATED, &IdResponse { id: id.to_string() })
}

pub(super) async fn start(mut call: Call) -> Reply {
    let request = call.json::<ExecStartRequest>().await?.unwrap_or_default();
    let size = request
        .console_size
        .filter(|_| request.tty && !call.version.before(42));
    let [height, width] = size.unwrap_or_default();
    let cut = |cells| u16::try_from(cells).unwrap_or(u16::MAX);
    let start = ExecStart {
        tty: request.tty,
        size: size.map(|_| TerminalSize {
            height: cut(height),
            width: cut(width),
        }),
    };
    check_container(&call).await?;
    if request.detach {
        let (execs, id) = (Arc::clone(&call.api().execs), call.name.clone());
        call.finish(async move { execs.start_detached(&id, start).await })
            .await?;
        return reply::status(StatusCode::OK);
    }
    let (execs, id) = (Arc::clone(&call.api().execs), call.name.clone());
    let scope = call.scope().clone();
    let session = async move {
        let work = async move { execs.start_attached(&id, start).await };
        let started = scope.finish(work).await;
        let failed = || Err(ApiError::internal("the request handler failed"));
        let session = started.unwrap_or_else(failed);
        attached(session.unwrap_or_else(|failure| message_session(&failure, request.tty)))
    };
    let (execs, id) = (Arc::clone(&call.api().execs), call.name.clone());
    let takeover = Takeover {
        // Docker frames by what the start request says, not by what the process has.
        framing: if request.tty {
            Framing::Raw
        } else {
            Framing::Multiplexed
        },
        session: Box::pin(session),
        on_detach: Box::pin(async move { execs.detached(&id).await }),
    };
    Ok(take_over(call, takeover))
}

/// What can be answered with a status: once the connection is taken over, errors are text in the stream.
async fn check_container(call: &Call) -> Result<(), ApiError> {
    let exec = call.api().execs.inspect(&call.name).await?;
    let id = exec.container_id;
    let state = call.api().containers.inspect(&id, false).await?.state;
    let conflict = |text: &str| Err(ApiError::conflict(format!("container {id} is {text}")));
    if state.restarting {
        return conflict("restarting, wait until the container is running");
    }
    if !state.running {
        return conflict("not running");
    }
    if state.paused {
        return conflict("paused, unpause the container before exec");
    }
    Ok(())
}

fn attached(session: AttachSession) -> Attached {
    let keys = session.detach_keys.as_deref().unwrap_or("");
    let detach = match Detach::parse(keys) {
        Ok(detach) => Some(detach),
        Err(error) => {
            debug!(%error, "the keys were not checked at creation");
            None
        }
    };
    Attached {
        detach: detach.filter(|_| session.tty),
        session,
    }
}

/// A session that consists of the reason why the process did not start.
fn message_session(failure: &ApiError, tty: bool) -> AttachSession {
    let (sender, output) = mpsc::channel(1);
    let data = Bytes::from(format!("{}\r\n", failure.message));
    if sender
        .try_send(Output {
            stream: OutputStream::Stdout,
            data,
        })
        .is_err()
    {
        warn!("a message was lost");
    }
    AttachSession {
        output,
        input: None,
        stdin_eof: StdinEof::Detach,
        tty,
        detach_keys: None,
    }
}

pub(super) async fn resize(call: &Call) -> Reply {
    let size = size(call)?;
    call.api().execs.resize(&call.name, size).await?;
    reply::status(StatusCode::OK)
}

pub(super) async fn inspect(call: &Call) -> Reply {
    let mut exec = call.api().execs.inspect(&call.name).await?;
    // Docker shows the bytes of the keys; none when none were asked for.
    if !exec.detach_keys.is_empty() {
        exec.detach_keys = STANDARD.encode(Detach::parse(&exec.detach_keys)?.keys());
    }
    reply::json(StatusCode::OK, &exec)
}
