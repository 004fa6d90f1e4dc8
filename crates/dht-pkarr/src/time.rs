//! Times of packets: microseconds since the Unix epoch, which are also versions.

use core::fmt;

/// Microseconds since the Unix epoch, at most [`i64::MAX`]: it is the `seq` of a mutable item.
///
/// This crate reads no clock; callers say what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The beginning of time.
    pub const UNIX_EPOCH: Self = Self(0);
    /// The last time there is.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// So many microseconds after the epoch; `None` if that fits no `seq`.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Option<Self> {
        if micros <= Self::MAX.0 { Some(Self(micros)) } else { None }
    }

    /// So many seconds after the epoch, or the last time there is.
    #[must_use]
    pub fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000)).min(Self::MAX)
    }

    /// The version of a mutable item; `None` if negative.
    #[must_use]
    pub fn from_seq(seq: i64) -> Option<Self> {
        u64::try_from(seq).ok().map(Self)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The version of a mutable item.
    #[must_use]
    pub const fn as_seq(self) -> i64 {
        self.0.cast_signed()
    }

    /// The time to sign with if it is `self` now and `previous` was signed before: later than that,
    /// even if the clock went back.
    #[must_use]
    pub fn after(self, previous: Self) -> Self {
        self.max(previous.plus_micros(1))
    }

    /// Whole seconds since `earlier`; 0 if that is later than `self`, as clocks may differ.
    #[must_use]
    pub const fn secs_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }

    pub(crate) fn plus_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros)).min(Self::MAX)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fit_a_seq() {
        assert_eq!(Timestamp::from_micros(u64::MAX), None);
        assert_eq!(Timestamp::from_micros(1 << 63), None);
        assert_eq!(Timestamp::from_micros(i64::MAX as u64), Some(Timestamp::MAX));
        assert_eq!(Timestamp::MAX.as_seq(), i64::MAX);
        assert_eq!(Timestamp::from_seq(-1), None);
        assert_eq!(Timestamp::from_seq(7), Timestamp::from_micros(7));
        assert_eq!(Timestamp::from_secs(u64::MAX), Timestamp::MAX);
    }

    #[test]
    fn versions_increase_even_if_the_clock_does_not() {
        let (early, late) = (Timestamp::from_secs(1), Timestamp::from_secs(9));
        assert_eq!(late.after(early), late);
        assert_eq!(early.after(late).as_micros(), late.as_micros() + 1);
        assert_eq!(early.after(Timestamp::MAX), Timestamp::MAX);
        assert_eq!(early.secs_since(late), 0);
        assert_eq!(late.secs_since(early), 8);
    }
}
