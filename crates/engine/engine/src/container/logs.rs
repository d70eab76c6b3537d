//! Reading a container's log: what is there, then what comes, until the container has ended.

use std::sync::Arc;

use bytes::Bytes;
use havre_api_traits::{
    ApiError, ApiResult, LogEntry, LogOptions, LogSession, Output, OutputStream,
};
use havre_engine_types::LogConfig;
use havre_logs::options::{Driver, OptionMap};
use havre_logs::{Entry, Format, ReadOptions, Reader, Stream};
use havre_types::Timestamp;
use rustix::fd::OwnedFd;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::record::Fixed;
use super::registry::Container;
use crate::engine::Shared;
use crate::error::{classified, internal};
use crate::images::blocking;
use crate::plan::log;
use crate::state::Status;

/// Entries read at once, and in flight to one client.
const BATCH: usize = 256;

/// Opens the log. Reading goes on in a task that ends with the client.
pub(super) async fn open(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    options: LogOptions,
) -> ApiResult<LogSession> {
    let fixed = &*container.fixed();
    let log = &fixed.host_config.log_config;
    let none = OptionMap::new();
    let settings = havre_logs::options::check(&log.kind, log.config.as_ref().unwrap_or(&none));
    if settings.is_ok_and(|settings| settings.files.is_none()) {
        return Err(ApiError::not_implemented(
            "configured logging driver does not support reading",
        ));
    }
    let read = ReadOptions {
        tail: options.tail,
        since: options.since,
        until: options.until,
        follow: options.follow,
        format: match log.kind.as_str() {
            "json-file" => Format::Json,
            // The local driver's own files, and the copy that other drivers have.
            _ => Format::Local,
        },
    };
    let path = shared.places.log(&fixed.id, &log.kind);
    // Finding the last lines of a long log takes time.
    let reader = blocking(move || {
        Reader::open(&path, read).map_err(|err| classified("failed to read the log", &err))
    });
    let reader = reader.await?;
    let (sender, entries) = mpsc::channel(BATCH);
    let following = Following {
        container: Arc::clone(container),
        stopping: shared.stopping.clone(),
        sender,
        options,
    };
    shared.tasks.spawn(async move {
        if let Err(err) = following.run(reader).await {
            // A client that has left does not read the error either.
            following.sender.send(Err(err)).await.ok();
        }
    });
    Ok(LogSession {
        tty: fixed.config.tty,
        entries,
    })
}

/// The helper program stands beside the shim.
const HELPER: &str = "havre-log";

/// Checks what a new container asks for.
pub(super) async fn check(config: &LogConfig, subject: log::Subject<'_>) -> ApiResult<()> {
    let settings = log::check(config, subject)?;
    let Driver::Syslog(syslog) = settings.driver else {
        return Ok(());
    };
    let Some(socket) = syslog.target.socket().map(ToOwned::to_owned) else {
        return Ok(());
    };
    let missing = ApiError::invalid(format!(
        "stat {}: no such file or directory",
        socket.display()
    ));
    // A file system that hangs holds up nobody else.
    let exists = blocking(move || Ok(socket.exists())).await?;
    if exists { Ok(()) } else { Err(missing) }
}

/// What the shim is told about the container's log.
pub(super) fn for_shim(shared: &Shared, fixed: &Fixed) -> ApiResult<havre_shim_proto::LogOptions> {
    let subject = log::Subject {
        id: &fixed.id,
        name: &fixed.name,
        created: fixed.created,
        image: fixed.image.as_str(),
        config: &fixed.config,
        hostname: &shared.facts.hostname,
    };
    let data = shared.places.data(&fixed.id);
    let helper = shared.config.shim.with_file_name(HELPER);
    let config = &fixed.host_config.log_config;
    log::for_shim(config, &shared.config.log, subject, (&data, &helper))
}

/// Sends a log as output, before an attached client sees what comes.
pub(super) async fn replay(
    mut entries: mpsc::Receiver<ApiResult<LogEntry>>,
    output: &mpsc::Sender<Output>,
) {
    while let Some(Ok(entry)) = entries.recv().await {
        if output
            .send(Output {
                stream: entry.stream,
                data: entry.line,
            })
            .await
            .is_err()
        {
            return;
        }
    }
}

struct Following {
    container: Arc<Container>,
    stopping: tokio_util::sync::CancellationToken,
    sender: mpsc::Sender<ApiResult<LogEntry>>,
    options: LogOptions,
}

impl Following {
    async fn run(&self, mut reader: Reader) -> ApiResult<()> {
        let wake = wake_fd(&reader)?;
        let mut view = self.container.view.clone();
        loop {
            // Seen before reading: what an ended container wrote is all there when it is read.
            let over = !self.options.follow || ended(view.borrow_and_update().state.status);
            let drained;
            (reader, drained) = self.drain(reader).await?;
            if drained.gone || reader.is_finished() || over {
                return Ok(());
            }
            let Some(wake) = &wake else { return Ok(()) };
            tokio::select! {
                ready = wake.readable() => {
                    let mut ready = ready.map_err(|err| internal("failed to follow the log", &err))?;
                    ready.clear_ready();
                }
                changed = view.changed() => if changed.is_err() { self.drain(reader).await?; return Ok(()) },
                () = past(self.options.until) => return Ok(()),
                () = self.sender.closed() => return Ok(()),
                () = self.stopping.cancelled() => return Ok(()),
            }
        }
    }

    /// Sends all that can be read now.
    async fn drain(&self, mut reader: Reader) -> ApiResult<(Reader, Drained)> {
        loop {
            let read = tokio::task::spawn_blocking(move || read_batch(reader)).await;
            let entries;
            (reader, entries) = read.map_err(|err| internal("failed to read the log", &err))??;
            let full = entries.len() == BATCH;
            for entry in entries {
                let wanted = match entry.stream {
                    Stream::Stdout => self.options.stdout,
                    Stream::Stderr => self.options.stderr,
                };
                if wanted && self.sender.send(Ok(convert(entry))).await.is_err() {
                    return Ok((reader, Drained { gone: true }));
                }
            }
            if !full {
                return Ok((reader, Drained { gone: false }));
            }
        }
    }
}

struct Drained {
    gone: bool,
}

fn ended(status: Status) -> bool {
    !status.has_process() && status != Status::Restarting
}

fn read_batch(mut reader: Reader) -> ApiResult<(Reader, Vec<Entry>)> {
    let mut entries = Vec::new();
    while entries.len() < BATCH {
        match reader
            .next_entry()
            .map_err(|err| classified("failed to read the log", &err))?
        {
            Some(entry) => entries.push(entry),
            None => break,
        }
    }
    Ok((reader, entries))
}

fn wake_fd(reader: &Reader) -> ApiResult<Option<AsyncFd<OwnedFd>>> {
    let Some(fd) = reader.wake_fd() else {
        return Ok(None);
    };
    let owned = fd.try_clone_to_owned().and_then(crate::shim::readiness);
    owned
        .map(Some)
        .map_err(|err| internal("failed to follow the log", &err))
}

async fn past(until: Option<Timestamp>) {
    let Some(until) = until else {
        return std::future::pending().await;
    };
    let due = tokio::time::Instant::now() + until.since(Timestamp::now());
    tokio::time::sleep_until(due).await;
}

fn convert(entry: Entry) -> LogEntry {
    LogEntry {
        stream: match entry.stream {
            Stream::Stdout => OutputStream::Stdout,
            Stream::Stderr => OutputStream::Stderr,
        },
        timestamp: entry.timestamp,
        line: Bytes::from(entry.bytes),
        attrs: entry.attrs.into_iter().collect(),
    }
}
