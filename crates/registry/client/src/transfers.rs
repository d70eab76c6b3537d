//! Transfers that several pulls share: a layer that two of them want is fetched once. It goes on for
//! as long as one of them still wants it, and ends with the last.

use crate::error::LayerError;
use crate::progress::LayerState;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use havre_image::Unpacked;
use havre_types::{ChainId, Digest};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::watch;

/// What a transfer gives everyone who waits for it.
pub(crate) type Outcome = Result<Arc<Unpacked>, Arc<LayerError>>;
type Running = Shared<BoxFuture<'static, Outcome>>;

/// A transfer one takes part in.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Resolves at its end; whoever polls it drives it.
    pub(crate) running: Running,
    /// Where it stands.
    pub(crate) state: watch::Receiver<LayerState>,
    /// Whether it was begun for this ticket.
    pub(crate) own: bool,
}

#[derive(Debug)]
struct Entry {
    running: WeakShared<BoxFuture<'static, Outcome>>,
    state: watch::Receiver<LayerState>,
}

/// All transfers of a client.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    layers: Mutex<HashMap<ChainId, Entry>>,
    blobs: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl Transfers {
    /// Takes part in the transfer of this layer, or begins it.
    pub(crate) fn join(
        &self,
        chain: &ChainId,
        begin: impl FnOnce(watch::Sender<LayerState>) -> BoxFuture<'static, Outcome>,
    ) -> Ticket {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.retain(|_, entry| entry.running.upgrade().is_some());
        if let Some(entry) = layers.get(chain)
            && let Some(running) = entry.running.upgrade()
            // One that has failed is not joined: this caller may have what the other lacked.
            && !matches!(running.peek(), Some(Err(_)))
        {
            return Ticket {
                running,
                state: entry.state.clone(),
                own: false,
            };
        }
        let (sender, state) = watch::channel(LayerState::Announced);
        let running = begin(sender).shared();
        if let Some(weak) = running.downgrade() {
            layers.insert(
                chain.clone(),
                Entry {
                    running: weak,
                    state: state.clone(),
                },
            );
        }
        Ticket {
            running,
            state,
            own: true,
        }
    }

    /// The lock of a blob: one that several layers consist of arrives once, for the first of them.
    pub(crate) fn blob(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = blobs.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        blobs.insert(digest.clone(), Arc::downgrade(&lock));
        lock
    }
}
