//! The engine as a whole: what it opens, what its parts share, how it stops.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use havre_content::{ContentError, ContentStore};
use havre_engine_types::{Actor, Event};
use havre_image::{ImageStore, StoreError};
use havre_meta::{Batch, Meta};
use havre_network::PlaneOptions;
use havre_registry_client::{ConfigError, Puller};
use havre_snapshot::{CopyDriver, OverlayDriver, SnapshotError, Snapshotter};
use havre_types::{Classify, ErrorKind, Timestamp};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::container::{Places, Registry};
use crate::events::Bus;
use crate::network::{self, Names, NetworkDefaults, Networks, Relaying};
use crate::plan::log::LogDefaults;
use crate::plan::{Filters, HostFacts, InitFacts};
use crate::runtimes::Runtimes;
use crate::shim::Launcher;
use crate::{exec, host, restore};

/// How long work may take to end when the engine stops.
const LAST_WORK: Duration = Duration::from_secs(10);

/// How long an event waits for a record to be written with.
const EVENTS_WAIT: Duration = Duration::from_millis(300);

/// How an engine is set up. Every name on the disk and in the kernel derives from it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Images, records, logs: survives a reboot.
    pub data_root: PathBuf,
    /// Sockets and bundles of running containers.
    pub exec_root: PathBuf,
    /// Tells this engine from others on the host.
    pub instance: String,
    /// The shim's program.
    pub shim: PathBuf,
    /// Containers that do not say get an init process.
    pub init: bool,
    /// The init process's program.
    pub init_path: PathBuf,
    /// CRIU, for checkpoints; without it the shim looks in the usual places.
    pub criu: Option<PathBuf>,
    /// Registries that may be spoken to without TLS: `host[:port]` or CIDR.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Labels of the engine, `key=value`.
    pub labels: Vec<String>,
    pub debug: bool,
    /// Directories with descriptions of devices (CDI); a later one counts before an earlier one.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// The runtimes that containers can ask for.
    pub runtimes: Runtimes,
    /// Logs of containers that say nothing else.
    pub log: LogDefaults,
    /// Networks.
    pub network: NetworkDefaults,
    /// The program that answers for the names of containers and outlives the engine.
    pub net_companion: PathBuf,
}

/// Why an engine cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("failed to make the directory `{path}`")]
    Directory {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("failed to open the metadata")]
    Meta { source: havre_meta::OpenError },
    #[error("failed to read the metadata")]
    Read { source: havre_meta::ReadError },
    #[error("failed to open the content store")]
    Content { source: ContentError },
    #[error("failed to open the snapshots")]
    Snapshots { source: SnapshotError },
    #[error("failed to open the images")]
    Images { source: StoreError },
    #[error("failed to copy the shim `{path}`")]
    Shim {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("failed to set up the registry client")]
    Registry { source: ConfigError },
    #[error("failed to set up networks: {reason}")]
    Networks { reason: String },
    #[error("failed to record the networks")]
    Write { source: havre_meta::WriteError },
}

impl Classify for OpenError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Content { source } => source.kind(),
            Self::Snapshots { source } => source.kind(),
            Self::Images { source } => source.kind(),
            Self::Directory { .. }
            | Self::Meta { .. }
            | Self::Read { .. }
            | Self::Shim { .. }
            | Self::Registry { .. }
            | Self::Networks { .. }
            | Self::Write { .. } => ErrorKind::Internal,
        }
    }
}

/// The engine. Clones of the `Arc` that [`Engine::open`] returns share it.
#[derive(Debug)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

/// What the parts of the engine have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: Config,
    pub meta: Meta,
    pub snapshots: Arc<dyn Snapshotter>,
    pub images: Arc<ImageStore>,
    pub puller: Puller,
    pub launcher: Arc<Launcher>,
    pub facts: HostFacts,
    pub filters: Filters,
    pub places: Places,
    pub registry: Registry,
    pub execs: exec::Store,
    pub networks: Networks,
    pub names: Names,
    pub bus: Bus,
    pub health: crate::health::Limits,
    /// Owns every task of the engine.
    pub tasks: TaskTracker,
    pub stopping: CancellationToken,
}

