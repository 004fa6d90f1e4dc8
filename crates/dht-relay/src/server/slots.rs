//! So many at a time, and no more.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// Places for things that go on.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    taken: Arc<AtomicUsize>,
    max: usize,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<AtomicUsize>);

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// A place, if there is one.
    pub(super) fn take(&self) -> Option<Slot> {
        let slot = Slot(Arc::clone(&self.taken));
        // A slot that is one too many frees its place at once.
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.max).then_some(slot)
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed) as u64
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_no_more() {
        let slots = Slots::new(2);
        let held = [slots.take(), slots.take()];
        assert!(held.iter().all(Option::is_some));
        assert!(slots.take().is_none());
        assert_eq!(slots.taken(), 2);
        drop(held);
        assert_eq!(slots.taken(), 0);
        assert!(slots.take().is_some());
    }
}
