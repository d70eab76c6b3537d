//! Records that wait for an asynchronous driver: so many, and what comes then is dropped and counted.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::deliver::Record;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Record>,
    ended: bool,
}

impl Queue {
    /// False when there is no room.
    pub(crate) fn push(&self, record: Record, limit: usize) -> bool {
        let mut state = self.lock();
        if state.records.len() >= limit {
            return false;
        }
        state.records.push_back(record);
        self.changed.notify_one();
        true
    }

    /// Nothing more comes.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }

    /// Waits for the next record; none at the end.
    pub(crate) fn pop(&self) -> Option<Record> {
        let mut state = self.lock();
        loop {
            if let Some(record) = state.records.pop_front() {
                return Some(record);
            }
            if state.ended {
                return None;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
