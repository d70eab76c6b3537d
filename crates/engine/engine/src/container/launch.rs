//! A start: shim, specification, Create, attached clients, Start. What does not depend on each other runs together.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use havre_api_traits::{ApiError, ApiResult};
use havre_dns::Zone;
use havre_network::Sandbox;
use havre_types::{ErrorKind, Timestamp};
use oci_spec::runtime::Spec;

use super::actor::Actor;
use super::join;
use super::record::Fixed;
use crate::engine::Shared;
use crate::error::internal;
use crate::network::{self, Joined, Live};
use crate::plan::{self, Inputs, MountKind};
use crate::shim::init::Process;
use crate::shim::{CreateTask, RootMount, Shim};
use crate::state::{Event, Status, Step, step};
use crate::{health, host};

impl Actor {
    /// Starts it, from the beginning or from a checkpoint; `by_user` when it was asked for and not done by the restart
    /// policy.
    pub(super) async fn start(&mut self, by_user: bool, from: Option<PathBuf>) -> ApiResult<()> {
        let before = self.state.status;
        match step(before, Event::StartRequested) {
            Step::To(next) => self.state.status = next,
            Step::NotModified => return Err(ApiError::not_modified()),
            Step::Refuse(why) => return Err(self.refused(why)),
            Step::EndFirst => return Err(ApiError::not_modified()),
        }
        self.restart_at = None;
        if by_user {
            self.state.stopped_by_user = false;
            self.state.restart_count = 0;
        }
        if let Some(cleanup) = self.cleanup.take() {
            // A clean-up that panicked has been reported; the new bundle tells whether it matters.
            cleanup.await.ok();
        }
        if before != Status::Restarting {
            self.publish();
        }
        let launched = match self.take_donors_name() {
            Ok(()) => launch(&self.shared, &self.fixed, from).await,
            Err(err) => Err(err),
        };
        match launched {
            Ok((shim, pid, live)) => {
                self.state.live = live;
                self.run_created(shim, pid).await
            }
            Err(err) => Err(self.start_failed(None, err).await),
        }
    }

    /// A container on another's network has its host name, too, and keeps it in its record, as in Docker.
    fn take_donors_name(&mut self) -> ApiResult<()> {
        let Some(donor) = join::donor(&self.shared.registry, &self.fixed)? else {
            return Ok(());
        };
        let modes = plan::Modes::parse(&donor.host_config)?;
        let hostname = plan::hostname(&donor.config, &modes, &self.shared.facts, &donor.id);
        let domainname = &donor.config.domainname;
        let config = &self.fixed.config;
        if config.hostname != hostname || config.domainname != *domainname {
            let mut fixed = (*self.fixed).clone();
            fixed.config.hostname = hostname;
            fixed.config.domainname.clone_from(domainname);
            self.fixed = Arc::new(fixed);
            self.publish();
        }
        Ok(())
    }

    /// The process waits at its gate: attach those who wait, then let it go.
    async fn run_created(&mut self, shim: Arc<Shim>, pid: u32) -> ApiResult<()> {
        let process = Process::waiting(pid);
        self.container.connect_waiting(&shim).await;
        if let Err(err) = shim.start("").await {
            return Err(self.start_failed(Some(shim), err).await);
        }
        self.run += 1;
        if let Step::To(next) = step(self.state.status, Event::Started) {
            self.state.status = next;
        }
        self.state.pid = pid;
        self.state.exit_code = 0;
        self.state.oom_killed = false;
        self.state.error.clear();
        self.state.health = health::initial(&self.fixed.config, self.state.health.take());
        self.state.started_at = Timestamp::now();
        self.started = Some(Instant::now());
        self.shim = Some(Arc::clone(&shim));
        self.watch_exit(Arc::clone(&shim), process);
        self.shared.announce(&self.fixed, "start", &[]);
        self.publish();
        health::watch(&self.shared, &self.container, self.run);
        // Who came since then found no shim to attach to.
        self.container.connect_waiting(&shim).await;
        drop(self.save());
        Ok(())
    }

