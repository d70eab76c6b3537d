//! The one writer of a container. Commands come in order; nothing here waits for a process to end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::{EndpointSettings, Health, HostConfig};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::record::{Exit, Fixed, KIND, Record, State};
use super::registry::{Container, View};
use crate::engine::Shared;
use crate::error::internal;
use crate::restart::{BackOff, Policy};
use crate::shim::Shim;
use crate::state::{Event, Refusal, Status, Step, step};

/// What the actor can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    Start {
        /// The directory of a checkpoint to go on from.
        from: Option<PathBuf>,
        reply: oneshot::Sender<ApiResult<()>>,
    },
    /// The user wants it to end: no restart. Answers whether there is a process to end.
    EndedByUser {
        then: AfterEnd,
        reply: oneshot::Sender<bool>,
    },
    Remove {
        force: bool,
        reply: oneshot::Sender<ApiResult<()>>,
    },
    Pause {
        reply: oneshot::Sender<ApiResult<()>>,
    },
    Unpause {
        reply: oneshot::Sender<ApiResult<()>>,
    },
    /// Writes its processes into a directory; with `exit` they end.
    Checkpoint {
        images: PathBuf,
        exit: bool,
        reply: oneshot::Sender<ApiResult<()>>,
    },
    /// Takes a name that has been checked.
    Rename {
        name: String,
        reply: oneshot::Sender<ApiResult<()>>,
    },
    /// Takes the resources and the restart policy of `wanted` that are set.
    Update {
        wanted: Box<HostConfig>,
        reply: oneshot::Sender<ApiResult<()>>,
    },
    /// Joins it to a network, at once when it runs, else at its next start.
    Connect {
        network: String,
        settings: Box<EndpointSettings>,
        reply: oneshot::Sender<ApiResult<()>>,
    },
    /// Takes it off a network.
    Disconnect {
        network: String,
        /// The network may be gone.
        force: bool,
        reply: oneshot::Sender<ApiResult<()>>,
    },
    /// A health check of run number `run` has a result. It may make the actor restart the container.
    Health { run: u64, health: Health },
    /// The process of run number `run` has ended.
    Ended { run: u64, exit: Exit },
}

/// What becomes of a container that the user ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterEnd {
    /// `--rm` removes it.
    AsConfigured,
    /// It stays, to be started again at once.
    Keep,
}

/// The state of the actor.
pub(super) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) container: Arc<Container>,
    pub(super) fixed: Arc<Fixed>,
    pub(super) state: State,
    pub(super) shim: Option<Arc<Shim>>,
    pub(super) view: watch::Sender<Arc<View>>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Counts runs, so that the end of an old one is not taken for that of a new one.
    pub(super) run: u64,
    pub(super) started: Option<Instant>,
    pub(super) policy: Policy,
    pub(super) back_off: BackOff,
    pub(super) restart_at: Option<Instant>,
    /// Stopped or killed by the user: this exit is final.
    pub(super) no_restart: bool,
    /// It is being ended for its health, to be started again.
    pub(super) unhealthy: bool,
    /// The next end does not remove it.
    pub(super) keep: bool,
    /// The end of the former run's shim and bundle.
    /// It says whether what happened is written down.
    pub(super) cleanup: Option<JoinHandle<bool>>,
}

/// How a found container goes on when its actor begins.
pub(crate) enum Beginning {
    /// As the record says; nothing runs.
    AtRest,
    /// Its shim still answers.
    Running(Arc<Shim>),
    /// It ended while nobody looked.
    Ended(Exit),
}

/// Starts the actor of a container and enters it in the registry.
pub(crate) fn spawn(shared: &Arc<Shared>, record: Record, beginning: Beginning) -> Arc<Container> {
    let (sender, commands) = mpsc::unbounded_channel();
    let shim = match &beginning {
        Beginning::Running(shim) => Some(Arc::clone(shim)),
        Beginning::AtRest | Beginning::Ended(_) => None,
    };
    let first = View {
        fixed: Arc::clone(&record.fixed),
        state: record.state.clone(),
        shim: shim.clone(),
    };
    let (view, receiver) = watch::channel(Arc::new(first));
    let container = Arc::new(Container {
        id: record.fixed.id.clone(),
        commands: sender,
        view: receiver,
        waiting: std::sync::Mutex::default(),
        files: tokio::sync::Mutex::default(),
    });
    let policy = &record.fixed.host_config.restart_policy;
    let policy = Policy::parse(&policy.name, policy.maximum_retry_count).unwrap_or_default();
    let mut actor = Actor {
        shared: Arc::clone(shared),
        container: Arc::clone(&container),
        fixed: record.fixed,
        shim,
        view,
        commands,
        run: 1,
        started: None,
        policy,
        back_off: BackOff::default(),
        restart_at: None,
        // The former engine may have been asked to end it and not have seen the end.
        no_restart: record.state.stopped_by_user && policy != Policy::Always,
        unhealthy: false,
        keep: false,
        cleanup: None,
        state: record.state,
    };
    shared.registry.insert(&container);
    match beginning {
        Beginning::Running(shim) => {
            let process = shim.first_process(actor.state.pid);
            actor.watch_exit(shim, process);
            crate::health::watch(shared, &actor.container, actor.run);
        }
        Beginning::Ended(exit) => {
            let ended = Command::Ended {
                run: actor.run,
                exit,
            };
            // The actor has not begun yet, so its queue is open.
            actor.container.commands.send(ended).ok();
        }
        Beginning::AtRest => actor.boot(),
    }
    shared.tasks.spawn(actor.work());
    container
}

