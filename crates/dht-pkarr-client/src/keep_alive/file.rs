//! The file of packets that are kept alive: a table of `redb`. What changed is written and nothing else.

use core::time::Duration;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dht_pkarr::keep_alive::Status;
use dht_pkarr::{PublicKey, SignedPacket, Timestamp};
use redb::{ReadableTable as _, TableDefinition, TableHandle as _, WriteTransaction};

use crate::busy::lock;
use crate::database::{Database, StoreError};
use crate::keep_alive::{Keeper, Shared};
use crate::store::WRITE_EVERY;

/// By key: four numbers, and the packet.
const KEPT: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("pkarr-kept-1");
/// Stands for the time of a packet that was not published; times have 63 bits.
const NEVER: u64 = u64::MAX;
/// Stands for the copies of a packet that were not counted.
const NOT_COUNTED: u32 = u32::MAX;

/// Keys that are written at once: their packets are copied for that while nothing else can be done.
const MAX_AT_ONCE: usize = 1_024;

/// What the file is to have of a key; nothing if that is kept alive no more.
type Entry = Option<(SignedPacket, Status)>;

/// Which keys the file does not have as they are.
#[derive(Debug)]
pub(super) struct Unsaved {
    file: Arc<Database>,
    keys: BTreeSet<PublicKey>,
    /// When the file was written last, or could not be.
    tried: Instant,
}

impl Unsaved {
    /// All is as it is in the file.
    pub(super) fn new(file: Database) -> Self {
        Self { file: Arc::new(file), keys: BTreeSet::new(), tried: Instant::now() }
    }

    pub(super) fn note(&mut self, key: PublicKey) {
        self.keys.insert(key);
    }

    /// For how long nothing is to be written; `None` if nothing has changed.
    pub(super) fn wait(&self) -> Option<Duration> {
        (!self.keys.is_empty()).then(|| WRITE_EVERY.saturating_sub(self.tried.elapsed()))
    }

    /// The keys that are to be written now.
    fn take(&mut self) -> BTreeSet<PublicKey> {
        self.tried = Instant::now();
        let later = match self.keys.iter().nth(MAX_AT_ONCE).copied() {
            Some(first) => self.keys.split_off(&first),
            None => BTreeSet::new(),
        };
        core::mem::replace(&mut self.keys, later)
    }

    /// They could not be written, which is not tried again at once.
    fn put_back(&mut self, keys: BTreeSet<PublicKey>) {
        self.tried = Instant::now();
        self.keys.extend(keys);
    }
}

impl Keeper {
    fn entry(&self, key: &PublicKey) -> Entry {
        Some((self.packets.get(key)?.clone(), self.status(key)?))
    }
}

/// Opens a file, or makes it; returns it and what it has.
pub(super) fn open(path: &Path) -> Result<(Database, Vec<(SignedPacket, Status)>), StoreError> {
    let file = Database::open_or_make(path, &[KEPT.name()])?;
    let kept = file.write(read)?;
    let kept = kept.ok_or_else(|| StoreError::damaged(path, "it has what is no packet"))?;
    Ok((file, kept))
}

/// Writes what the file of a keeper, if it has one, does not have yet.
pub(super) fn save(keeper: &Shared) -> Result<(), StoreError> {
    let unsaved = |unsaved: &Unsaved| (Arc::clone(&unsaved.file), unsaved.keys.len());
    let Some((file, keys)) = lock(keeper).unsaved.as_ref().map(unsaved) else { return Ok(()) };
    (0..keys.div_ceil(MAX_AT_ONCE)).try_for_each(|_| save_some(keeper, &file))
}

fn save_some(keeper: &Shared, file: &Database) -> Result<(), StoreError> {
    let mut keys = BTreeSet::new();
    let written = file.write(|transaction| {
        // Not before it is our turn, or what was so before would be written over what is so now.
        let changes: Vec<_> = {
            let mut keeper = lock(keeper);
            keys = keeper.unsaved.as_mut().map(Unsaved::take).unwrap_or_default();
            keys.iter().map(|key| (*key, keeper.entry(key))).collect()
        };
        write(transaction, changes)
    });
    if written.is_err()
        && let Some(unsaved) = &mut lock(keeper).unsaved
    {
        unsaved.put_back(keys);
    }
    written
}

/// All that is kept alive; nothing if some of it is not what was written.
fn read(
    transaction: &WriteTransaction,
) -> Result<Option<Vec<(SignedPacket, Status)>>, redb::Error> {
    let mut all = Vec::new();
    for entry in transaction.open_table(KEPT)?.iter()? {
        let (key, value) = entry?;
        let Some(entry) = parse(key.value(), value.value()) else { return Ok(None) };
        all.push(entry);
    }
    Ok(Some(all))
}

fn write(
    transaction: &WriteTransaction,
    changes: Vec<(PublicKey, Entry)>,
) -> Result<(), redb::Error> {
    let mut kept = transaction.open_table(KEPT)?;
    for (key, entry) in changes {
        match entry {
            Some((packet, status)) => {
                kept.insert(key.as_bytes(), &*bytes(&packet, &status))?;
            }
            None => drop(kept.remove(key.as_bytes())?),
        }
    }
    Ok(())
}

fn bytes(packet: &SignedPacket, status: &Status) -> Vec<u8> {
    let published = status.published.map_or(NEVER, Timestamp::as_micros);
    let verified = status.verified.unwrap_or(NOT_COUNTED);
    let mut bytes = published.to_be_bytes().to_vec();
    for count in [status.stored, verified, status.failures] {
        bytes.extend_from_slice(&count.to_be_bytes());
    }
    bytes.extend_from_slice(packet.as_bytes());
    bytes
}

/// Reads back [`bytes`], and verifies the packet.
fn parse(key: &[u8; 32], bytes: &[u8]) -> Option<(SignedPacket, Status)> {
    let (published, bytes) = bytes.split_first_chunk()?;
    let (stored, bytes) = bytes.split_first_chunk()?;
    let (verified, bytes) = bytes.split_first_chunk()?;
    let (failures, bytes) = bytes.split_first_chunk()?;
    let mut status = Status::default();
    status.published = Timestamp::from_micros(u64::from_be_bytes(*published));
    status.stored = u32::from_be_bytes(*stored);
    status.verified = Some(u32::from_be_bytes(*verified)).filter(|count| *count != NOT_COUNTED);
    status.failures = u32::from_be_bytes(*failures);
    let packet = SignedPacket::from_bytes(bytes).ok()?;
    (packet.public_key().as_bytes() == key).then_some((packet, status))
}

#[cfg(test)]
mod tests;