    /// Nothing of the run remains; the error and Docker's exit code do.
    async fn start_failed(&mut self, shim: Option<Arc<Shim>>, err: ApiError) -> ApiError {
        if let Step::To(next) = step(self.state.status, Event::StartFailed) {
            self.state.status = next;
        }
        self.state.pid = 0;
        self.state.error.clone_from(&err.message);
        self.state.exit_code = exit_code_of(&err.message);
        drop(self.container.take_waiting());
        let remove = self.fixed.auto_remove();
        let saved = if remove { None } else { self.save() };
        let leaving = self.leave_networks();
        self.publish();
        self.clean_up(shim, saved, leaving);
        if remove && let Err(failed) = self.remove(true).await {
            tracing::warn!(container = %self.fixed.id, error = %failed.message, "not removed after a failed start");
        }
        err
    }
}

/// The code that the command line ends with when a container cannot be started.
/// <https://github.com/moby/moby/blob/master/daemon/start_unix.go> (`setExitCodeFromError`)
pub(crate) fn exit_code_of(message: &str) -> i64 {
    let has = |text: &str| message.contains(text);
    if has("executable file not found") || has("no such file or directory") {
        127
    } else if has("permission denied") || has("not a directory") || has("is a directory") {
        126
    } else {
        128
    }
}

/// A shim whose container waits at its gate.
type Launched = (Arc<Shim>, u32, Option<Arc<Live>>);

async fn launch(
    shared: &Arc<Shared>,
    fixed: &Arc<Fixed>,
    from: Option<PathBuf>,
) -> ApiResult<Launched> {
    let began = Instant::now();
    let bundle = shared.places.bundle(&fixed.id);
    make_bundle(&bundle)?;
    let (launcher, id, dir) = (
        Arc::clone(&shared.launcher),
        fixed.id.clone(),
        bundle.clone(),
    );
    let shim = tokio::task::spawn_blocking(move || launcher.spawn(&id, &dir));
    let (owned, kept) = (Arc::clone(shared), Arc::clone(fixed));
    let prepared = tokio::task::spawn_blocking(move || prepare(&owned, &kept));
    let (shim, prepared) = tokio::join!(shim, prepared);
    let prepared = prepared
        .map_err(|err| internal("failed to prepare the container", &err))
        .flatten();
    let live = prepared.as_ref().ok().and_then(|made| made.live.clone());
    let prepared_at = began.elapsed();
    let created = async {
        let shim = shim
            .map_err(|err| internal("failed to start the shim", &err))?
            .map_err(|err| internal("failed to start the shim", &err))?;
        let shim = Shim::connect(shim).await;
        let shim = Arc::new(shim.map_err(|err| internal("failed to connect to the shim", &err))?);
        match create(shared, fixed, &shim, prepared, from).await {
            Ok(pid) => Ok((shim, pid)),
            Err(err) => {
                if !shim.finish().await {
                    crate::restore::end_group(shared, fixed).await;
                }
                Err(err)
            }
        }
    };
    match created.await {
        Ok((shim, pid)) => {
            let created_at = began.elapsed();
            tracing::debug!(container = %fixed.id, ?prepared_at, ?created_at, "created");
            if let Some(live) = &live {
                network::tell_linked(shared, fixed, live).await;
            }
            for end in live.iter().flat_map(|live| &live.ends) {
                network::announce(shared, fixed, end.network.as_str(), "connect");
            }
            Ok((shim, pid, live))
        }
        Err(err) => {
            if let Some(live) = live {
                network::quit(shared, fixed, &live).await;
            }
            Err(err)
        }
    }
}

