//! The exec processes that are known: found by id, forgotten some time after they ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use havre_api_traits::{ApiError, ApiResult};
use havre_engine_types::ExecCreateRequest;
use havre_types::{ContainerId, ExecId};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long the exit code of one can be asked for; Docker keeps it five to ten minutes.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// All exec processes of this run of the engine.
#[derive(Debug, Default)]
pub(crate) struct Store {
    by_id: Mutex<HashMap<ExecId, Arc<Exec>>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(super) id: ExecId,
    pub(super) container: ContainerId,
    pub(super) request: ExecCreateRequest,
    /// The process of the specification as JSON, planned when the exec was made: who asks for a user
    /// that is not there learns it then, as with Docker.
    pub(super) process: Vec<u8>,
    pub(super) state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) taken: bool,
    pub(super) running: bool,
    pub(super) pid: u32,
    pub(super) exit_code: Option<i64>,
    pub(super) ended: Option<Instant>,
}

impl State {
    pub(super) fn end(&mut self, code: i64) {
        self.running = false;
        self.exit_code = Some(code);
        self.ended = Some(Instant::now());
    }
}

impl Store {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<ExecId, Arc<Exec>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, text: &str) -> ApiResult<Arc<Exec>> {
        let missing = || ApiError::not_found(format!("No such exec instance: {text}"));
        let id = ExecId::parse(text).map_err(|_not_an_id| missing())?;
        self.lock().get(&id).cloned().ok_or_else(missing)
    }

    /// The running ones of a container, for its inspect.
    pub(crate) fn ids_of(&self, container: &ContainerId) -> Option<Vec<String>> {
        let ids: Vec<String> = self
            .lock()
            .values()
            .filter(|exec| exec.container == *container && exec.state.borrow().exit_code.is_none())
            .map(|exec| exec.id.to_string())
            .collect();
        (!ids.is_empty()).then_some(ids)
    }

    /// Forgets the processes of containers that are gone, and those that ended long ago. Answers whom it forgot.
    pub(super) fn prune(&self, exists: impl Fn(&ContainerId) -> bool) -> Vec<Arc<Exec>> {
        let mut map = self.lock();
        let forgotten = map.extract_if(|_, exec| {
            let ended = exec.state.borrow().ended;
            !(ended.is_none_or(|at| at.elapsed() < REMEMBERED) && exists(&exec.container))
        });
        forgotten.map(|(_, exec)| exec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_ended_is_forgotten_in_time() {
        let store = Store::default();
        let container = ContainerId::from_bytes([1; 32]);
        let ids = [ExecId::from_bytes([2; 32]), ExecId::from_bytes([3; 32])];
        for id in &ids {
            let exec = Exec {
                id: id.clone(),
                container: container.clone(),
                request: ExecCreateRequest::default(),
                process: Vec::new(),
                state: watch::Sender::new(State::default()),
            };
            store.lock().insert(id.clone(), Arc::new(exec));
        }
        store
            .find(ids[0].as_str())
            .unwrap()
            .state
            .send_modify(|state| state.end(0));
        store.prune(|_| true);
        assert_eq!(
            store.lock().len(),
            2,
            "the exit code can still be asked for"
        );
        tokio::time::advance(REMEMBERED).await;
        store.prune(|_| true);
        assert!(store.find(ids[0].as_str()).is_err() && store.find(ids[1].as_str()).is_ok());
        store.prune(|_| false);
        assert!(store.lock().is_empty());
    }
}
