//! The cache on disk, in a file of `redb`.
//!
//! Changes wait in a queue, which a thread of the store's own writes every few seconds; nobody else
//! waits for the disk but who reads a packet that is nowhere else, or calls [`Store::flush`].

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use dht_pkarr::cache::Cache;
use dht_pkarr::{CachedPacket, PublicKey};

use crate::busy::lock;
use crate::database::StoreError;

mod file;

use file::{File, Written};

/// Time between two writes, each of which is durable. A crash loses no more than that.
pub(crate) const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Packets that wait to be written, at most. What comes faster than the disk takes it stays in memory
/// only.
const MAX_WAITING: usize = 8_192;
/// With so many, it is time to write.
const MANY_WAITING: usize = MAX_WAITING / 2;

/// What is to become of the packet of a key.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// To be kept, unless a newer one is on disk.
    packet: Option<CachedPacket>,
    /// What is on disk goes in any case.
    removes: bool,
}

type Changes = BTreeMap<PublicKey, Change>;

/// What is known of a key without looking at the disk.
#[derive(Debug)]
pub(crate) enum Queued {
    /// This packet is to be written.
    Packet(CachedPacket),
    /// It is to be removed.
    Removed,
    /// Nothing. The number is for [`Store::keep_read`].
    Unknown(u64),
}

/// Packets on disk, at most so many. Those go that were not used for longest. Dropping it writes what
/// waits.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    file: File,
    /// Locked before the queue, if both are.
    memory: Arc<Mutex<Cache>>,
    queue: Mutex<Queue>,
    /// There is something to write now, or to stop.
    wake: Condvar,
    /// A batch has been written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Changes,
    /// The batch that is being written; it counts until it is on disk.
    writing: Arc<Changes>,
    /// Batches that were begun.
    begun: u64,
    /// Batches that have ended, in whatever way.
    ended: u64,
    /// Somebody waits for the next batch to end.
    hurry: bool,
    stop: bool,
    /// There is no writer any more.
    gone: bool,
    /// Removals so far: what was read before one may be what it removes.
    removals: u64,
    /// Packets in the file.
    len: u64,
    /// Reads and writes that failed.
    failures: u64,
    /// Why the last write failed, if it did.
    failed: Option<StoreError>,
}

impl Store {
    pub(crate) fn open(
        path: &Path,
        capacity: usize,
        memory: &Arc<Mutex<Cache>>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::open(path, capacity, memory)?);
        let writing = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("pkarr-cache".to_owned())
            .spawn(move || writing.write_now_and_then())
            .map_err(|error| StoreError::new(&shared.path, &redb::Error::Io(error)))?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// What waits to be done for a key.
    pub(crate) fn queued(&self, key: &PublicKey) -> Queued {
        let queue = self.shared.lock();
        match queue.waiting.get(key).or_else(|| queue.writing.get(key)) {
            Some(Change { packet: Some(packet), .. }) => Queued::Packet(packet.clone()),
            Some(Change { packet: None, .. }) => Queued::Removed,
            None => Queued::Unknown(queue.removals),
        }
    }

    /// Reads the packet of a key from the disk. What cannot be read is not there: it is a cache.
    pub(crate) fn read(&self, key: &PublicKey) -> Option<CachedPacket> {
        self.shared.file.read(key).unwrap_or_else(|_| {
            self.shared.lock().failures += 1;
            None
        })
    }

    /// Takes note that a packet that was read is in use, unless it was removed after [`Store::queued`]
    /// gave this number. Returns whether it may be kept elsewhere.
    pub(crate) fn keep_read(&self, packet: &CachedPacket, removals: u64) -> bool {
        let mut queue = self.shared.lock();
        if queue.removals != removals {
            return false;
        }
        queue.put(packet.clone());
        true
    }

    /// Keeps a packet, unless there is a newer one.
    pub(crate) fn put(&self, packet: CachedPacket) {
        let mut queue = self.shared.lock();
        queue.put(packet);
        if queue.waiting.len() >= MANY_WAITING {
            self.shared.wake.notify_all();
        }
    }

