//! The newest of what many nodes and relays answered for one key.

use alloc::vec::Vec;

use dht_proto::item::{Item, Version};

use crate::key::PublicKey;
use crate::packet::{ItemError, SignedPacket};

/// Collects answers for a key and keeps the newest.
///
/// A newer item that is no packet supersedes older packets: the owner of the key stored it, so
/// handing out an older packet would show what is no longer so. It is reported as an error.
#[derive(Clone, Debug)]
pub struct Newest {
    key: PublicKey,
    found: Option<Result<SignedPacket, ItemError>>,
    /// Seq and value of an item that is no packet; a packet knows its own.
    other: (i64, Vec<u8>),
}

impl Newest {
    /// Nothing known of a key yet.
    #[must_use]
    pub const fn new(key: PublicKey) -> Self {
        Self { key, found: None, other: (i64::MIN, Vec::new()) }
    }

    /// Takes an item that a lookup in the DHT found. Returns whether it is the newest so far.
    ///
    /// # Errors
    /// [`ItemError::Unrelated`] if it does not belong to the key, and is as if it never came.
    pub fn handle_item(&mut self, item: &Item) -> Result<bool, ItemError> {
        let found = SignedPacket::from_item(&self.key, item);
        match found {
            Ok(packet) => self.handle_packet(packet),
            Err(ItemError::Unrelated) => Err(ItemError::Unrelated),
            Err(error @ ItemError::NotAPacket { seq, .. }) => {
                let newer = self.found.is_none() || item.version() > Some(self.version());
                if newer {
                    self.other = (seq, item.value().to_vec());
                    self.found = Some(Err(error));
                }
                Ok(newer)
            }
        }
    }

    /// Takes a packet, from a relay or a cache. Returns whether it is the newest so far.
    ///
    /// # Errors
    /// [`ItemError::Unrelated`] if it does not belong to the key, and is as if it never came.
    pub fn handle_packet(&mut self, packet: SignedPacket) -> Result<bool, ItemError> {
        if packet.public_key() != self.key {
            return Err(ItemError::Unrelated);
        }
        let newer = self.found.is_none() || packet.version() > self.version();
        if newer {
            self.found = Some(Ok(packet));
        }
        Ok(newer)
    }

    /// Whose packet is looked for.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }

    /// The newest so far.
    #[must_use]
    pub const fn found(&self) -> Option<&Result<SignedPacket, ItemError>> {
        self.found.as_ref()
    }

    /// The newest of all: a packet, an item that is none, or nothing.
    ///
    /// # Errors
    /// [`ItemError::NotAPacket`].
    pub fn into_found(self) -> Result<Option<SignedPacket>, ItemError> {
        self.found.transpose()
    }

    fn version(&self) -> Version<'_> {
        match &self.found {
            Some(Ok(packet)) => packet.version(),
            Some(Err(_)) | None => Version::new(self.other.0, &self.other.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use dht_proto::ed25519_dalek::SigningKey;
    use dht_proto::item::bencode_bytes;

    use super::*;
    use crate::packet::NotAPacket;
    use crate::{Keypair, Timestamp};

    const SECRET: [u8; 32] = [9; 32];

    fn packet(secs: u64, text: &str) -> SignedPacket {
        let keypair = Keypair::from_secret(&SECRET);
        SignedPacket::builder()
            .txt("@", text, 60)
            .sign(&keypair, Timestamp::from_secs(secs))
            .unwrap()
    }

    fn garbage(secs: i64, value: &[u8]) -> Item {
        Item::sign(&SigningKey::from_bytes(&SECRET), b"", secs * 1_000_000, value).unwrap()
    }

    fn newest() -> Newest {
        Newest::new(Keypair::from_secret(&SECRET).public_key())
    }

    #[test]
    fn the_newest_packet_wins_in_any_order() {
        let packets = [packet(1, "z"), packet(2, "a"), packet(2, "b")];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut newest = newest();
            for place in order {
                let _ = newest.handle_item(&packets[place].to_item().unwrap()).unwrap();
            }
            assert_eq!(newest.into_found(), Ok(Some(packets[2].clone())));
        }
        assert_eq!(newest().into_found(), Ok(None));
    }

    #[test]
    fn a_newer_item_that_is_no_packet_is_reported() {
        let old = packet(1, "a");
        for value in [&b"i5e"[..], b"0:", b"5:hello", b"le"] {
            for packet_first in [true, false] {
                let mut newest = newest();
                if packet_first {
                    assert_eq!(newest.handle_packet(old.clone()), Ok(true));
                }
                assert_eq!(newest.handle_item(&garbage(2, value)), Ok(true));
                assert_eq!(newest.handle_packet(old.clone()), Ok(false));
                let error = newest.clone().into_found().unwrap_err();
                assert!(matches!(error, ItemError::NotAPacket { seq: 2_000_000, .. }));
                // What is newer still counts again.
                assert_eq!(newest.handle_packet(packet(3, "b")), Ok(true));
                assert_eq!(newest.into_found(), Ok(Some(packet(3, "b"))));
            }
        }
        let mut newest = newest();
        assert_eq!(newest.handle_item(&garbage(-1, &bencode_bytes(old.dns()))), Ok(true));
        let reason = NotAPacket::NegativeSeq;
        let expected = ItemError::NotAPacket { seq: -1_000_000, reason };
        assert_eq!(newest.found(), Some(&Err(expected)));
    }

    #[test]
    fn items_of_other_keys_change_nothing() {
        let key = SigningKey::from_bytes(&[8; 32]);
        let own = SigningKey::from_bytes(&SECRET);
        let value = bencode_bytes(packet(9, "a").dns());
        let foreign = Item::sign(&key, b"", 9, &value).unwrap();
        let salted = Item::sign(&own, b"salt", 9, &value).unwrap();
        let immutable = Item::immutable(&value).unwrap();
        let mut newest = newest();
        for item in [foreign, salted, immutable] {
            assert_eq!(newest.handle_item(&item), Err(ItemError::Unrelated));
        }
        let other = Keypair::from_secret(&[8; 32]);
        let packet = SignedPacket::builder().sign(&other, Timestamp::from_secs(9)).unwrap();
        assert_eq!(newest.handle_packet(packet), Err(ItemError::Unrelated));
        assert_eq!(newest.found(), None);
    }
}
