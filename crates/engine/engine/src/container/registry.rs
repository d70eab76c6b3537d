//! All containers, found by id, short id or name. Readers get snapshots and never wait for an actor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use havre_api_traits::ApiError;
use havre_types::ContainerId;
use tokio::sync::{mpsc, watch};

use super::actor::Command;
use super::record::{Fixed, State};
use crate::attach::PendingAttach;
use crate::error::no_such_container;
use crate::names::Names;
use crate::shim::{Shim, init};

/// A container at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub fixed: Arc<Fixed>,
    pub state: State,
    /// The shim of the current run.
    pub shim: Option<Arc<Shim>>,
}

/// A container as everybody but its actor has it.
#[derive(Debug)]
pub(crate) struct Container {
    pub id: ContainerId,
    pub commands: mpsc::UnboundedSender<Command>,
    pub view: watch::Receiver<Arc<View>>,
    /// Clients that attached before the start.
    pub waiting: Mutex<Vec<PendingAttach>>,
    /// Held by the one who writes into its files.
    pub files: tokio::sync::Mutex<()>,
}

impl Container {
    pub(crate) fn now(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Takes those who wait to be attached.
    pub(crate) fn take_waiting(&self) -> Vec<PendingAttach> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves a client to the next start.
    pub(crate) fn wait(&self, client: PendingAttach) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|other| !other.is_closed());
        waiting.push(client);
    }

    /// Attaches those who wait. Whom it fails for learns it by the end of the stream.
    pub(crate) async fn connect_waiting(&self, shim: &Shim) {
        for waiting in self.take_waiting() {
            if let Err(err) = waiting.connect(shim).await {
                tracing::warn!(container = %self.id(), error = %err.message, "a client could not be attached");
            }
        }
    }

    pub(crate) fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Whether its first process is there, as the kernel has it: the actor may not have heard of its end yet. Tells
    /// a failure because it has just ended from any other.
    pub(crate) fn is_alive(&self) -> bool {
        let view = self.now();
        view.state.status.is_live()
            && init::Process::find(&self.id, view.state.pid)
                .is_some_and(|process| !process.is_over())
    }

    /// Name and settings as they are now.
    pub(crate) fn fixed(&self) -> Arc<Fixed> {
        Arc::clone(&self.view.borrow().fixed)
    }
}

/// The registry. Its lock is held only to copy a pointer or a list of pointers.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_id: RwLock<BTreeMap<ContainerId, Arc<Container>>>,
    pub names: Names,
}

impl Registry {
    pub(crate) fn insert(&self, container: &Arc<Container>) {
        let mut map = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(container.id().clone(), Arc::clone(container));
    }

    /// Forgets a container and frees its name.
    pub(crate) fn remove(&self, fixed: &Fixed) {
        self.by_id
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&fixed.id);
        self.names.release(&fixed.name, &fixed.id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.by_id
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    pub(crate) fn get(&self, id: &ContainerId) -> Option<Arc<Container>> {
        self.by_id
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// Finds by full id, then name, then id prefix: Docker's order.
    /// <https://github.com/moby/moby/blob/master/daemon/container.go> (`GetContainer`)
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Container>, ApiError> {
        let bare = text.strip_prefix('/').unwrap_or(text);
        if bare.is_empty() {
            return Err(ApiError::invalid("no container name or ID supplied"));
        }
        if let Some(found) = ContainerId::parse(bare).ok().and_then(|id| self.get(&id)) {
            return Ok(found);
        }
        if let Some(found) = self.names.owner(bare).and_then(|id| self.get(&id)) {
            return Ok(found);
        }
        let map = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let mut matches = map.iter().filter(|(id, _)| id.as_str().starts_with(bare));
        match (matches.next(), matches.next()) {
            (Some((_, found)), None) => Ok(Arc::clone(found)),
            (Some(_), Some(_)) => Err(ApiError::invalid(format!(
                "multiple IDs found with provided prefix: {bare}"
            ))),
            (None, _) => Err(no_such_container(text)),
        }
    }
}
