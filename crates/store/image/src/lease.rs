//! What is being brought in and belongs to no image yet: it must not be collected meanwhile.

use havre_types::{ChainId, Digest};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts of holders, of blobs and of chains.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) blobs: BTreeMap<Digest, usize>,
    pub(crate) chains: BTreeMap<ChainId, usize>,
}

/// All leases of one store.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<Held>);

impl Leases {
    /// The holders. Whoever removes things keeps this while it looks and removes, so that nothing
    /// can be taken under a lease in between.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Protects blobs and layers for as long as it lives.
#[derive(Debug)]
pub struct Lease {
    leases: Arc<Leases>,
    own: Mutex<(Vec<Digest>, Vec<ChainId>)>,
}

impl Lease {
    pub(crate) fn new(leases: Arc<Leases>) -> Self {
        Self {
            leases,
            own: Mutex::default(),
        }
    }

    /// Protects a blob, there or not yet. Call it before looking whether the blob is there.
    pub fn blob(&self, digest: &Digest) {
        *self.leases.lock().blobs.entry(digest.clone()).or_default() += 1;
        self.own
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .push(digest.clone());
    }

    /// Protects a layer and what lies below it, there or not yet. Call it for each layer of a chain.
    pub fn chain(&self, chain: &ChainId) {
        *self.leases.lock().chains.entry(chain.clone()).or_default() += 1;
        self.own
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .push(chain.clone());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let own = std::mem::take(&mut *self.own.lock().unwrap_or_else(PoisonError::into_inner));
        let mut held = self.leases.lock();
        for digest in own.0 {
            release(&mut held.blobs, &digest);
        }
        for chain in own.1 {
            release(&mut held.chains, &chain);
        }
    }
}

fn release<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_held_until_its_last_holder_goes() {
        let leases = Arc::new(Leases::default());
        let digest = Digest::sha256_of(b"x");
        let (one, two) = (
            Lease::new(Arc::clone(&leases)),
            Lease::new(Arc::clone(&leases)),
        );
        one.blob(&digest);
        two.blob(&digest);
        drop(one);
        assert!(leases.lock().blobs.contains_key(&digest));
        drop(two);
        assert!(leases.lock().blobs.is_empty());
    }
}
