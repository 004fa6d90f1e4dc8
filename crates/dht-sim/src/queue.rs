//! What happens when: a calendar queue over virtual time.
//!
//! Two wheels of 4096 slots each, of about four milliseconds and of about seventeen seconds, and an
//! ordered map for what is a day away. Adding and taking cost the same whether a hundred or ten million
//! entries wait. Entries of the same microsecond come out in the order they were put in, so a run
//! can be repeated.

use std::collections::BTreeMap;

use dht_proto::time::Instant;

/// A slot of the near wheel is this many bits of microseconds wide.
const NEAR_SHIFT: u32 = 12;
/// Slots of a wheel, as a power of two.
const WHEEL_BITS: u32 = 12;
const SLOTS: usize = 1 << WHEEL_BITS;
const FAR_SHIFT: u32 = NEAR_SHIFT + WHEEL_BITS;
const BEYOND_SHIFT: u32 = FAR_SHIFT + WHEEL_BITS;

/// So many entries are put in order before their time if they are near, for [`Queue::upcoming`].
const FORESEEN: usize = 64;
/// Near are so many slots. What is added within them has to be put in its place among the others.
const REACH: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    at: u64,
    seq: u64,
    what: T,
}

/// A wheel of slots with a bit for each that holds anything.
#[derive(Debug)]
struct Wheel<T> {
    slots: Vec<Vec<Entry<T>>>,
    busy: [u64; SLOTS / 64],
}