impl Actor {
    async fn work(mut self) {
        loop {
            let due = self.restart_at;
            let command = tokio::select! {
                command = self.commands.recv() => command,
                () = until(due) => {
                    self.restart_at = None;
                    self.restart().await;
                    continue;
                }
                () = self.shared.stopping.cancelled() => None,
            };
            let Some(command) = command else { return };
            if self.handle(command).await {
                return;
            }
        }
    }

    /// Handles one command; true when the container is gone.
    async fn handle(&mut self, command: Command) -> bool {
        match command {
            Command::Start { from, reply } => {
                self.no_restart = false;
                let result = self.start(true, from).await;
                // A caller that left does not undo the start.
                reply.send(result).ok();
            }
            Command::EndedByUser { then, reply } => {
                let running = self.ended_by_user();
                self.keep = running && then == AfterEnd::Keep;
                reply.send(running).ok();
            }
            Command::Remove { force, reply } => {
                let result = self.remove(force).await;
                let gone = self.state.removed;
                reply.send(result).ok();
                return gone;
            }
            Command::Pause { reply } => {
                reply.send(self.pause().await).ok();
            }
            Command::Unpause { reply } => {
                reply.send(self.unpause().await).ok();
            }
            Command::Checkpoint {
                images,
                exit,
                reply,
            } => {
                reply.send(self.checkpoint(&images, exit).await).ok();
            }
            Command::Rename { name, reply } => {
                reply.send(self.rename(name).await).ok();
            }
            Command::Update { wanted, reply } => {
                reply.send(self.update(&wanted).await).ok();
            }
            Command::Connect {
                network,
                settings,
                reply,
            } => {
                reply.send(self.connect(&network, *settings).await).ok();
            }
            Command::Disconnect {
                network,
                force,
                reply,
            } => {
                reply.send(self.disconnect(&network, force).await).ok();
            }
            Command::Health { run, health } => {
                if run == self.run {
                    self.health(health);
                }
            }
            Command::Ended { run, exit } => {
                if run == self.run {
                    self.ended(&exit);
                }
                return self.state.removed;
            }
        }
        false
    }

    fn ended_by_user(&mut self) -> bool {
        self.no_restart = true;
        self.state.stopped_by_user = true;
        match step(self.state.status, Event::StopRequested) {
            Step::To(next) => {
                self.restart_at = None;
                self.state.status = next;
                self.publish();
                self.save();
                false
            }
            Step::EndFirst => {
                self.save();
                true
            }
            Step::NotModified | Step::Refuse(_) => false,
        }
    }

    /// Applies the restart policy to a container that is found at rest when the engine starts.
    fn boot(&mut self) {
        let ran = self.state.status == Status::Restarting
            || (self.state.status == Status::Exited && !self.state.started_at.is_zero());
        let code = self.state.exit_code;
        if ran
            && self
                .policy
                .at_boot(code, self.state.restart_count, self.state.stopped_by_user)
        {
            self.state.status = Status::Restarting;
            self.state.restart_count = 0;
            self.restart_at = Some(Instant::now());
        } else if self.state.status != Status::Created && self.state.status != Status::Dead {
            self.state.status = Status::Exited;
        }
        self.publish();
    }

    async fn restart(&mut self) {
        if let Err(err) = self.start(false, None).await {
            tracing::warn!(container = %self.fixed.id, error = %err.message, "restart failed");
        }
    }

    /// Removes it: the record first and durably, so that a name acknowledged as free is free for ever.
    pub(super) async fn remove(&mut self, force: bool) -> ApiResult<()> {
        let event = if force {
            Event::ForceRemoveRequested
        } else {
            Event::RemoveRequested
        };
        match step(self.state.status, event) {
            Step::To(next) => self.state.status = next,
            Step::EndFirst => return Err(self.refused(Refusal::MustStopFirst)),
            Step::Refuse(why) => return Err(self.refused(why)),
            Step::NotModified => return Err(ApiError::not_modified()),
        }
        self.restart_at = None;
        self.publish();
        if let Err(err) = self.remove_all().await {
            if let Step::To(dead) = step(self.state.status, Event::RemoveFailed) {
                self.state.status = dead;
            }
            self.state.error.clone_from(&err.message);
            self.publish();
            return Err(err);
        }
        self.shared.announce(&self.fixed, "destroy", &[]);
        self.shared.registry.remove(&self.fixed);
        self.state.removed = true;
        drop(self.container.take_waiting());
        self.publish();
        Ok(())
    }

