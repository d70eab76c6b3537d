//! A write on its way to the disk: a future, and a blocking wait for callers without a runtime. The
//! wait may be used on any thread; it must never panic inside an async context.

use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::WriteError;

/// Resolves when the batch is durable, or has failed. Dropping it does not withdraw the batch.
#[derive(Debug)]
#[must_use = "only this tells whether the write is durable"]
pub struct Pending {
    shared: Arc<Shared>,
}

/// The writer's end; dropped unfinished (the writer died), it fails the batch.
#[derive(Debug)]
pub(crate) struct Completion {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    result: Option<Result<(), WriteError>>,
    waker: Option<Waker>,
}

pub(crate) fn pair() -> (Completion, Pending) {
    let shared = Arc::new(Shared::default());
    (
        Completion {
            shared: Arc::clone(&shared),
        },
        Pending { shared },
    )
}

impl Pending {
    /// Blocks until the batch is durable or has failed.
    pub fn wait(self) -> Result<(), WriteError> {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = state.result.clone() {
                return result;
            }
            state = self
                .shared
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Pending {
    type Output = Result<(), WriteError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = state.result.clone() {
            return Poll::Ready(result);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Completion {
    pub(crate) fn finish(&self, result: Result<(), WriteError>) {
        self.set(result);
    }

    /// Fails the batch unless it has been finished.
    pub(crate) fn abandon(&self) {
        self.set(Err(WriteError::Closed));
    }

    fn set(&self, result: Result<(), WriteError>) {
        let waker = {
            let mut state = self
                .shared
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if state.result.is_some() {
                return;
            }
            state.result = Some(result);
            state.waker.take()
        };
        self.shared.done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