impl Engine {
    /// Opens the stores, finds every container of former runs again, sweeps what crashes left.
    ///
    /// The caller holds the lock on the data root.
    pub async fn open(config: Config) -> Result<Arc<Self>, OpenError> {
        let (shared, first) = open_shared(config)?;
        let written = shared.meta.write(first).await;
        written.map_err(|source| OpenError::Write { source })?;
        restore::restore(&shared).await?;
        shared.tasks.spawn(save_events(Arc::clone(&shared)));
        Ok(Arc::new(Self { shared }))
    }

    /// Ends the engine's own work. Containers go on; the next engine finds them.
    pub async fn shutdown(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        // An upload that hangs must not hang the end.
        if tokio::time::timeout(LAST_WORK, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("work is cut off at the end");
        }
        self.shared.bus.flush(&self.shared.meta).await;
        let all = self.shared.registry.all();
        if all.iter().all(|container| container.now().shim.is_none()) {
            let shared = Arc::clone(&self.shared);
            // Nothing depends on it: an empty directory would stay.
            tokio::task::spawn_blocking(move || {
                restore::remove_parent(&shared);
                if let Err(error) = shared.networks.close() {
                    tracing::warn!(error = error.message, "interfaces of networks are left");
                }
            })
            .await
            .ok();
        }
    }
}

