//! How long packets may be kept.

/// The shortest and the longest time for which packets are kept, in seconds, whatever they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlRange {
    min: u32,
    max: u32,
}

impl TtlRange {
    /// From `min` to `max` seconds; always `min` if that is the larger.
    #[must_use]
    pub fn new(min: u32, max: u32) -> Self {
        Self { min, max: max.max(min) }
    }

    /// The shortest time.
    #[must_use]
    pub const fn min(self) -> u32 {
        self.min
    }

    /// The longest time.
    #[must_use]
    pub const fn max(self) -> u32 {
        self.max
    }

    pub(crate) fn clamp(self, ttl: u32) -> u32 {
        ttl.clamp(self.min, self.max)
    }
}

impl Default for TtlRange {
    /// Five minutes to a day, as in the reference implementation.
    fn default() -> Self {
        Self { min: 300, max: 86_400 }
    }
}