/// Has the container made, and its name known, at the same time.
async fn create(
    shared: &Arc<Shared>,
    fixed: &Fixed,
    shim: &Shim,
    prepared: ApiResult<Prepared>,
    from: Option<PathBuf>,
) -> ApiResult<u32> {
    let Prepared {
        mut task,
        live,
        joined,
        zone,
    } = prepared?;
    task.checkpoint = from;
    // The namespace is open until the container's process holds it.
    let (dns, _sandbox) = match joined {
        Some((dns, sandbox)) => (dns, Some(sandbox)),
        None => (None, None),
    };
    let named = async {
        match &live {
            Some(live) => {
                let id = fixed.id.as_str();
                shared.names.enter(shared, id, live, zone, dns).await
            }
            None => Ok(()),
        }
    };
    let (created, named) = tokio::join!(shim.create(&task), named);
    let pid = created.map_err(|err| {
        let text = format!("failed to create task for container: {}", err.message);
        // CRIU speaks of files too, and of none that was asked for.
        let kind = match task.checkpoint {
            Some(_) => err.kind,
            None => kind_of_failure(&err),
        };
        ApiError::new(kind, text)
    })?;
    named.map(|()| pid)
}

/// Docker answers 400 when the request named what cannot be executed, else 500.
/// <https://github.com/moby/moby/blob/master/daemon/errors.go> (`translateContainerdStartErr`)
fn kind_of_failure(err: &ApiError) -> ErrorKind {
    match exit_code_of(&err.message) {
        126 | 127 => ErrorKind::InvalidParameter,
        _ => err.kind,
    }
}

fn make_bundle(bundle: &Path) -> ApiResult<()> {
    let failed = |err: &std::io::Error| internal("failed to make the bundle", err);
    match fs_err::remove_dir_all(bundle) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(failed(&err)),
        _ => {}
    }
    host::make_private_dir(bundle).map_err(|err| failed(&err))?;
    fs_err::create_dir(bundle.join("rootfs")).map_err(|err| failed(&err))
}

/// All that is ready before the shim is told.
struct Prepared {
    task: CreateTask,
    live: Option<Arc<Live>>,
    /// Sockets of the companion and the namespace that they are in.
    joined: Option<(Option<(OwnedFd, OwnedFd)>, Sandbox)>,
    zone: Zone,
}

/// Everything that needs the disk or the network: namespace and addresses, accounts of the image, devices, engine files,
/// `config.json`.
fn prepare(shared: &Shared, fixed: &Fixed) -> ApiResult<Prepared> {
    let joined = network::join(shared, fixed)?;
    let prepared = prepare_task(shared, fixed, joined.as_ref());
    match (prepared, joined) {
        (Ok((task, zone)), Some(Joined { sandbox, live, dns })) => Ok(Prepared {
            task,
            live: Some(Arc::new(live)),
            joined: Some((dns, sandbox)),
            zone,
        }),
        (Ok((task, zone)), None) => Ok(Prepared {
            task,
            live: None,
            joined: None,
            zone,
        }),
        (Err(err), joined) => {
            if let Some(joined) = joined {
                network::part(shared, fixed, &joined.live);
            }
            Err(err)
        }
    }
}

fn prepare_task(
    shared: &Shared,
    fixed: &Fixed,
    joined: Option<&Joined>,
) -> ApiResult<(CreateTask, Zone)> {
    let rootfs = root_mounts(shared, fixed)?;
    let mut modes = join::modes(shared, fixed)?;
    if let Some(joined) = joined {
        modes.network = plan::Mode::Sandbox(joined.sandbox.path().into());
    }
    let live = joined.map(|joined| &joined.live);
    let program = &shared.facts.init.program;
    if plan::wants_init(&fixed.host_config, &shared.facts) && !program.is_file() {
        return Err(ApiError::internal(format!(
            "failed to find the init program `{}`: install havre-init beside havred, or name one by --init-path",
            program.display()
        )));
    }
    let accounts = accounts(&rootfs)?;
    let extra = fixed.host_config.group_add.as_deref().unwrap_or_default();
    let identity = plan::resolve_user(&fixed.config.user, extra, &accounts)?;
    let devices = host::devices(&fixed.host_config, &shared.config.cdi_spec_dirs)?;
    let donor = join::donor(&shared.registry, fixed)?;
    let data = shared
        .places
        .data(donor.as_ref().map_or(&fixed.id, |donor| &donor.id));
    let inputs = Inputs {
        id: &fixed.id,
        config: &fixed.config,
        host: &fixed.host_config,
        facts: &shared.facts,
        filters: &shared.filters,
        identity: &identity,
        devices: &devices,
        modes: &modes,
        data: &data,
    };
    let mut spec = plan::spec(inputs)?;
    let runtime = shared.config.runtimes.find(&fixed.host_config.runtime)?;
    if runtime.is_some() {
        crate::runtimes::adapt(&mut spec);
    }
    make_bind_sources(fixed)?;
    let zone = match donor {
        Some(_) => Zone::default(),
        None => write_files(shared, fixed, inputs, live)?,
    };
    let bundle = shared.places.bundle(&fixed.id);
    write_spec(&bundle, &spec)?;
    if let Some(live) = live {
        live.write(&bundle)
            .map_err(|err| internal("failed to write the container's networks", &err))?;
    }
    let task = CreateTask {
        rootfs,
        runtime,
        checkpoint: None,
        criu: shared.config.criu.clone(),
        terminal: fixed.config.tty,
        open_stdin: fixed.config.open_stdin,
        stdin_once: fixed.config.stdin_once,
        log: super::logs::for_shim(shared, fixed)?,
    };
    Ok((task, zone))
}