/// Opens everything. The batch is to be written: what the engine decided at its first start.
fn make_directories(config: &Config, places: &Places) -> Result<(), OpenError> {
    for path in [
        config.data_root.clone(),
        config.exec_root.clone(),
        places.all_data(),
        places.all_bundles(),
        config.data_root.join("content"),
        config.data_root.join("events"),
        config.data_root.join("snapshots"),
    ] {
        host::make_private_dir(&path).map_err(|source| OpenError::Directory {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

fn open_shared(config: Config) -> Result<(Arc<Shared>, Batch), OpenError> {
    let places = Places {
        data_root: config.data_root.clone(),
        exec_root: config.exec_root.clone(),
    };
    let snapshot_root = config.data_root.join("snapshots");
    make_directories(&config, &places)?;
    let meta = Meta::open(&config.data_root.join("meta.db"))
        .map_err(|source| OpenError::Meta { source })?;
    for damaged in meta.quarantined() {
        tracing::error!(
            kind = damaged.kind,
            id = damaged.id,
            reason = damaged.reason,
            "a record is damaged and set aside"
        );
    }
    let content = ContentStore::open(&config.data_root.join("content"))
        .map_err(|source| OpenError::Content { source })?;
    let failed = |source| OpenError::Snapshots { source };
    let snapshots: Arc<dyn Snapshotter> = if OverlayDriver::is_supported(&snapshot_root) {
        Arc::new(OverlayDriver::open(&snapshot_root, &meta).map_err(failed)?)
    } else {
        tracing::warn!("overlayfs cannot be mounted here: layers are copied");
        Arc::new(CopyDriver::open(&snapshot_root, &meta).map_err(failed)?)
    };
    let images = ImageStore::open(content, meta.clone(), Arc::clone(&snapshots))
        .map_err(|source| OpenError::Images { source })?;
    let images = Arc::new(images);
    let puller = crate::images::puller(&config, &images)?;
    let launcher = Launcher::open(&config.shim).map_err(|source| OpenError::Shim {
        path: config.shim.clone(),
        source,
    })?;
    let events = config.data_root.join("events");
    let bus = Bus::open(&meta, &events).map_err(|source| OpenError::Read { source })?;
    let (networks, first) = network::open(
        &meta,
        &config.network,
        &config.instance,
        Some(plane_options(&config)),
    )?;
    let names = Names::new(
        config.net_companion.clone(),
        config.exec_root.clone(),
        Relaying {
            on: config.network.userland_proxy,
            ipv4: !config.network.iptables,
        },
    );
    let init = InitFacts {
        by_default: config.init,
        program: config.init_path.clone(),
    };
    let facts = host::facts(format!("havre-{}", config.instance), init);
    let shared = Arc::new(Shared {
        config,
        meta,
        snapshots,
        images,
        puller,
        launcher: Arc::new(launcher),
        facts,
        filters: Filters::default(),
        places,
        registry: Registry::default(),
        execs: exec::Store::default(),
        networks,
        names,
        bus,
        health: crate::health::Limits::default(),
        tasks: TaskTracker::new(),
        stopping: CancellationToken::new(),
    });
    Ok((shared, first))
}

fn plane_options(config: &Config) -> PlaneOptions {
    let mut options = PlaneOptions::new(&config.instance, config.exec_root.join("network"));
    options.ip_forward = config.network.ip_forward;
    options.guard_forwarding = !config.network.ip_forward_no_drop;
    options.rules_ipv4 = config.network.iptables;
    options.rules_ipv6 = config.network.ip6tables;
    options.allow_direct_routing = config.network.allow_direct_routing;
    options
}

/// Writes events that no record carried along, a few at a time.
async fn save_events(shared: Arc<Shared>) {
    let mut newest = shared.bus.watch();
    loop {
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = shared.stopping.cancelled() => return,
        }
        tokio::time::sleep_until(tokio::time::Instant::now() + EVENTS_WAIT).await;
        newest.borrow_and_update();
        shared.bus.flush(&shared.meta).await;
    }
}

impl Shared {
    /// Publishes an event about a container.
    pub(crate) fn announce(
        &self,
        fixed: &crate::container::Fixed,
        action: &str,
        attributes: &[(&str, &str)],
    ) {
        self.bus.publish(container_event(fixed, action, attributes));
    }

    /// Publishes that everything unused of a kind has been removed.
    pub(crate) fn announce_prune(&self, kind: &str, reclaimed: u64) {
        let actor = Actor {
            id: String::new(),
            attributes: [("reclaimed".to_owned(), reclaimed.to_string())].into(),
        };
        self.bus.publish(event(kind, "prune", actor, String::new()));
    }

    /// Publishes an event about an image: with its labels, while it is there.
    pub(crate) fn announce_image(&self, action: &str, id: &str, name: &str) {
        let image = self.images.resolve(id).ok();
        let mut attributes = image
            .and_then(|image| image.config.config.labels.clone())
            .unwrap_or_default();
        attributes.insert("name".to_owned(), name.to_owned());
        let actor = Actor {
            id: id.to_owned(),
            attributes,
        };
        self.bus
            .publish(event("image", action, actor, String::new()));
    }
}

/// Docker's attributes of a container's event: its labels, image and name, then those of the action.
pub(crate) fn container_event(
    fixed: &crate::container::Fixed,
    action: &str,
    attributes: &[(&str, &str)],
) -> Event {
    let mut all = fixed.config.labels.clone().unwrap_or_default();
    all.insert("image".to_owned(), fixed.config.image.clone());
    all.insert("name".to_owned(), fixed.name.clone());
    for (key, value) in attributes {
        all.insert((*key).to_owned(), (*value).to_owned());
    }
    let actor = Actor {
        id: fixed.id.to_string(),
        attributes: all,
    };
    event("container", action, actor, fixed.config.image.clone())
}

pub(crate) fn event(kind: &str, action: &str, actor: Actor, from: String) -> Event {
    let now = Timestamp::now();
    Event {
        status: action.to_owned(),
        id: actor.id.clone(),
        from,
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor,
        scope: "local".to_owned(),
        time: now.secs,
        time_nano: now.unix_nanos(),
    }
}
