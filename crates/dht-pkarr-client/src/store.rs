//! The cache on disk, in a file of `redb`.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use dht_pkarr::{CachedPacket, PublicKey};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition,
};

use crate::clock::now;

/// Time between two writes, each of which is durable. A crash loses no more than that.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// What waits to be written, at most. What comes faster than the disk takes it stays in memory only.
const MAX_WAITING: usize = 8_192;

/// By key: the number of the last use, eight bytes, then the packet as [`CachedPacket::to_bytes`] has it.
const PACKETS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("packets");
/// Keys by the number of their last use.
const USES: TableDefinition<'_, u64, &[u8; 32]> = TableDefinition::new("uses");

/// Why there is no cache on disk.
#[derive(Debug)]
#[non_exhaustive]
pub struct StoreError(redb::Error);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cache cannot be opened: {}", self.0)
    }
}

impl core::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Packets on disk, at most so many. Those go that were not used for longest. Dropping it writes what waits.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    capacity: u64,
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    packets: BTreeMap<PublicKey, CachedPacket>,
    stop: bool,
}

impl Store {
    pub(crate) fn open(path: &Path, capacity: usize) -> Result<Self, StoreError> {
        let shared = Shared::open(path, capacity as u64).map(Arc::new).map_err(StoreError)?;
        let writing = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("pkarr-cache".to_owned())
            .spawn(move || writing.write_now_and_then())
            .map_err(|error| StoreError(redb::Error::Io(error)))?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// The packet of a key, which counts as used.
    pub(crate) fn get(&self, key: &PublicKey) -> Option<CachedPacket> {
        if let Some(waiting) = self.shared.lock().packets.get(key) {
            return Some(waiting.clone());
        }
        // What cannot be read is not there: it is a cache.
        let found = self.shared.read(key).ok().flatten()?;
        self.put(found.clone());
        Some(found)
    }

    /// Keeps a packet, which the caller knows to be the newest.
    pub(crate) fn put(&self, packet: CachedPacket) {
        let mut waiting = self.shared.lock();
        let key = packet.packet.public_key();
        if waiting.packets.len() < MAX_WAITING || waiting.packets.contains_key(&key) {
            waiting.packets.insert(key, packet);
        }
    }

    pub(crate) fn remove(&self, key: &PublicKey) {
        self.shared.lock().packets.remove(key);
        drop(self.shared.remove(key));
    }

    /// How many packets are written.
    pub(crate) fn len(&self) -> usize {
        self.shared.len().unwrap_or_default() as usize
    }

    pub(crate) fn capacity(&self) -> usize {
        self.shared.capacity as usize
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

impl Shared {
    fn open(path: &Path, capacity: u64) -> Result<Self, redb::Error> {
        let database = Database::create(path)?;
        // Readers expect the tables to be there.
        let transaction = database.begin_write()?;
        transaction.open_table(PACKETS)?;
        transaction.open_table(USES)?;
        transaction.commit()?;
        let (waiting, wake) = (Mutex::default(), Condvar::new());
        Ok(Self { database, capacity, waiting, wake })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code panics while holding the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_now_and_then(&self) {
        loop {
            let waited =
                self.wake.wait_timeout_while(self.lock(), WRITE_EVERY, |waiting| !waiting.stop);
            let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let stop = waiting.stop;
            // They stay to be found until they are on disk.
            let batch = waiting.packets.clone();
            drop(waiting);
            if !batch.is_empty() {
                // What could not be written is tried no more: it is a cache, and the disk is full.
                drop(self.write(&batch));
                waiting = self.lock();
                waiting.packets.retain(|key, packet| batch.get(key) != Some(packet));
                drop(waiting);
            }
            if stop {
                return;
            }
        }
    }

    fn write(&self, batch: &BTreeMap<PublicKey, CachedPacket>) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        // After a crash the file is open at once.
        transaction.set_quick_repair(true);
        {
            let mut packets = transaction.open_table(PACKETS)?;
            let mut uses = transaction.open_table(USES)?;
            let mut number = uses.last()?.map_or(0, |(number, _)| number.value());
            for (key, packet) in batch {
                number += 1;
                let value = [&number.to_be_bytes()[..], &packet.to_bytes()].concat();
                let before = packets.insert(key.as_bytes(), &*value)?;
                if let Some(used) = before.and_then(|before| split(before.value()).map(|it| it.0)) {
                    uses.remove(used)?;
                }
                uses.insert(number, key.as_bytes())?;
            }
            while packets.len()? > self.capacity {
                let Some((_, oldest)) = uses.pop_first()? else { break };
                packets.remove(oldest.value())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn read(&self, key: &PublicKey) -> Result<Option<CachedPacket>, redb::Error> {
        let packets = self.database.begin_read()?.open_table(PACKETS)?;
        let found = packets.get(key.as_bytes())?;
        Ok(found.and_then(|value| {
            let (_, bytes) = split(value.value())?;
            // It was verified before it was written, and the file is ours.
            let packet = CachedPacket::from_trusted_bytes(bytes, now()).ok()?;
            (packet.packet.public_key() == *key).then_some(packet)
        }))
    }

    fn remove(&self, key: &PublicKey) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut packets = transaction.open_table(PACKETS)?;
            let mut uses = transaction.open_table(USES)?;
            let before = packets.remove(key.as_bytes())?;
            if let Some(used) = before.and_then(|before| split(before.value()).map(|it| it.0)) {
                uses.remove(used)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn len(&self) -> Result<u64, redb::Error> {
        Ok(self.database.begin_read()?.open_table(PACKETS)?.len()?)
    }
}

/// The number of the last use, and the packet.
fn split(value: &[u8]) -> Option<(u64, &[u8])> {
    let (number, packet) = value.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), packet))
}
