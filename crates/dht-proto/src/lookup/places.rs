//! Which candidate has an address: a hash table of places in a list.
//!
//! The hash is not keyed, so whoever makes addresses that meet in it makes us look at the whole list, which
//! is bounded, and gains nothing else.

use alloc::vec::Vec;

use crate::ahead::ReadAhead;
use crate::footprint;

/// The smallest table.
const MIN: usize = 16;

/// The places of all candidates by their addresses, which the list itself knows.
#[derive(Debug)]
pub(super) struct Places {
    /// 0, or a place in the list and 1. As many as a power of two, and no more than half of them taken:
    /// every search ends.
    table: Vec<u16>,
}

impl Places {
    pub(super) const NONE: Self = Self { table: Vec::new() };

    /// The most heap bytes for the places of so many.
    pub(super) const fn memory_ceiling(max: usize) -> usize {
        footprint::room::<u16>(room(max))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        footprint::room::<u16>(self.table.capacity())
    }

    /// See `Dht::read_ahead`.
    pub(super) fn read_ahead(&self, step: u32, ahead: &mut impl ReadAhead) {
        if step == 3 {
            ahead.line(&self.table);
        } else {
            ahead.lines::<_, 8>(&self.table);
        }
    }

    /// The place of whoever has this number, and is it.
    #[inline]
    pub(super) fn find(&self, number: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let mut at = self.home(number);
        loop {
            let place = usize::from(*self.table.get(at)?).checked_sub(1)?;
            if is_it(place) {
                return Some(place);
            }
            at = self.after(at);
        }
    }

    /// Makes room for the places of so many, of whom those with these numbers are there already.
    #[inline]
    pub(super) fn reserve<I: Iterator<Item = u64>>(
        &mut self,
        wanted: usize,
        present: impl Fn() -> I,
    ) {
        if 2 * wanted > self.table.len() {
            self.grow(wanted, present());
        }
    }

    #[cold]
    fn grow(&mut self, wanted: usize, present: impl Iterator<Item = u64>) {
        self.table = alloc::vec![0; room(wanted)];
        present.enumerate().for_each(|(place, number)| self.insert(number, place));
    }

    /// Notes a place. There must be room.
    pub(super) fn insert(&mut self, number: u64, place: usize) {
        let mut at = self.home(number);
        while self.table.get(at).is_some_and(|taken| *taken != 0) {
            at = self.after(at);
        }
        if let Some(free) = self.table.get_mut(at) {
            *free = place as u16 + 1;
        }
    }

    /// Forgets a place. Those behind it move up if they were pushed aside, so that no search stops at
    /// the gap.
    pub(super) fn remove(&mut self, number: u64, place: usize, number_of: impl Fn(usize) -> u64) {
        let mut gap = self.home(number);
        while self.table.get(gap).is_some_and(|other| usize::from(*other) != place + 1) {
            gap = self.after(gap);
        }
        let mut at = self.after(gap);
        while let Some(other) = self.table.get(at).copied().filter(|other| *other != 0) {
            let home = self.home(number_of(usize::from(other) - 1));
            if self.steps(home, at) >= self.steps(gap, at) {
                self.set(gap, other);
                gap = at;
            }
            at = self.after(at);
        }
        self.set(gap, 0);
    }

    pub(super) fn check(&self, len: usize) {
        let taken = self.table.iter().filter(|place| **place != 0).count();
        assert_eq!(taken, len, "a place for nobody, or two for one");
        assert!(2 * taken <= self.table.len(), "a search that does not end");
    }

    fn set(&mut self, at: usize, value: u16) {
        if let Some(entry) = self.table.get_mut(at) {
            *entry = value;
        }
    }

    fn home(&self, number: u64) -> usize {
        // The multiplier is 2^64 over the golden ratio: it spreads numbers that follow each other.
        (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize & self.mask()
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & self.mask()
    }

    fn steps(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }

    const fn mask(&self) -> usize {
        self.table.len().wrapping_sub(1)
    }
}

/// How large a table is for the places of so many.
const fn room(wanted: usize) -> usize {
    if wanted < MIN / 2 { MIN } else { (2 * wanted).next_power_of_two() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Domain, Seed};

    /// Numbers that meet in the table, and some that are replaced: what a list without it would find.
    #[test]
    fn whoever_is_there_is_found_and_nobody_else() {
        let mut stream = Seed::from_bytes([5; 32]).stream(Domain::Jitter);
        let mut numbers: Vec<u64> = Vec::new();
        let mut places = Places::NONE;
        assert_eq!(places.find(1, |_| true), None);
        for _ in 0..4_000 {
            // Few differ in more than the bits that the table looks at.
            let number = stream.below(60);
            if numbers.contains(&number) {
            } else if numbers.len() < 40 {
                places.reserve(numbers.len() + 1, || numbers.iter().copied());
                places.insert(number, numbers.len());
                numbers.push(number);
            } else {
                let place = stream.below(40) as usize;
                places.remove(numbers[place], place, |place| numbers[place]);
                numbers[place] = number;
                places.insert(number, place);
            }
            for number in 0..60 {
                let there = numbers.iter().position(|other| *other == number);
                assert_eq!(places.find(number, |place| numbers[place] == number), there);
            }
            places.check(numbers.len());
        }
    }
}
