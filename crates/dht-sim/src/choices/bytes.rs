//! Choices from a fuzzer's bytes.

use super::Gen;

/// Choices read from bytes, from front to back: one byte for up to 256 possibilities, two for up to
/// 65,536, else four. So a change of one byte changes one choice, and what comes after keeps its
/// place.
#[derive(Clone, Debug)]
pub struct Bytes {
    bytes: Vec<u8>,
    at: usize,
}

impl Bytes {
    /// Choices from these bytes.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }
}

impl Gen for Bytes {
    fn below(&mut self, n: u32) -> u32 {
        let width = match n {
            0..=1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let taken = self.bytes.get(self.at..).unwrap_or_default();
        let word = taken.iter().take(width).fold(0, |word, byte| (word << 8) | u32::from(*byte));
        self.at = self.bytes.len().min(self.at + width);
        word % n
    }

    fn exhausted(&self) -> bool {
        self.at >= self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_takes_as_many_bytes_as_it_needs() {
        let mut bytes = Bytes::new(vec![7, 1, 2, 0, 0, 1, 0, 9]);
        assert_eq!(bytes.below(1), 0);
        assert_eq!(bytes.below(10), 7);
        assert_eq!(bytes.below(1_000), 0x0102);
        assert_eq!(bytes.below(100_000), 256);
        assert!(!bytes.exhausted());
        assert_eq!(bytes.below(256), 9);
        assert!(bytes.exhausted());
        assert_eq!(bytes.below(256), 0);
    }
}
