//! Ends that are on their way out. Whoever looks sees a container as ended a little before its addresses, ports and memberships
//! are free; who needs them waits for that moment instead of being refused.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use havre_api_traits::ApiResult;
use havre_types::ErrorKind;

use super::live::Live;

/// A departure that takes longer holds up nobody.
const PATIENCE: Duration = Duration::from_secs(10);

/// The departures of an engine.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    inner: Mutex<Inner>,
    one_is_over: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    under_way: BTreeSet<u64>,
}

/// What a container had, until all of it is given back.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub live: Arc<Live>,
    number: u64,
    of: Arc<Departures>,
}

impl Departures {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before anybody sees the end of the container.
    pub(crate) fn begin(self: &Arc<Self>, live: Arc<Live>) -> Leaving {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.under_way.insert(number);
        drop(inner);
        Leaving {
            live,
            number,
            of: Arc::clone(self),
        }
    }

    /// Waits for those that have begun; false when there were none, so that asking again is of no use.
    pub(crate) fn wait(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut inner = self.lock();
        if inner.under_way.is_empty() {
            return false;
        }
        let now = inner.next;
        while inner.under_way.range(..now).next().is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.one_is_over.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Does what may fail because of what is about to be free.
    pub(crate) fn patiently<T>(&self, mut work: impl FnMut() -> ApiResult<T>) -> ApiResult<T> {
        // One that is over by the time of the refusal may have been the reason for it.
        let under_way = !self.lock().under_way.is_empty();
        match work() {
            Err(error) if may_heal(error.kind) && (self.wait() || under_way) => work(),
            other => other,
        }
    }
}

/// What is wrong with the request stays wrong.
fn may_heal(kind: ErrorKind) -> bool {
    !matches!(kind, ErrorKind::NotFound | ErrorKind::InvalidParameter)
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.of.lock().under_way.remove(&self.number);
        self.of.one_is_over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use havre_api_traits::ApiError;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn who_is_refused_waits_for_departures_and_for_nothing_else() {
        let departures = Arc::new(Departures::default());
        assert!(!departures.wait());
        let mut tries = 0;
        let refused: ApiResult<()> = departures.patiently(|| {
            tries += 1;
            Err(ApiError::conflict("taken"))
        });
        assert_eq!((refused.is_err(), tries), (true, 1));
        let leaving = departures.begin(Arc::default());
        let wrong: ApiResult<()> = departures.patiently(|| Err(ApiError::not_found("nothing")));
        assert!(wrong.is_err());
        let (send, first) = mpsc::channel();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut tries = 0;
                departures.patiently(|| {
                    tries += 1;
                    send.send(tries).unwrap();
                    if tries == 1 {
                        Err(ApiError::conflict("taken"))
                    } else {
                        Ok(tries)
                    }
                })
            });
            assert_eq!(first.recv(), Ok(1));
            drop(leaving);
            assert_eq!(waiting.join().unwrap(), Ok(2));
        });
    }
}
