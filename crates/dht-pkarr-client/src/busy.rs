//! Keys that are looked up in the background, each once at a time, and locks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dht_pkarr::PublicKey;

/// Keys being looked up; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Busy {
    keys: Arc<Mutex<BTreeSet<PublicKey>>>,
    most: usize,
}

/// A key being looked up, until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    key: PublicKey,
    busy: Busy,
}

impl Busy {
    /// At most so many at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self { keys: Arc::default(), most }
    }

    /// `None` if this key is being looked up already, or too many are.
    pub(crate) fn claim(&self, key: PublicKey) -> Option<Claim> {
        let mut keys = lock(&self.keys);
        let has_room = keys.len() < self.most;
        (has_room && keys.insert(key)).then(|| Claim { key, busy: self.clone() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.busy.keys).remove(&self.key);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code of ours panics while holding a lock, so what it guards is whole even if a thread died.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use dht_pkarr::Keypair;

    use super::*;

    #[test]
    fn a_key_is_claimed_once_and_not_too_many_are() {
        let key = |number| Keypair::from_secret(&[number; 32]).public_key();
        let busy = Busy::new(2);
        let first = busy.claim(key(1));
        assert!(first.is_some() && busy.claim(key(1)).is_none());
        let second = busy.claim(key(2));
        assert!(second.is_some() && busy.claim(key(3)).is_none());
        drop(first);
        assert!(busy.claim(key(3)).is_some() && busy.claim(key(2)).is_none());
    }
}
