//! A map whose entries can also be picked at random or walked in bounded steps.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::sample::{Dice, spread};
use crate::footprint;
use crate::id::{Distance, ID_LEN, NodeId};
use crate::time::Instant;

/// Entries compared when one has to go.
const CANDIDATES: usize = 16;
/// A walk over a whole pool takes this many steps.
const STEPS: usize = 32;
/// A walk starts over this often within one lifetime.
const WALKS_PER_LIFETIME: u32 = 4;

/// A map with positions: every key has one, and they have no gaps.
#[derive(Debug)]
pub(super) struct Pool<K, V> {
    map: BTreeMap<K, (usize, V)>,
    keys: Vec<K>,
}

impl<K, V> Default for Pool<K, V> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), keys: Vec::new() }
    }
}

impl<K, V> Pool<K, V> {
    /// The bytes of the heap that it takes up now, without what the values hold.
    pub(super) fn heap_bytes(&self) -> usize {
        let keys = footprint::room::<K>(self.keys.capacity());
        footprint::tree::<K, (usize, V)>(self.map.len()) + keys
    }

    /// The most heap bytes that so many entries take up, without what the values hold.
    pub(super) const fn memory_ceiling(entries: usize) -> usize {
        let keys = footprint::list::<K>(entries);
        footprint::btree::<K, (usize, V)>(entries).saturating_add(keys)
    }
}

impl<K: Copy + Ord, V> Pool<K, V> {
    /// Adds an entry, or replaces the value of a known key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let position = self.keys.len();
        if let Some((position, _)) = self.map.insert(key, (position, value)) {
            let Some((kept, _)) = self.map.get_mut(&key) else { unreachable!("inserted above") };
            *kept = position;
        } else {
            self.keys.push(key);
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (position, value) = self.map.remove(key)?;
        self.keys.swap_remove(position);
        if let Some((moved, _)) = self.keys.get(position).and_then(|key| self.map.get_mut(key)) {
            *moved = position;
        }
        Some(value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key).map(|(_, value)| value)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key).map(|(_, value)| value)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn key_at(&self, position: usize) -> Option<K> {
        self.keys.get(position).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter().map(|(key, (_, value))| (key, value))
    }

    /// The key with the lowest score, out of sixteen random ones: cheap at any size, and no
    /// position is safe. `None` if the newcomer scores lower than all of them.
    pub(super) fn weakest(
        &self,
        dice: Dice,
        newcomer: i64,
        score: impl Fn(&K, &V) -> i64,
    ) -> Option<K> {
        let (lowest, key) = spread(dice, self.len(), CANDIDATES)
            .filter_map(|position| {
                let key = self.keys.get(position)?;
                Some((score(key, self.get(key)?), *key))
            })
            .min()?;
        (lowest <= newcomer).then_some(key)
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.map.len(), self.keys.len(), "every key has a position");
        for (position, key) in self.keys.iter().enumerate() {
            assert_eq!(self.map.get(key).map(|entry| entry.0), Some(position), "positions agree");
        }
    }
}

/// How near a key is to our id: the leading bits that they share, up to 24.
///
/// Nobody is nearer by nature in a network of under 2^24 nodes, and infohashes can be made up to
/// share all bits.
pub(super) fn nearness(own_id: NodeId, key: &[u8; ID_LEN]) -> i64 {
    i64::from(Distance::between(own_id.as_bytes(), key).leading_zeros().min(24))
}

/// A walk over a pool in small, regular steps that drops what has expired.
///
/// Reads never return expired entries; the walk only gives their memory back. An entry may be
/// moved to where the next walk comes last, so it is passed once in any two walks, which take half
/// a lifetime.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Entries below this position are still to be visited in this walk.
    cursor: usize,
    /// Entries to visit in each step of this walk.
    batch: usize,
    next: Option<Instant>,
}

impl Sweep {
    /// When the next step is due.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Makes sure that a step will come, now that there is something to sweep.
    pub(super) fn arm(&mut self, now: Instant, lifetime: Duration) {
        self.next.get_or_insert_with(|| now + step_interval(lifetime));
    }

    /// How many keys to visit at `now`: a thirty-second of the pool, or none if no step is due.
    pub(super) fn due(&mut self, now: Instant, len: usize) -> usize {
        if self.next.is_none_or(|next| next > now) {
            return 0;
        }
        if self.cursor == 0 {
            (self.cursor, self.batch) = (len, len / STEPS + 1);
        }
        self.batch
    }

    /// The next key to visit; `None` at the end of the walk.
    ///
    /// The caller may remove it, and no other, before it asks again: its position is then taken by
    /// the last key, which this walk has already passed.
    pub(super) fn advance<K: Copy + Ord, V>(&mut self, pool: &Pool<K, V>) -> Option<K> {
        // Entries may have been removed since the last step, by other means than this walk.
        self.cursor = self.cursor.min(pool.len()).checked_sub(1)?;
        pool.key_at(self.cursor)
    }

    /// Ends a step: the next one follows if there is anything left to sweep.
    pub(super) fn finish(&mut self, now: Instant, lifetime: Duration, len: usize) {
        if self.next.is_some_and(|next| next <= now) {
            self.next = (len > 0).then(|| now + step_interval(lifetime));
        }
    }
}

/// Never zero, so that a deadline handled is a deadline moved.
fn step_interval(lifetime: Duration) -> Duration {
    (lifetime / (STEPS as u32 * WALKS_PER_LIFETIME)).max(Duration::from_millis(1))
}
