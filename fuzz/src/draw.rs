//! The bytes of an input as choices.

use dht_sim::choices::{Bytes, Gen};

/// Choices read from an input, as a simulated world reads them. When it ends, each is 0.
#[derive(Debug)]
pub(crate) struct Draw(Bytes);

impl Draw {
    pub(crate) fn new(data: &[u8]) -> Self {
        Self(Bytes::new(data.to_vec()))
    }

    /// Whether the input has ended.
    pub(crate) fn ended(&self) -> bool {
        self.0.exhausted()
    }

    /// A number below `n`; 0 of nothing.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        self.0.below(n)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Whether something happens that is seldom: once in `n`.
    pub(crate) fn seldom(&mut self, n: u32) -> bool {
        self.below(n) == n.saturating_sub(1)
    }

    /// A position in a list of this length; 0 in an empty one.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).unwrap_or(u32::MAX)) as usize
    }

    /// One of the entries.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.index(from.len());
        from.get(index).copied()
    }

    /// The next bytes; fewer where the input ends.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < len && !self.ended() {
            taken.push(self.byte());
        }
        taken
    }
}