impl<T> Wheel<T> {
    fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), busy: [0; SLOTS / 64] }
    }

    fn push(&mut self, slot: usize, entry: Entry<T>) {
        if let (Some(entries), Some(word)) =
            (self.slots.get_mut(slot), self.busy.get_mut(slot / 64))
        {
            entries.push(entry);
            *word |= 1 << (slot % 64);
        }
    }

    /// The first slot from `from` on that holds anything.
    fn next_busy(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.busy.get(word)? & (!0 << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.busy.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Swaps a slot's entries with `into`, which must be empty: capacities are reused.
    fn take(&mut self, slot: usize, into: &mut Vec<Entry<T>>) {
        if let (Some(entries), Some(word)) =
            (self.slots.get_mut(slot), self.busy.get_mut(slot / 64))
        {
            core::mem::swap(entries, into);
            *word &= !(1 << (slot % 64));
        }
    }
}

/// Entries in order of time, then of insertion.
#[derive(Debug)]
pub struct Queue<T> {
    /// Entries up to the present slot, latest first, so that the next one is popped off the end.
    current: Vec<Entry<T>>,
    /// The present slot, counted from the origin of time: no entry before its end is anywhere else.
    slot: u64,
    /// A buffer, kept for its memory.
    spare: Vec<Entry<T>>,
    near: Wheel<T>,
    far: Wheel<T>,
    beyond: BTreeMap<u64, Vec<Entry<T>>>,
    seq: u64,
    len: usize,
}

impl<T: Copy> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> Queue<T> {
    /// An empty queue at the origin of time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            current: Vec::new(),
            slot: 0,
            spare: Vec::new(),
            near: Wheel::new(),
            far: Wheel::new(),
            beyond: BTreeMap::new(),
            seq: 0,
            len: 0,
        }
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry. What is due in the past comes next.
    pub fn push(&mut self, at: Instant, what: T) {
        let entry = Entry { at: at.as_micros(), seq: self.seq, what };
        self.seq += 1;
        self.len += 1;
        self.place(entry);
    }

    fn place(&mut self, entry: Entry<T>) {
        let slot = entry.at >> NEAR_SHIFT;
        if slot <= self.slot {
            let key = (entry.at, entry.seq);
            let place = self.current.partition_point(|other| (other.at, other.seq) > key);
            self.current.insert(place, entry);
        } else if slot >> WHEEL_BITS == self.slot >> WHEEL_BITS {
            self.near.push(slot as usize % SLOTS, entry);
        } else if entry.at >> BEYOND_SHIFT == self.slot >> (2 * WHEEL_BITS) {
            self.far.push((entry.at >> FAR_SHIFT) as usize % SLOTS, entry);
        } else {
            self.beyond.entry(entry.at >> BEYOND_SHIFT).or_default().push(entry);
        }
    }

    /// When the next entry is due.
    pub fn peek(&mut self) -> Option<Instant> {
        self.advance();
        self.current.last().map(|entry| Instant::from_micros(entry.at))
    }

    /// Takes the next entry, if it is due by `end`.
    pub fn pop(&mut self, end: Instant) -> Option<(Instant, T)> {
        let next = self.peek()?;
        if next > end {
            return None;
        }
        let entry = self.current.pop()?;
        self.len -= 1;
        Some((next, entry.what))
    }

    /// The entry that so many others come before, as far as is known: a hint of what will be needed
    /// soon.
    #[inline]
    #[must_use]
    pub fn upcoming(&self, before: usize) -> Option<T> {
        let place = self.current.len().checked_sub(before + 1)?;
        self.current.get(place).map(|entry| entry.what)
    }

    /// The heap that all entries and the room for them take up.
    #[must_use]
    pub fn memory(&self) -> usize {
        let room = |entries: &Vec<Entry<T>>| entries.capacity() * size_of::<Entry<T>>();
        let wheels = [&self.near, &self.far].into_iter().flat_map(|wheel| &wheel.slots);
        let slots = 2 * SLOTS * size_of::<Vec<Entry<T>>>();
        let all = wheels.chain(self.beyond.values()).chain([&self.current]);
        slots + all.map(room).sum::<usize>()
    }

    /// Moves on to the next slot that holds anything, and on from there as long as few entries are known
    /// to be next and the slot after them is near.
    fn advance(&mut self) {
        while self.current.len() < FORESEEN && self.len > self.current.len() {
            let in_wheel = self.slot as usize % SLOTS;
            if let Some(next) = self.near.next_busy(in_wheel) {
                if !self.current.is_empty() && next - in_wheel > REACH {
                    return;
                }
                self.slot = (self.slot >> WHEEL_BITS << WHEEL_BITS) + next as u64;
                self.open(next);
            } else if self.current.is_empty() {
                self.turn();
            } else {
                return;
            }
        }
    }

    /// Puts the entries of a slot of the near wheel in order behind those that come before them.
    fn open(&mut self, slot: usize) {
        let mut later = core::mem::take(&mut self.spare);
        self.near.take(slot, &mut later);
        // Within a slot times differ in their last bits: one word tells the order.
        let order = |e: &Entry<T>| e.at << (u64::BITS - NEAR_SHIFT) | e.seq;
        later.sort_unstable_by_key(|entry| core::cmp::Reverse(order(entry)));
        later.append(&mut self.current);
        self.spare = core::mem::replace(&mut self.current, later);
    }

    /// Deals out to the near wheel what is due in its next turn.
    fn turn(&mut self) {
        let in_far = (self.slot >> WHEEL_BITS) as usize % SLOTS;
        let mut entries = Vec::new();
        if let Some(next) = self.far.next_busy(in_far) {
            let turn = self.slot >> (2 * WHEEL_BITS) << WHEEL_BITS;
            self.slot = (turn + next as u64) << WHEEL_BITS;
            self.far.take(next, &mut entries);
        } else if let Some((turn, later)) = self.beyond.pop_first() {
            self.slot = turn << (2 * WHEEL_BITS);
            entries = later;
        }
        for entry in entries {
            self.place(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::{About, Choices};

    /// A plain sorted list is the oracle.
    #[test]
    fn entries_come_in_order_of_time_and_insertion() {
        let mut choices = Choices::seeded(5);
        for round in 0..50 {
            let (mut queue, mut oracle) = (Queue::new(), BTreeMap::new());
            let mut now = 0;
            for i in 0..2_000u32 {
                let spread = [1, 5_000, 4_000_000, 600_000_000, u32::MAX]
                    [choices.below(About::Order, 5) as usize];
                let mut at = now + u64::from(choices.below(About::Order, spread));
                if round % 5 == 0 && i % 10 == 0 {
                    at += 40_000_000_000;
                }
                queue.push(Instant::from_micros(at), i);
                oracle.insert((at, i), i);
                if choices.below(About::Order, 3) == 0 {
                    let ((at, _), expected) = oracle.pop_first().unwrap();
                    assert_eq!(queue.peek(), Some(Instant::from_micros(at)));
                    assert_eq!(queue.pop(Instant::from_micros(at)).unwrap().1, expected);
                    now = at;
                }
                assert_eq!(queue.len(), oracle.len());
            }
            while let Some(((at, _), expected)) = oracle.pop_first() {
                assert_eq!(
                    queue.pop(Instant::FAR_FUTURE),
                    Some((Instant::from_micros(at), expected))
                );
            }
            assert!(queue.is_empty() && queue.peek().is_none());
        }
    }

    #[test]
    fn what_is_due_later_stays() {
        let mut queue = Queue::new();
        queue.push(Instant::from_secs(2), 'b');
        assert_eq!(queue.pop(Instant::from_secs(1)), None);
        queue.push(Instant::from_millis(1_500), 'a');
        assert_eq!(queue.pop(Instant::from_secs(2)), Some((Instant::from_millis(1_500), 'a')));
        assert_eq!(queue.pop(Instant::from_secs(2)), Some((Instant::from_secs(2), 'b')));
    }
}
