//! What each writer writes: known to its readers without any word between them.

use dht_proto::id::{InfoHash, ItemId};
use dht_proto::item::bencode_bytes;
use ed25519_dalek::SigningKey;

use super::Operation;
use crate::interop::{Kind, Mutable};

/// The salt of salted items.
const SALT: &[u8] = b"a salt";

/// Everything that a writer of one kind writes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    writer: Kind,
}

impl Plan {
    /// The plan of a writer.
    #[must_use]
    pub const fn of(writer: Kind) -> Self {
        Self { writer }
    }

    /// The torrent it announces in an operation.
    #[must_use]
    pub fn info_hash(self, operation: Operation) -> InfoHash {
        let seed = format!("{} {}", self.writer, operation.name());
        InfoHash::from_bytes(*ItemId::of_immutable(seed.as_bytes()).as_bytes())
    }

    /// The TCP port it announces.
    #[must_use]
    pub const fn port(self) -> u16 {
        10_000 + self.writer as u16
    }

    /// Its immutable value.
    #[must_use]
    pub fn immutable(self) -> Vec<u8> {
        format!("an immutable item by {}", self.writer).into_bytes()
    }

    /// The id of its immutable value.
    #[must_use]
    pub fn immutable_id(self) -> ItemId {
        ItemId::of_immutable(&bencode_bytes(&self.immutable()))
    }

    /// The version `seq` of its mutable item of an operation.
    #[must_use]
    pub fn mutable(self, operation: Operation, seq: i64) -> Mutable {
        // A key of its own for each operation, so that they run side by side; the salted item
        // has the key of the unsalted one, so that only the salt tells them apart.
        let key = match operation {
            Operation::Salted => Operation::Mutable,
            Operation::Stale => Operation::Newer,
            other => other,
        };
        let salt = if operation == Operation::Salted { SALT } else { b"" };
        Mutable {
            key: SigningKey::from_bytes(&[16 * (self.writer as u8 + 1) + key as u8; 32]),
            salt: salt.to_vec(),
            seq,
            cas: None,
            value: format!("{} by {}, version {seq}", operation.name(), self.writer).into_bytes(),
        }
    }
}