/// The container's own `hosts`, `hostname` and `resolv.conf`; what the companion has to know.
fn write_files(
    shared: &Shared,
    fixed: &Fixed,
    inputs: Inputs<'_>,
    live: Option<&Live>,
) -> ApiResult<Zone> {
    let texts = network::texts(shared, fixed, live)?;
    let host_hosts = (inputs.modes.network == plan::Mode::Host).then(host::hosts);
    let files = plan::engine_texts(inputs, host_hosts, &texts)?;
    network::write_files(inputs.data, &files)
        .map_err(|err| internal("failed to write the container's files", &err))?;
    Ok(texts.zone)
}

fn write_spec(bundle: &Path, spec: &Spec) -> ApiResult<()> {
    let body = serde_json::to_vec(spec)
        .map_err(|err| internal("failed to write the specification", &err))?;
    fs_err::write(bundle.join("config.json"), body)
        .map_err(|err| internal("failed to write the specification", &err))
}

/// What the shim mounts as the container's root.
pub(crate) fn root_mounts(shared: &Shared, fixed: &Fixed) -> ApiResult<Vec<RootMount>> {
    let mounts = shared
        .snapshots
        .mounts(fixed.id.as_str())
        .map_err(|err| crate::error::classified("failed to find the container's layer", &err))?;
    let mounts = mounts.into_iter().map(|m| RootMount {
        kind: m.fstype,
        source: m.source,
        options: m.options,
    });
    Ok(mounts.collect())
}

/// The image's passwd and group as the container will see them.
pub(crate) fn accounts(rootfs: &[RootMount]) -> ApiResult<plan::Accounts> {
    let Some(root) = rootfs.last() else {
        return Ok(plan::Accounts::default());
    };
    let layers = plan::layers_of(&root.source, &root.options);
    let read = |path: &str| {
        plan::read_file(&layers, path, plan::MAX_ACCOUNT_FILE)
            .map(Option::unwrap_or_default)
            .map_err(|err| ApiError::invalid(format!("failed to read {path} of the image: {err}")))
    };
    Ok(plan::Accounts {
        passwd: read("/etc/passwd")?,
        group: read("/etc/group")?,
    })
}

/// `-v` makes missing directories, `--mount` refuses them.
fn make_bind_sources(fixed: &Fixed) -> ApiResult<()> {
    for mount in plan::user_mounts(&fixed.host_config)? {
        let MountKind::Bind {
            source,
            create_source,
            propagation,
            ..
        } = mount.kind
        else {
            continue;
        };
        if source.exists() {
            host::check_propagation(&source, &propagation)?;
            continue;
        }
        if !create_source {
            return Err(missing_source(&source));
        }
        fs_err::create_dir_all(&source)
            .map_err(|err| internal("error while creating mount source path", &err))?;
    }
    Ok(())
}

pub(super) fn missing_source(source: &Path) -> ApiError {
    ApiError::invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        source.display()
    ))
}
