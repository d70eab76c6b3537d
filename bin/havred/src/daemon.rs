//! The engine's process from start to end: claim the directories, listen, open the engine, serve, stop.
//! Containers are not touched at the end: their shims keep them, and the next engine finds them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use havre_api_traits::Api;
use havre_engine::{Config, Engine};
use havre_http::{Listener, Server};
use havre_sys::prctl::set_oom_score_adj;
use rustix::fs::Mode;
use rustix::process::{Resource, geteuid, getrlimit, setrlimit, umask};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::claim::Claim;
use crate::config::Settings;
use crate::logging::Level;
use crate::{VERSION, flags};

/// The group of unix sockets when none is asked for.
const DEFAULT_GROUP: &str = "docker";
/// How much less likely the kernel ends the engine than others when memory runs out.
const OOM_SCORE: i32 = -500;
/// The shim's name beside this program.
const SHIM: &str = "containerd-shim-havre-v2";
/// The network companion's.
const NET: &str = "havre-net";
/// What makes checkpoints.
const CRIU: &str = "criu";
/// The name of the containers' init program.
const INIT: &str = "havre-init";
/// How long the engine's own work may take to end. It ends by what clients see as an error, never by
/// losing something that was acknowledged.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Runs the engine until a signal ends it.
pub(crate) async fn run(settings: Settings, level: Level) -> anyhow::Result<()> {
    info!("Starting up");
    if !geteuid().is_root() {
        bail!("havred needs to be started with root privileges");
    }
    let shim = find_shim(settings.shim.clone())?;
    umask(Mode::from_raw_mode(0o022));
    let claim = Claim::take(&settings.data_root, &settings.exec_root, &settings.pidfile)?;
    raise_file_limit();
    survive_shortage();
    let mut signals = Signals::new()?;
    // Sockets are born closed to others; nothing else makes files at the same time.
    umask(Mode::from_raw_mode(0o077));
    let listeners = listen(&settings).await;
    umask(Mode::from_raw_mode(0o022));
    let listeners = listeners.context("failed to load listeners")?;

    let engine = Engine::open(engine_config(&settings, shim))
        .await
        .context("failed to start daemon")?;
    info!("Daemon has completed initialization");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(
        Server::new(Api::new(std::sync::Arc::clone(&engine)), VERSION)
            .serve(listeners, stop.clone()),
    );
    signals.until_stop(&settings, &level).await;
    info!("Processing signal 'terminated'");
    stop.cancel();
    let shutdown = async {
        if let Err(failure) = serving.await {
            error!(%failure, "the API server failed");
        }
        engine.shutdown().await;
    };
    tokio::select! {
        ended = timeout(SHUTDOWN, shutdown) => {
            if ended.is_err() {
                warn!("some work did not end in time");
            }
        }
        () = signals.until_stop(&settings, &level) => warn!("a second signal cut the shutdown short"),
    }
    drop(claim);
    info!("Daemon shutdown complete");
    Ok(())
}

/// Docker's unit file has `OOMScoreAdjust=-500`; here no unit file is needed for it. The shims inherit
/// it, containers get a value of their own. What the administrator has set stays.
fn survive_shortage() {
    let adjusted = fs_err::read_to_string("/proc/self/oom_score_adj");
    if adjusted.is_ok_and(|value| value.trim() == "0")
        && let Err(failure) = set_oom_score_adj(OOM_SCORE)
    {
        warn!(%failure, "the engine is not spared when memory runs out");
    }
}

fn engine_config(settings: &Settings, shim: PathBuf) -> Config {
    Config {
        init: settings.init,
        init_path: settings.init_path.clone().unwrap_or_else(|| beside(INIT)),
        data_root: settings.data_root.clone(),
        exec_root: settings.exec_root.clone(),
        instance: settings.instance(),
        shim,
        net_companion: beside(NET),
        insecure_registries: settings.insecure_registries.clone(),
        registry_mirrors: settings.registry_mirrors.clone(),
        labels: settings.labels.clone(),
        log: settings.container_logs.clone(),
        network: settings.network.clone(),
        cdi_spec_dirs: settings.cdi_spec_dirs.clone(),
        runtimes: settings.runtimes.clone(),
        criu: settings.criu.clone().or_else(|| in_path(CRIU)),
        debug: settings.log_level == crate::config::LogLevel::Debug,
    }
}

async fn listen(settings: &Settings) -> anyhow::Result<Vec<Listener>> {
    let group = socket_group(settings.group.as_deref())?;
    let mut listeners = Vec::new();
    for host in &settings.hosts {
        listeners.push(Listener::bind(host, group).await?);
    }
    Ok(listeners)
}

/// The number of the group, from the host's own list: the name service is no part of a static program.
fn socket_group(wanted: Option<&str>) -> anyhow::Result<Option<u32>> {
    let name = wanted.unwrap_or(DEFAULT_GROUP);
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let groups = fs_err::read_to_string("/etc/group").unwrap_or_default();
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    });
    match (found, wanted) {
        (Some(group), _) => Ok(Some(group)),
        (None, Some(name)) => bail!("group {name} not found"),
        (None, None) => {
            debug!("group {DEFAULT_GROUP} not found; the unix socket is for its owner only");
            Ok(None)
        }
    }
}

/// A program of ours; that it is there is checked when it is needed.
fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or(Path::new("/")).join(name)
}

/// The program as a shell would find it. The shim, which has no PATH of ours, looks in the usual places only.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).map(|directory| directory.join(name));
    found.find(|program| program.is_absolute() && program.is_file())
}

fn find_shim(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let given = given.or_else(|| std::env::var_os("HAVRE_SHIM").map(PathBuf::from));
    let path = match given {
        Some(path) => path,
        None => beside(SHIM),
    };
    if !path.is_file() {
        bail!(
            "the shim `{}` does not exist: name it by --shim or HAVRE_SHIM",
            path.display()
        );
    }
    Ok(path)
}

/// Every container and client costs descriptors; the hard limit is the administrator's word.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit of open files stays as it is");
    }
}

/// The signals that the engine answers to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next signal that ends the engine; reloads at SIGHUP.
    async fn until_stop(&mut self, settings: &Settings, level: &Level) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload(settings, level),
                _ = self.user.recv() => debug!("SIGUSR1 is ignored"),
            }
        }
    }
}

/// Reads the configuration again. The log level changes at once; other changes need a restart, which is
/// harmless because containers go on.
fn reload(settings: &Settings, level: &Level) {
    let fresh = flags::parse(std::env::args().skip(1)).map_err(anyhow::Error::from);
    let fresh = match fresh.and_then(|flags| Ok(Settings::load(flags)?)) {
        Ok(fresh) => fresh,
        Err(error) => return error!("failed to reload the configuration: {error:#}"),
    };
    if let Err(error) = level.set(fresh.log_level) {
        error!(%error, "the log level stays as it is");
    }
    let unchanged = Settings {
        log_level: settings.log_level,
        ..fresh
    } == *settings;
    if unchanged {
        info!("Reloaded configuration");
    } else {
        warn!("Reloaded configuration: only the log level changes before the next start of havred");
    }
}
