//! The tables of the file.

use std::path::Path;

use dht_pkarr::{CachedPacket, PublicKey};
use redb::{
    ReadableTable as _, ReadableTableMetadata as _, Table, TableDefinition, TableHandle as _,
    WriteTransaction,
};

use crate::clock::now;
use crate::database::{Database, StoreError};

/// By key: the number of the last use, eight bytes, then the packet as [`CachedPacket::to_bytes`] has it.
const PACKETS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("pkarr-packets-1");
/// Keys by the number of their last use.
const USES: TableDefinition<'_, u64, &[u8; 32]> = TableDefinition::new("pkarr-uses-1");

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    database: Database,
    capacity: u64,
}

/// What a write came to.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Packets in the file.
    pub(super) len: u64,
    /// Packets in the file that are newer than what was to be written.
    pub(super) newer: Vec<CachedPacket>,
}

impl File {
    /// Opens a file, or makes it; returns it and how many packets it has.
    pub(super) fn open(path: &Path, capacity: u64) -> Result<(Self, u64), StoreError> {
        let database = Database::open_or_make(path, &[PACKETS.name(), USES.name()])?;
        let file = Self { database, capacity };
        // Readers expect the tables to be there; and there may be less room than before.
        let written = file.write(core::iter::empty())?;
        Ok((file, written.len))
    }

    pub(super) const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// As after a write that failed.
    #[cfg(test)]
    pub(super) fn close(&self) {
        self.database.close();
    }

    /// The packet of a key.
    pub(super) fn read(&self, key: &PublicKey) -> Result<Option<CachedPacket>, StoreError> {
        self.database.read(|transaction| {
            let packets = transaction.open_table(PACKETS)?;
            let found = packets.get(key.as_bytes())?;
            Ok(found.and_then(|value| packet_of(key, split(value.value())?.1)))
        })
    }

    /// Writes changes, all of them or none: a key, the packet to be kept for it, unless a newer one is
    /// there, and whether what is there goes in any case.
    pub(super) fn write<'a>(
        &self,
        changes: impl Iterator<Item = (&'a PublicKey, Option<&'a CachedPacket>, bool)>,
    ) -> Result<Written, StoreError> {
        self.database.write(|transaction| self.write_in(transaction, changes))
    }

    fn write_in<'a>(
        &self,
        transaction: &WriteTransaction,
        changes: impl Iterator<Item = (&'a PublicKey, Option<&'a CachedPacket>, bool)>,
    ) -> Result<Written, redb::Error> {
        let mut written = Written::default();
        let mut tables = Tables::open(transaction)?;
        for (key, packet, removes) in changes {
            let before = tables.take(key)?.filter(|_| !removes);
            let Some(packet) = packet else { continue };
            let mut kept = packet.clone();
            if let Some(before) = before {
                let newer = before.packet.more_recent_than(&packet.packet);
                kept.update(before);
                if newer {
                    written.newer.push(kept.clone());
                }
            }
            tables.put(key, &kept)?;
        }
        tables.trim(self.capacity)?;
        written.len = tables.packets.len()?;
        Ok(written)
    }
}

/// Both tables: each packet has one use, and each use a packet.
struct Tables<'a> {
    packets: Table<'a, &'static [u8; 32], &'static [u8]>,
    uses: Table<'a, u64, &'static [u8; 32]>,
    /// Of the last use.
    number: u64,
}

impl<'a> Tables<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, redb::Error> {
        let packets = transaction.open_table(PACKETS)?;
        let uses = transaction.open_table(USES)?;
        let number = uses.last()?.map_or(0, |(number, _)| number.value());
        Ok(Self { packets, uses, number })
    }

    /// Removes the packet of a key.
    fn take(&mut self, key: &PublicKey) -> Result<Option<CachedPacket>, redb::Error> {
        let Some(value) = self.packets.remove(key.as_bytes())? else { return Ok(None) };
        let Some((used, packet)) = split(value.value()) else { return Ok(None) };
        self.uses.remove(used)?;
        Ok(packet_of(key, packet))
    }

    fn put(&mut self, key: &PublicKey, packet: &CachedPacket) -> Result<(), redb::Error> {
        self.number += 1;
        let value = [&self.number.to_be_bytes()[..], &packet.to_bytes()].concat();
        self.packets.insert(key.as_bytes(), &*value)?;
        self.uses.insert(self.number, key.as_bytes())?;
        Ok(())
    }

    /// Removes what was not used for longest, until there are no more than so many.
    fn trim(&mut self, capacity: u64) -> Result<(), redb::Error> {
        while self.packets.len()? > capacity {
            let Some((_, oldest)) = self.uses.pop_first()? else { break };
            self.packets.remove(oldest.value())?;
        }
        Ok(())
    }
}

/// The number of the last use, and the packet.
fn split(value: &[u8]) -> Option<(u64, &[u8])> {
    let (number, packet) = value.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), packet))
}

/// A packet of a key. Its signature is checked: whatever happens to the file, nobody is told what the
/// key's owner did not say.
fn packet_of(key: &PublicKey, bytes: &[u8]) -> Option<CachedPacket> {
    let packet = CachedPacket::from_bytes(bytes, now()).ok()?;
    (packet.packet.public_key() == *key).then_some(packet)
}
