//! The engine about itself: `info`, `version`, and the stream of events.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::sync::Arc;

use async_trait::async_trait;
use havre_api_traits::{ApiError, ApiResult, EventsQuery, System};
use havre_cgroup::{Host, Mode};
use havre_engine_types::{
    Commit, ComponentVersion, Event, Filters, IndexInfo, PlatformInfo, PluginsInfo, RegistryConfig,
    Runtime, SwarmInfo, SystemInfo, SystemVersion,
};
use havre_types::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::engine::{Engine, Shared};
use crate::state::Status;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Names that filters of events know.
const EVENT_FILTERS: [&str; 15] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
    "id",
];

#[async_trait]
impl System for Engine {
    async fn info(&self) -> ApiResult<SystemInfo> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || info(&shared))
            .await
            .map_err(|err| crate::error::internal("failed to collect the information", &err))
    }

    async fn version(&self) -> ApiResult<SystemVersion> {
        let uname = rustix::system::uname();
        let kernel = uname.release().to_string_lossy().into_owned();
        let details = [
            ("Arch", go_architecture()),
            ("KernelVersion", kernel.as_str()),
            ("Os", "linux"),
            ("Experimental", "false"),
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
            kernel_version: kernel,
            ..SystemVersion::default()
        })
    }

    async fn events(&self, query: EventsQuery) -> ApiResult<mpsc::Receiver<Event>> {
        query
            .filters
            .validate(&EVENT_FILTERS)
            .map_err(|err| ApiError::from_classified(&err))?;
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
}

