//! The event bus: an ordered ring that every subscriber reads by sequence number, also after a restart.
//!
//! A subscriber holds a position, not a queue of its own, so a slow one costs nothing and loses nothing until it is
//! a whole ring behind; then it skips and the engine says so in its log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_engine_types::Event;
use havre_meta::{Batch, Meta};
use tokio::sync::watch;

/// Kind of the documents in the metadata store.
const KIND: &str = "event";
/// Events kept; Docker keeps 256, in memory only.
const CAPACITY: usize = 1024;

/// An event and its place in the order of all.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    pub sequence: u64,
    pub event: Arc<Event>,
}

/// Where events are published and read.
#[derive(Debug)]
pub(crate) struct Bus {
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    ring: VecDeque<Numbered>,
    /// Everything before this number is durable or queued for it.
    saved: u64,
    next: u64,
}

impl Bus {
    /// Takes up the events of former runs. Damaged ones are gone, the others stay.
    pub(crate) fn open(meta: &Meta) -> Result<Self, havre_meta::ReadError> {
        let mut ring: Vec<Numbered> = meta
            .list(KIND)?
            .into_iter()
            .filter_map(|document| {
                let sequence = document.id.parse().ok()?;
                let event = serde_json::from_slice(&document.body).ok()?;
                Some(Numbered {
                    sequence,
                    event: Arc::new(event),
                })
            })
            .collect();
        ring.sort_by_key(|entry| entry.sequence);
        let next = ring.last().map_or(1, |entry| entry.sequence + 1);
        let inner = Inner {
            ring: ring.into(),
            saved: next,
            next,
        };
        Ok(Self {
            inner: Mutex::new(inner),
            newest: watch::Sender::new(next - 1),
        })
    }

    /// Publishes an event to subscribers now; it becomes durable with the next batch that passes [`Bus::save`].
    pub(crate) fn publish(&self, event: Event) {
        let mut inner = self.lock();
        let sequence = inner.next;
        inner.next += 1;
        inner.ring.push_back(Numbered {
            sequence,
            event: Arc::new(event),
        });
        if inner.ring.len() > 4 * CAPACITY {
            inner.ring.pop_front();
        }
        drop(inner);
        self.newest.send_replace(sequence);
    }

    /// Adds what is not yet durable to `batch`, and the removal of what fell out of the ring.
    pub(crate) fn save(&self, mut batch: Batch) -> Batch {
        let mut inner = self.lock();
        let saved = inner.saved;
        for entry in inner.ring.iter().filter(|entry| entry.sequence >= saved) {
            if let Ok(body) = serde_json::to_vec(&*entry.event) {
                batch = batch.put(KIND, &id(entry.sequence), body);
            }
        }
        inner.saved = inner.next;
        while inner.ring.len() > CAPACITY {
            let Some(old) = inner.ring.pop_front() else {
                break;
            };
            batch = batch.delete(KIND, &id(old.sequence));
        }
        batch
    }

    /// Events after `sequence`, oldest first.
    pub(crate) fn after(&self, sequence: u64) -> Vec<Numbered> {
        let inner = self.lock();
        let start = inner
            .ring
            .partition_point(|entry| entry.sequence <= sequence);
        inner.ring.iter().skip(start).cloned().collect()
    }

    /// The number of the newest event, and how to wait for newer ones.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Zero-padded, so that the store's order is the order of events.
fn id(sequence: u64) -> String {
    format!("{sequence:020}")
}
