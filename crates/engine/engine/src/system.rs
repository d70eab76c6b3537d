//! The engine about itself: `info`, `version`, what it takes on the disk, and the stream of events.

mod info;
mod login;
mod usage;

use std::env::consts::ARCH;
use std::sync::Arc;

use async_trait::async_trait;
use havre_api_traits::{ApiError, ApiResult, EventsQuery, RegistryAuth, System, UsageQuery};
use havre_engine_types::{
    AuthResponse, ComponentVersion, DiskUsage, Event, PlatformInfo, SystemInfo, SystemVersion,
};
use havre_types::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::engine::{Engine, Shared};
use crate::events;
use crate::images::blocking;

/// The engine's own version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Clients ask for the version of the compiler by this name.
const NOT_GO: &str = "none (Rust)";

#[async_trait]
impl System for Engine {
    async fn info(&self) -> ApiResult<SystemInfo> {
        let shared = Arc::clone(&self.shared);
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        blocking(move || Ok(info::info(&shared, tasks))).await
    }

    async fn version(&self) -> ApiResult<SystemVersion> {
        let uname = rustix::system::uname();
        let kernel = uname.release().to_string_lossy().into_owned();
        let details = [
            ("Arch", go_architecture()),
            ("KernelVersion", kernel.as_str()),
            ("Os", "linux"),
            ("Experimental", "true"),
            ("GoVersion", NOT_GO),
        ];
        let engine = ComponentVersion {
            name: "Engine".to_owned(),
            version: VERSION.to_owned(),
            details: Some(
                details
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
            ),
        };
        Ok(SystemVersion {
            platform: PlatformInfo {
                name: "Havre".to_owned(),
            },
            version: VERSION.to_owned(),
            os: "linux".to_owned(),
            arch: go_architecture().to_owned(),
            components: vec![engine],
            // The docker command line offers checkpoints to such an engine only.
            experimental: true,
            kernel_version: kernel,
            go_version: NOT_GO.to_owned(),
            ..SystemVersion::default()
        })
    }

    async fn events(&self, query: EventsQuery) -> ApiResult<mpsc::Receiver<Event>> {
        if let (Some(since), Some(until)) = (query.since, query.until)
            && until < since
        {
            return Err(ApiError::invalid(
                "`since` time cannot be after `until` time",
            ));
        }
        let (sender, receiver) = mpsc::channel(64);
        let mut newest = self.shared.bus.watch();
        let seen = *newest.borrow_and_update();
        self.shared.tasks.spawn(send_events(
            Arc::clone(&self.shared),
            query,
            newest,
            seen,
            sender,
        ));
        Ok(receiver)
    }

    async fn disk_usage(&self, query: UsageQuery) -> ApiResult<DiskUsage> {
        let shared = Arc::clone(&self.shared);
        blocking(move || usage::disk_usage(&shared, query)).await
    }

    async fn login(&self, auth: RegistryAuth) -> ApiResult<AuthResponse> {
        login::login(&self.shared, auth).await
    }
}

/// Sends what happened since the moment that was asked for, then what happens, until the end.
async fn send_events(
    shared: Arc<Shared>,
    query: EventsQuery,
    mut newest: watch::Receiver<u64>,
    seen: u64,
    sender: mpsc::Sender<Event>,
) {
    // With either bound the past is asked for as well.
    let past = query.since.is_some() || query.until.is_some();
    let mut position = if past { 0 } else { seen };
    let now = Timestamp::now();
    // A moment in the past ends the stream after what is recorded; `until=0` is no bound for that.
    let end = query
        .until
        .map(|until| tokio::time::Instant::now() + until.since(now));
    let last = query.until.filter(|until| until.unix_nanos() > 0);
    loop {
        for entry in shared.bus.after(position) {
            if position != 0 && entry.sequence > position + 1 {
                let lost = entry.sequence - position - 1;
                tracing::warn!(lost, "a reader of events was too slow");
                let gap = events::missed(&shared.config.instance, lost, entry.sequence - 1);
                if sender.send(gap).await.is_err() {
                    return;
                }
            }
            position = entry.sequence;
            let at = Timestamp::from_unix_nanos(entry.event.time_nano);
            let in_time =
                query.since.is_none_or(|since| at >= since) && last.is_none_or(|until| at <= until);
            if in_time
                && events::wanted(&query.filters, &entry.event)
                && sender.send((*entry.event).clone()).await.is_err()
            {
                return;
            }
        }
        if end.is_some_and(|end| end <= tokio::time::Instant::now()) {
            return;
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = until(end) => {}
            () = sender.closed() => return,
            () = shared.stopping.cancelled() => return,
        }
    }
}

async fn until(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Go's name of the architecture, which the API uses.
fn go_architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
