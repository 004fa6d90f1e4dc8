//! The cache that clients share.

use core::fmt;
#[cfg(feature = "store")]
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dht_pkarr::cache::Cache;
use dht_pkarr::{CachedPacket, PublicKey};

#[cfg(feature = "store")]
use crate::store::{Store, StoreError};

/// Packets that a cache keeps unless it is told otherwise.
pub const DEFAULT_CAPACITY: usize = 1_000;

/// A cache of packets. Clones are cheap and share the packets.
#[derive(Clone)]
pub struct PacketCache {
    memory: Arc<Mutex<Cache>>,
    #[cfg(feature = "store")]
    store: Option<Arc<Store>>,
}

impl PacketCache {
    /// A cache in memory for so many packets, of some 1,300 bytes at most; 0 keeps none.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            memory: Arc::new(Mutex::new(Cache::new(capacity))),
            #[cfg(feature = "store")]
            store: None,
        }
    }

    /// A cache for `capacity` packets in a file, which is made if it is not there, and of the `memory`
    /// last ones of them in memory.
    ///
    /// It is written every few seconds, and when the last clone is dropped; a crash loses what came
    /// since. Only one process can have the file open.
    ///
    /// # Errors
    /// If the file cannot be opened, or is something else.
    #[cfg(feature = "store")]
    pub fn open(
        path: impl AsRef<Path>,
        capacity: usize,
        memory: usize,
    ) -> Result<Self, StoreError> {
        let store = Store::open(path.as_ref(), capacity)?;
        Ok(Self { store: Some(Arc::new(store)), ..Self::new(memory.min(capacity).max(1)) })
    }

    /// The packet of a key, which counts as used. It may have expired. May read the disk.
    #[must_use]
    pub fn get(&self, key: &PublicKey) -> Option<CachedPacket> {
        let found = self.lock().get(key).cloned();
        #[cfg(feature = "store")]
        if let (None, Some(store)) = (&found, &self.store) {
            let found = store.get(key)?;
            // Somebody else may have put a newer one meanwhile.
            self.lock().put(found);
            return self.lock().peek(key).cloned();
        }
        found
    }

    /// Keeps a packet, unless a newer one of its key is there. May read the disk.
    pub fn put(&self, packet: CachedPacket) {
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            // What is on disk may be newer.
            let key = packet.packet.public_key();
            drop(self.get(&key));
            let mut memory = self.lock();
            if memory.put(packet)
                && let Some(kept) = memory.peek(&key)
            {
                store.put(kept.clone());
            }
            return;
        }
        self.lock().put(packet);
    }

    /// Forgets the packet of a key.
    pub fn remove(&self, key: &PublicKey) {
        self.lock().remove(key);
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            store.remove(key);
        }
    }

    /// How many packets there are; of a file, how many are written.
    #[must_use]
    pub fn len(&self) -> usize {
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            return store.len();
        }
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
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            return store.capacity();
        }
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
