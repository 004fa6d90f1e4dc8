//! The cache that clients share.

use core::fmt;
#[cfg(feature = "store")]
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use dht_pkarr::cache::Cache;
use dht_pkarr::{CachedPacket, PublicKey};

use crate::busy::lock;
#[cfg(feature = "store")]
use crate::database::StoreError;
#[cfg(feature = "store")]
use crate::store::{Queued, Store};

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
    /// last ones of them in memory. The file is checked first.
    ///
    /// It is written every few seconds, and when the last clone is dropped; a crash loses what came
    /// since. Only one process can have the file open. A packet takes some 2,600 bytes of it at most.
    ///
    /// # Errors
    /// If the file cannot be opened, is damaged, or is something else; it is left as it is.
    #[cfg(feature = "store")]
    pub fn open(
        path: impl AsRef<Path>,
        capacity: usize,
        memory: usize,
    ) -> Result<Self, StoreError> {
        let memory = Arc::new(Mutex::new(Cache::new(memory.min(capacity).max(1))));
        let store = Store::open(path.as_ref(), capacity, &memory)?;
        Ok(Self { memory, store: Some(Arc::new(store)) })
    }

    /// Whether packets are in a file too, so that [`get`](Self::get) may read the disk.
    #[must_use]
    pub fn has_file(&self) -> bool {
        #[cfg(feature = "store")]
        {
            self.store.is_some()
        }
        #[cfg(not(feature = "store"))]
        {
            false
        }
    }

    /// The packet of a key, which counts as used. It may have expired. May read the disk, for which an
    /// async program has a thread (`blocking::unblock`), or [`recent`](Self::recent).
    #[must_use]
    pub fn get(&self, key: &PublicKey) -> Option<CachedPacket> {
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            return self.get_stored(store, key);
        }
        self.lock().get(key).cloned()
    }

    #[cfg(feature = "store")]
    fn get_stored(&self, store: &Store, key: &PublicKey) -> Option<CachedPacket> {
        let removals = {
            let mut memory = self.lock();
            match find(&mut memory, store, key) {
                Queued::Packet(packet) => return Some(packet),
                Queued::Removed => return None,
                Queued::Unknown(removals) => removals,
            }
        };
        let found = store.read(key)?;
        let mut memory = self.lock();
        // Meanwhile somebody may have put a newer one, or removed this one.
        if let Some(known) = memory.get(key) {
            return Some(known.clone());
        }
        if store.keep_read(&found, removals) {
            memory.put(found.clone());
        }
        Some(found)
    }

    /// The packet of a key if it is in memory, which counts as used. Never waits for the disk.
    #[must_use]
    pub fn recent(&self, key: &PublicKey) -> Option<CachedPacket> {
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            return match find(&mut self.lock(), store, key) {
                Queued::Packet(packet) => Some(packet),
                Queued::Removed | Queued::Unknown(_) => None,
            };
        }
        self.get(key)
    }

    /// Keeps a packet, unless a newer one of its key is there. Never waits for the disk: if the newer
    /// one is there only, this is found out when it is written, and the newer one counts from then on.
    pub fn put(&self, packet: CachedPacket) {
        let mut memory = self.lock();
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            let key = packet.packet.public_key();
            // What waits to be written may be newer.
            drop(find(&mut memory, store, &key));
            if memory.put(packet)
                && let Some(kept) = memory.peek(&key)
            {
                store.put(kept.clone());
            }
            return;
        }
        memory.put(packet);
    }

    /// Forgets the packet of a key. Waits until the file has forgotten it, too; if it cannot be
    /// written, it has not.
    pub fn remove(&self, key: &PublicKey) {
        let mut memory = self.lock();
        memory.remove(key);
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            store.remove(*key);
            drop(memory);
            // Who wants to know asks `flush`.
            drop(store.flush());
        }
    }

    /// Waits until all that was put so far is on disk.
    ///
    /// # Errors
    /// If the file cannot be written.
    #[cfg(feature = "store")]
    pub fn flush(&self) -> Result<(), StoreError> {
        self.store.as_ref().map_or(Ok(()), |store| store.flush())
    }

    /// How often the file could not be read or written.
    #[must_use]
    pub fn failures(&self) -> u64 {
        #[cfg(feature = "store")]
        {
            self.store.as_ref().map_or(0, |store| store.failures())
        }
        #[cfg(not(feature = "store"))]
        {
            0
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
        lock(&self.memory)
    }
}

/// What there is of a key without the disk. What only waits to be written is in memory again.
#[cfg(feature = "store")]
fn find(memory: &mut Cache, store: &Store, key: &PublicKey) -> Queued {
    if let Some(known) = memory.get(key) {
        return Queued::Packet(known.clone());
    }
    let queued = store.queued(key);
    if let Queued::Packet(packet) = &queued {
        memory.put(packet.clone());
    }
    queued
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
