//! The cache that clients share.

use core::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dht_pkarr::cache::Cache;
use dht_pkarr::{CachedPacket, PublicKey};

/// Packets that a cache keeps unless it is told otherwise.
pub const DEFAULT_CAPACITY: usize = 1_000;

/// A cache of packets. Clones are cheap and share the packets.
#[derive(Clone)]
pub struct PacketCache {
    memory: Arc<Mutex<Cache>>,
}

impl PacketCache {
    /// A cache in memory for so many packets, of some 1,300 bytes at most; 0 keeps none.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { memory: Arc::new(Mutex::new(Cache::new(capacity))) }
    }

    /// The packet of a key, which counts as used. It may have expired.
    #[must_use]
    pub fn get(&self, key: &PublicKey) -> Option<CachedPacket> {
        self.lock().get(key).cloned()
    }

    /// Keeps a packet, unless a newer one of its key is there.
    pub fn put(&self, packet: CachedPacket) {
        self.lock().put(packet);
    }

    /// Forgets the packet of a key.
    pub fn remove(&self, key: &PublicKey) {
        self.lock().remove(key);
    }

    /// How many packets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many packets there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.lock().capacity()
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // No code panics while holding the lock, so the cache is whole even if a thread died.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for PacketCache {
    /// In memory, for [`DEFAULT_CAPACITY`] packets.
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl fmt::Debug for PacketCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketCache")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish()
    }
}