    /// Record, then files: who removes a container to have its space has it when this is done. What a crash leaves
    /// has no record any more and is swept at the next start.
    async fn remove_all(&mut self) -> ApiResult<()> {
        let batch = havre_meta::Batch::new().delete(KIND, self.fixed.id.as_str());
        let written = self.shared.meta.write(batch).await;
        written.map_err(|err| internal("failed to remove the container's record", &err))?;
        if let Some(cleanup) = self.cleanup.take() {
            // A clean-up that panicked has been reported; what it left is removed below.
            cleanup.await.ok();
        }
        let (shared, id) = (Arc::clone(&self.shared), self.fixed.id.clone());
        let removed = tokio::task::spawn_blocking(move || {
            let removed = crate::restore::remove_files(&shared, &id);
            shared.snapshots.wait_for_space(SPACE_DEADLINE);
            removed
        });
        removed
            .await
            .map_err(|err| internal("unable to remove filesystem", &err))?
            .map_err(|err| internal("unable to remove filesystem", &err))
    }

    /// `--rm`: the container is gone for everybody at once; its files follow in the background, or at the next start of
    /// the engine. Its clean-up tells whether the removal is written down; else the files stay as the record does.
    pub(super) fn forget(&mut self) {
        self.state.removed = true;
        drop(self.container.take_waiting());
        self.shared.registry.remove(&self.fixed);
        self.publish();
        let shared = Arc::clone(&self.shared);
        let id = self.fixed.id.clone();
        let cleanup = self.cleanup.take();
        self.shared.tasks.spawn(async move {
            if let Some(cleanup) = cleanup {
                // A clean-up that panicked has been reported; what it left is swept at the next start.
                let written = cleanup.await.unwrap_or(false);
                if !written {
                    return;
                }
            }
            let kept = Arc::clone(&shared);
            let swept =
                tokio::task::spawn_blocking(move || crate::restore::remove_files(&kept, &id)).await;
            if let Ok(Err(err)) = swept {
                tracing::warn!(error = %err, "files of a removed container are left for the next start");
            }
        });
    }

    pub(super) fn refused(&self, why: Refusal) -> ApiError {
        let id = &self.fixed.id;
        let status = self.state.docker_status();
        match why {
            Refusal::StartPaused => {
                ApiError::conflict("cannot start a paused container, try unpause instead")
            }
            Refusal::NotRunning => crate::error::not_running(id.as_str()),
            Refusal::Restarting => crate::error::is_restarting(id.as_str()),
            Refusal::AlreadyPaused => {
                ApiError::conflict(format!("Container {id} is already paused"))
            }
            // Docker answers 500 to this one.
            // dockerd answers 500 for want of a kind; nothing of it failed.
            Refusal::NotPaused => ApiError::conflict(format!("Container {id} is not paused")),
            Refusal::MustStopFirst if self.state.status == Status::Paused => {
                ApiError::conflict("container is paused and must be unpaused first")
            }
            Refusal::MarkedForRemoval => {
                ApiError::conflict("container is marked for removal and cannot be started")
            }
            Refusal::MustStopFirst => ApiError::conflict(format!(
                "container is {status}: stop the container before removing or force remove"
            )),
            Refusal::RemovalInProgress => {
                ApiError::conflict(format!("removal of container {id} is already in progress"))
            }
            Refusal::Impossible => ApiError::internal(format!(
                "container {id} cannot do this while it is {status}"
            )),
        }
    }

    /// Shows the state to readers.
    pub(super) fn publish(&self) {
        let view = View {
            fixed: Arc::clone(&self.fixed),
            state: self.state.clone(),
            shim: self.shim.clone(),
        };
        self.view.send_replace(Arc::new(view));
    }

    /// Queues the record for the disk, together with the events that happened. The truth about a running process
    /// is in its bundle, so that nobody needs to wait for this.
    pub(super) fn save(&self) -> Option<havre_meta::Pending> {
        let record = Record {
            fixed: Arc::clone(&self.fixed),
            state: self.state.clone(),
        };
        match record.to_json() {
            Ok(body) => {
                let batch = havre_meta::Batch::new().put(KIND, self.fixed.id.as_str(), body);
                Some(self.shared.meta.write(self.shared.bus.save(batch)))
            }
            Err(err) => {
                tracing::error!(container = %self.fixed.id, error = %err, "record cannot be written");
                None
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// How long a removal waits for the space of what was written in the container.
const SPACE_DEADLINE: Duration = Duration::from_secs(30);

/// The longest a shim may take for anything but waiting.
pub(crate) const SHIM_DEADLINE: Duration = Duration::from_secs(30);
