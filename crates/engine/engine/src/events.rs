//! The event bus: an ordered journal that every subscriber reads by sequence number, also after a restart.
//!
//! The journal lies in the metadata store. An event that comes with a change of a record is written in the change's
//! own transaction; every other one soon after, and until then it stands in a file without a sync, so that a killed
//! engine loses none.
//! The newest [`CAPACITY`] events stay. A subscriber holds a position, not a queue of its own: a slow one costs
//! nothing and loses nothing until it is that far behind. Then it gets one event that says how many it missed.

mod filter;
mod tail;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use havre_engine_types::{Actor, Event};
use havre_meta::{Batch, Meta};
use havre_types::Timestamp;
use tokio::sync::watch;

pub(crate) use self::filter::wanted;
use self::tail::Tail;

/// Kind of the documents in the metadata store.
const KIND: &str = "event";
/// Events kept; Docker keeps 256, in memory only.
const CAPACITY: usize = 2048;
/// Action of the event that stands for those which a slow reader missed.
const MISSED: &str = "events-missed";

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
    tail: Option<Tail>,
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
    /// `directory` is for the events that the journal does not have yet.
    pub(crate) fn open(meta: &Meta, directory: &Path) -> Result<Self, havre_meta::ReadError> {
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
        let saved = ring.last().map_or(1, |entry| entry.sequence + 1);
        let (tail, left) = match Tail::open(directory) {
            Ok((tail, left)) => (Some(tail), left),
            Err(error) => {
                tracing::warn!(%error, "a kill of the engine may cost the newest events");
                (None, Vec::new())
            }
        };
        let unsaved = left.into_iter().filter(|(sequence, _)| *sequence >= saved);
        ring.extend(unsaved.map(|(sequence, event)| Numbered {
            sequence,
            event: Arc::new(event),
        }));
        let next = ring.last().map_or(1, |entry| entry.sequence + 1);
        let inner = Inner {
            ring: ring.into(),
            saved,
            next,
        };
        Ok(Self {
            inner: Mutex::new(inner),
            tail,
            newest: watch::Sender::new(next - 1),
        })
    }

    /// Publishes an event to subscribers; it becomes durable with the next batch that passes [`Bus::save`].
    pub(crate) fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut inner = self.lock();
        let sequence = inner.next;
        inner.next += 1;
        inner.ring.push_back(Numbered {
            sequence,
            event: Arc::clone(&event),
        });
        if inner.ring.len() > 4 * CAPACITY {
            inner.ring.pop_front();
        }
        drop(inner);
        if let Some(tail) = &self.tail
            && let Err(error) = tail.append(sequence, &event)
        {
            tracing::debug!(%error, "an event waits for the journal in memory alone");
        }
        self.newest.send_if_modified(|newest| {
            let newer = sequence > *newest;
            *newest = sequence.max(*newest);
            newer
        });
    }

    /// Writes everything that is not in the journal yet.
    pub(crate) async fn flush(&self, meta: &Meta) {
        if let Some(tail) = &self.tail {
            tail.turn();
        }
        // The store writes in order: what earlier batches took is there before this one.
        if let Err(error) = meta.write(self.save(Batch::new())).await {
            return tracing::warn!(%error, "events are not recorded");
        }
        if let Some(tail) = &self.tail
            && let Err(error) = tail.forget()
        {
            tracing::debug!(%error, "recorded events stay in their file");
        }
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

    /// Subscribers; the engine's own, which makes events durable, is none.
    pub(crate) fn listeners(&self) -> usize {
        self.newest.receiver_count().saturating_sub(1)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a reader gets in the place of `count` events that it was too slow for, the last of them `until`.
pub(crate) fn missed(instance: &str, count: u64, until: u64) -> Event {
    let now = Timestamp::now();
    let attributes = [
        ("count".to_owned(), count.to_string()),
        ("last-sequence".to_owned(), until.to_string()),
    ];
    Event {
        kind: "daemon".to_owned(),
        action: MISSED.to_owned(),
        actor: Actor {
            id: instance.to_owned(),
            attributes: attributes.into(),
        },
        scope: "local".to_owned(),
        time: now.secs,
        time_nano: now.unix_nanos(),
        ..Event::default()
    }
}

/// Zero-padded, so that the store's order is the order of events.
fn id(sequence: u64) -> String {
    format!("{sequence:020}")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn numbered(action: u64) -> Event {
        Event {
            action: action.to_string(),
            ..Event::default()
        }
    }

    #[tokio::test]
    async fn the_journal_is_ordered_bounded_and_outlives_the_engine() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meta.db");
        let total = u64::try_from(CAPACITY).unwrap() + 500;
        {
            let meta = Meta::open(&path).unwrap();
            let bus = Bus::open(&meta, directory.path()).unwrap();
            for action in 1..=total {
                bus.publish(numbered(action));
                if action % 400 == 0 || action == total {
                    meta.write(bus.save(Batch::new())).await.unwrap();
                }
            }
            // Never saved: the engine is killed here, in the middle of a line.
            bus.publish(numbered(total + 1));
            let mut file = fs_err::OpenOptions::new()
                .append(true)
                .open(directory.path().join("events.0"))
                .unwrap();
            file.write_all(b"{\"sequence\":7").unwrap();
        }
        let meta = Meta::open(&path).unwrap();
        let bus = Bus::open(&meta, directory.path()).unwrap();
        let total = total + 1;
        bus.flush(&meta).await;
        let found = bus.after(0);
        assert_eq!(found.len(), CAPACITY);
        let expected: Vec<u64> = (502..=total).collect();
        let sequences: Vec<u64> = found.iter().map(|entry| entry.sequence).collect();
        assert_eq!(sequences, expected);
        let actions: Vec<u64> = found
            .iter()
            .map(|e| e.event.action.parse().unwrap())
            .collect();
        assert_eq!(actions, expected);
        bus.publish(numbered(0));
        assert_eq!(bus.after(total)[0].sequence, total + 1);
        assert_eq!(*bus.watch().borrow(), total + 1);
        // What the journal has is not kept twice, and nothing is lost by turning.
        bus.flush(&meta).await;
        bus.publish(numbered(1));
        drop(bus);
        for name in ["events.0", "events.1"] {
            let length = fs_err::metadata(directory.path().join(name)).unwrap().len();
            assert!(length < 2000, "{name}: {length}");
        }
        let bus = Bus::open(&meta, directory.path()).unwrap();
        let newest: Vec<u64> = bus.after(total).iter().map(|e| e.sequence).collect();
        assert_eq!(newest, [total + 1, total + 2]);
    }
}
