//! Packets in memory, by key, as many as there is room for.

use alloc::collections::BTreeMap;

use crate::cached::CachedPacket;
use crate::key::PublicKey;

/// The packets that were used last.
///
/// An older packet never replaces a newer one. When there is no room, the packet goes that was not
/// used for longest; each takes some 1,300 bytes at most.
#[derive(Clone, Debug)]
pub struct Cache {
    capacity: usize,
    entries: BTreeMap<PublicKey, Entry>,
    /// Keys by when they were used.
    uses: BTreeMap<u64, PublicKey>,
    /// Counts uses, so that each has a number of its own.
    clock: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    packet: CachedPacket,
    used: u64,
}

impl Cache {
    /// A cache for so many packets; 0 keeps none.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { capacity, entries: BTreeMap::new(), uses: BTreeMap::new(), clock: 0 }
    }

    /// Keeps a packet, unless a newer one of its key is there. If it is the same one, it counts as
    /// seen when it was seen last. Returns whether it is there now.
    pub fn put(&mut self, packet: CachedPacket) -> bool {
        if self.capacity == 0 {
            return false;
        }
        let key = packet.packet.public_key();
        if let Some(known) = self.entries.get_mut(&key) {
            if !known.packet.update(packet) {
                return false;
            }
        } else {
            if self.entries.len() >= self.capacity
                && let Some((_, oldest)) = self.uses.pop_first()
            {
                self.entries.remove(&oldest);
            }
            // No use has the number 0; this one gets its own below.
            self.entries.insert(key, Entry { packet, used: 0 });
        }
        self.touch(&key);
        true
    }

    /// The packet of a key, which counts as used. It may have expired.
    pub fn get(&mut self, key: &PublicKey) -> Option<&CachedPacket> {
        self.touch(key);
        self.peek(key)
    }

    /// The packet of a key, which does not count as used.
    #[must_use]
    pub fn peek(&self, key: &PublicKey) -> Option<&CachedPacket> {
        self.entries.get(key).map(|entry| &entry.packet)
    }

    /// Forgets the packet of a key.
    pub fn remove(&mut self, key: &PublicKey) -> Option<CachedPacket> {
        let entry = self.entries.remove(key)?;
        self.uses.remove(&entry.used);
        Some(entry.packet)
    }

    /// How many packets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many packets there is room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    fn touch(&mut self, key: &PublicKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.clock += 1;
        self.uses.remove(&entry.used);
        entry.used = self.clock;
        self.uses.insert(self.clock, *key);
        debug_assert!(self.uses.len() == self.entries.len(), "each key has one last use");
        debug_assert!(self.entries.len() <= self.capacity, "a cache keeps to its room");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Keypair, SignedPacket, Timestamp};

    fn packet(number: u8, version: u64, seen: u64) -> CachedPacket {
        let keypair = Keypair::from_secret(&[number; 32]);
        let packet = SignedPacket::builder().sign(&keypair, Timestamp::from_secs(version)).unwrap();
        CachedPacket::new(packet, Timestamp::from_secs(seen))
    }

    fn key(number: u8) -> PublicKey {
        Keypair::from_secret(&[number; 32]).public_key()
    }

    #[test]
    fn newer_packets_replace_older_ones_and_never_the_reverse() {
        let mut cache = Cache::new(2);
        assert!(cache.put(packet(1, 5, 100)));
        assert!(!cache.put(packet(1, 4, 200)));
        assert_eq!(cache.peek(&key(1)), Some(&packet(1, 5, 100)));
        assert!(cache.put(packet(1, 6, 50)));
        assert_eq!(cache.peek(&key(1)), Some(&packet(1, 6, 50)));
        // The same packet is seen again, and an earlier sight of it is no news.
        assert!(cache.put(packet(1, 6, 300)) && cache.put(packet(1, 6, 200)));
        assert_eq!(cache.peek(&key(1)), Some(&packet(1, 6, 300)));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn who_was_not_used_for_longest_goes() {
        let mut cache = Cache::new(2);
        cache.put(packet(1, 1, 1));
        cache.put(packet(2, 1, 1));
        assert!(cache.get(&key(1)).is_some());
        assert!(cache.peek(&key(2)).is_some(), "a look is no use");
        cache.put(packet(3, 1, 1));
        assert!(cache.peek(&key(2)).is_none());
        assert!(cache.peek(&key(1)).is_some() && cache.peek(&key(3)).is_some());
        assert!(cache.remove(&key(1)).is_some() && cache.remove(&key(1)).is_none());
        assert_eq!((cache.len(), cache.capacity(), cache.is_empty()), (1, 2, false));
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let mut cache = Cache::new(0);
        assert!(!cache.put(packet(1, 1, 1)));
        assert!(cache.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn it_is_a_list_in_the_order_of_use(
            capacity in 1..4_usize,
            steps in prop::collection::vec((0..3_u8, 0..6_u8), 0..40),
        ) {
            let mut cache = Cache::new(capacity);
            let mut model = alloc::vec::Vec::<u8>::new();
            for (step, number) in steps {
                let known = model.contains(&number);
                match step {
                    0 => {
                        prop_assert!(cache.put(packet(number, 1, 1)));
                        model.retain(|other| *other != number);
                        model.push(number);
                        if model.len() > capacity {
                            model.remove(0);
                        }
                    }
                    1 => {
                        prop_assert_eq!(cache.get(&key(number)).is_some(), known);
                        if known {
                            model.retain(|other| *other != number);
                            model.push(number);
                        }
                    }
                    _ => {
                        prop_assert_eq!(cache.remove(&key(number)).is_some(), known);
                        model.retain(|other| *other != number);
                    }
                }
                let order: alloc::vec::Vec<_> = cache.uses.values().copied().collect();
                let expected: alloc::vec::Vec<_> = model.iter().map(|number| key(*number)).collect();
                prop_assert_eq!(order, expected);
                prop_assert_eq!(cache.len(), model.len());
            }
        }
    }
}