    /// Takes note that a packet is to be removed; [`Store::flush`] makes sure of it.
    pub(crate) fn remove(&self, key: PublicKey) {
        let mut queue = self.shared.lock();
        queue.removals += 1;
        // There are no more of these than threads that wait for one.
        queue.waiting.insert(key, Change { packet: None, removes: true });
    }

    /// Waits until all that was kept and removed so far is on disk.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let mut queue = self.shared.lock();
        let batch = if queue.waiting.is_empty() {
            queue.begun
        } else {
            queue.hurry = true;
            self.shared.wake.notify_all();
            queue.begun + 1
        };
        while queue.ended < batch && !queue.gone {
            queue = self.shared.written.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        match &queue.failed {
            Some(error) => Err(error.clone()),
            None if queue.gone => Err(StoreError::gone(&self.shared.path)),
            None => Ok(()),
        }
    }

    /// How many packets are written.
    pub(crate) fn len(&self) -> usize {
        self.shared.lock().len as usize
    }

    pub(crate) fn capacity(&self) -> usize {
        self.shared.file.capacity() as usize
    }

    /// How many reads and writes failed.
    pub(crate) fn failures(&self) -> u64 {
        self.shared.lock().failures
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
        // A panic of the writer has been reported by the panic hook.
        drop(self.writer.take().map(JoinHandle::join));
    }
}

impl Queue {
    /// All that waits, to be written now.
    fn begin(&mut self) -> Option<Arc<Changes>> {
        self.hurry = false;
        if self.waiting.is_empty() {
            return None;
        }
        self.begun += 1;
        self.writing = Arc::new(core::mem::take(&mut self.waiting));
        Some(Arc::clone(&self.writing))
    }

    fn put(&mut self, packet: CachedPacket) {
        let key = packet.packet.public_key();
        if let Some(change) = self.waiting.get_mut(&key) {
            // What is on disk goes even so, if it was to go.
            match &mut change.packet {
                Some(known) => drop(known.update(packet)),
                none => *none = Some(packet),
            }
        } else if self.waiting.len() < MAX_WAITING && !self.gone {
            self.waiting.insert(key, Change { packet: Some(packet), removes: false });
        }
    }
}

impl Shared {
    fn open(path: &Path, capacity: usize, memory: &Arc<Mutex<Cache>>) -> Result<Self, StoreError> {
        let (file, len) = File::open(path, capacity as u64)?;
        let queue = Mutex::new(Queue { len, ..Queue::default() });
        let (path, memory) = (path.to_owned(), Arc::clone(memory));
        Ok(Self { path, file, memory, queue, wake: Condvar::new(), written: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    fn write_now_and_then(&self) {
        let _gone = Gone(self);
        loop {
            let waited = self.wake.wait_timeout_while(self.lock(), WRITE_EVERY, |queue| {
                !queue.stop && !queue.hurry && queue.waiting.len() < MANY_WAITING
            });
            let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let stop = queue.stop;
            let batch = queue.begin();
            drop(queue);
            if let Some(batch) = batch {
                self.write(&batch);
            }
            if stop {
                return;
            }
        }
    }

    fn write(&self, batch: &Changes) {
        let changes = batch.iter().map(|(key, change)| {
            let packet = change.packet.as_ref();
            (key, packet, change.removes)
        });
        let result = self.file.write(changes);
        let mut memory = lock(&self.memory);
        let mut queue = self.lock();
        queue.ended += 1;
        queue.writing = Arc::default();
        queue.failed = match result {
            Ok(Written { len, newer }) => {
                queue.len = len;
                for packet in newer {
                    let key = packet.packet.public_key();
                    // Whoever removed it since does not want it back.
                    let removed = queue.waiting.get(&key).is_some_and(|change| change.removes);
                    if !removed && memory.peek(&key).is_some() {
                        memory.put(packet);
                    }
                }
                None
            }
            Err(error) => {
                // What could not be written is tried no more: it is a cache, and the disk is full.
                queue.failures += 1;
                Some(error)
            }
        };
        drop((memory, queue));
        self.written.notify_all();
    }
}

#[cfg(test)]
mod tests;

/// Says that the writer has ended, even if it panicked.
struct Gone<'a>(&'a Shared);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.lock().gone = true;
        self.0.written.notify_all();
    }
}