/// Sends what happened since the moment that was asked for, then what happens, until the end.
async fn send_events(
    shared: Arc<Shared>,
    query: EventsQuery,
    mut newest: watch::Receiver<u64>,
    seen: u64,
    sender: mpsc::Sender<Event>,
) {
    let mut position = if query.since.is_some() { 0 } else { seen };
    let now = Timestamp::now();
    let end = query
        .until
        .map(|until| tokio::time::Instant::now() + until.since(now));
    loop {
        for entry in shared.bus.after(position) {
            if position != 0 && entry.sequence > position + 1 {
                tracing::warn!(
                    lost = entry.sequence - position - 1,
                    "a reader of events was too slow"
                );
            }
            position = entry.sequence;
            let at = Timestamp::from_unix_nanos(entry.event.time_nano);
            let in_time = query.since.is_none_or(|since| at >= since)
                && query.until.is_none_or(|until| at <= until);
            if in_time
                && wanted(&query.filters, &entry.event)
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

/// <https://github.com/moby/moby/blob/master/daemon/events/filter.go>
fn wanted(filters: &Filters, event: &Event) -> bool {
    let attributes = &event.actor.attributes;
    let object = |kind: &str| {
        !filters.contains(kind)
            || (event.kind == kind
                && filters.any(kind, |value| {
                    event.actor.id == value
                        || attributes.get("name").is_some_and(|name| name == value)
                        || (event.actor.id.starts_with(value) && kind == "container")
                }))
    };
    let image = || {
        filters.any("image", |value| {
            let field = if event.kind == "image" {
                "name"
            } else {
                "image"
            };
            let name = attributes.get(field).map_or("", String::as_str);
            event.actor.id == value || name == value || name.split(':').next() == Some(value)
        })
    };
    let action = event.action.as_str();
    filters.any("event", |value| {
        action == value || action.split(':').next() == Some(value)
    }) && filters.exact("type", &event.kind)
        && filters.exact("scope", &event.scope)
        && filters.labels("label", attributes)
        && object("container")
        && object("network")
        && object("volume")
        && object("daemon")
        && object("plugin")
        && image()
}

/// Go's name of the architecture, which the API uses.
fn go_architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn info(shared: &Shared) -> SystemInfo {
    let (mut running, mut paused, mut stopped) = (0, 0, 0);
    for container in shared.registry.all() {
        match container.now().state.status {
            Status::Running | Status::Restarting => running += 1,
            Status::Paused => paused += 1,
            Status::Created
            | Status::Starting
            | Status::Exited
            | Status::Removing
            | Status::Dead => {
                stopped += 1;
            }
        }
    }
    let uname = rustix::system::uname();
    let os = os_release();
    let config = &shared.config;
    let runtime = Runtime {
        path: config.shim.display().to_string(),
        ..Runtime::default()
    };
    SystemInfo {
        id: config.instance.clone(),
        containers: running + paused + stopped,
        containers_running: running,
        containers_paused: paused,
        containers_stopped: stopped,
        images: i64::try_from(shared.images.images().len()).unwrap_or(0),
        driver: shared.snapshots.driver().to_owned(),
        driver_status: vec![[
            "Root Dir".to_owned(),
            config.data_root.join("snapshots").display().to_string(),
        ]],
        plugins: plugins(),
        debug: config.debug,
        n_fd: fs_err::read_dir("/proc/self/fd")
            .map_or(0, |fds| i64::try_from(fds.count()).unwrap_or(0)),
        system_time: Timestamp::now().rfc3339(),
        logging_driver: config.log.driver.clone(),
        cgroup_driver: "cgroupfs".to_owned(),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        operating_system: field(&os, "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        os_version: field(&os, "VERSION_ID").unwrap_or_default(),
        os_type: "linux".to_owned(),
        architecture: ARCH.to_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: Some(registries(shared)),
        ncpu: i64::try_from(shared.facts.cpus).unwrap_or(0),
        mem_total: i64::try_from(shared.facts.memory).unwrap_or(0),
        docker_root_dir: config.data_root.display().to_string(),
        name: shared.facts.hostname.clone(),
        labels: config.labels.clone(),
        server_version: VERSION.to_owned(),
        runtimes: [("havre".to_owned(), runtime)].into(),
        default_runtime: "havre".to_owned(),
        swarm: SwarmInfo {
            local_node_state: "inactive".to_owned(),
            ..SwarmInfo::default()
        },
        live_restore_enabled: true,
        containerd_commit: Commit::default(),
        security_options: vec![
            "name=seccomp,profile=builtin".to_owned(),
            "name=cgroupns".to_owned(),
        ],
        ipv4_forwarding: fs_err::read_to_string("/proc/sys/net/ipv4/ip_forward")
            .is_ok_and(|t| t.trim() == "1"),
        warnings: missing(),
        ..cgroup_info()
    }
}

fn plugins() -> PluginsInfo {
    PluginsInfo {
        volume: Vec::new(),
        network: vec!["host".to_owned(), "none".to_owned()],
        authorization: None,
        log: havre_logs::options::DRIVERS.map(str::to_owned).to_vec(),
    }
}

/// What of the kernel is not there is named, never silently missing.
fn missing() -> Vec<String> {
    let mut warnings = Vec::new();
    if !std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        warnings.push("AppArmor is not available on this host".to_owned());
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        warnings.push("SELinux is not available on this host".to_owned());
    }
    warnings
}

fn cgroup_info() -> SystemInfo {
    let version = match Host::detect() {
        Ok(host) if host.mode() == Mode::V2 => "2",
        Ok(_) => "1",
        Err(_) => "",
    };
    let available = !version.is_empty();
    SystemInfo {
        cgroup_version: version.to_owned(),
        memory_limit: available,
        swap_limit: available,
        cpu_cfs_period: available,
        cpu_cfs_quota: available,
        cpu_shares: available,
        cpu_set: available,
        pids_limit: available,
        oom_kill_disable: version == "1",
        ..SystemInfo::default()
    }
}

fn registries(shared: &Shared) -> RegistryConfig {
    let config = &shared.config;
    let mirrors = config.registry_mirrors.clone();
    let hub = IndexInfo {
        name: "docker.io".to_owned(),
        mirrors: mirrors.clone(),
        secure: true,
        official: true,
    };
    let mut index_configs: BTreeMap<String, IndexInfo> = [("docker.io".to_owned(), hub)].into();
    let (cidrs, hosts): (Vec<String>, Vec<String>) = config
        .insecure_registries
        .iter()
        .cloned()
        .partition(|entry| entry.contains('/'));
    for host in hosts {
        let info = IndexInfo {
            name: host.clone(),
            ..IndexInfo::default()
        };
        index_configs.insert(host, info);
    }
    let mut insecure = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    insecure.extend(cidrs);
    RegistryConfig {
        insecure_registry_cidrs: insecure,
        index_configs,
        mirrors: Some(mirrors),
    }
}

fn os_release() -> String {
    fs_err::read_to_string("/etc/os-release").unwrap_or_default()
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim_matches('"').to_owned())
}
