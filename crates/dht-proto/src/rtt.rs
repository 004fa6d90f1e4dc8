//! The round-trip times seen lately, and the stall timeout that follows from them.

use core::time::Duration;

use crate::config::Config;

/// Bins of the histogram: two per octave from 1 ms, so the last one begins at about 11.6 s.
const BINS: usize = 28;
/// Counts are halved when they add up to this, so that old samples fade.
const FULL: u8 = u8::MAX;
/// Fewer samples than this say nothing about a distribution.
const ENOUGH: u8 = 8;
/// The tenth percentile may jitter by this much before a query counts as stalled; mldht found that
/// less misses answers of nearby nodes.
const JITTER_ALLOWANCE_MS: u16 = 100;

/// A fading histogram of round-trip times on a logarithmic scale, 32 bytes.
#[derive(Clone, Debug)]
pub(crate) struct RttHistogram {
    bins: [u8; BINS],
    /// The sum of the bins.
    total: u8,
    /// `max(p10 + 100 ms, p90)` in milliseconds: asked for much more often than it changes.
    stall_ms: u16,
}

impl RttHistogram {
    pub(crate) const fn new() -> Self {
        Self { bins: [0; BINS], total: 0, stall_ms: 0 }
    }

    pub(crate) fn record(&mut self, rtt: Duration) {
        if self.total == FULL {
            self.bins.iter_mut().for_each(|count| *count /= 2);
            self.total = self.bins.iter().sum();
        }
        if let Some(count) = self.bins.get_mut(bin_of(rtt)) {
            *count += 1;
            self.total += 1;
        }
        let [p10, p90] = self.percentiles([10, 90]);
        self.stall_ms = (p10 + JITTER_ALLOWANCE_MS).max(p90);
    }

    /// A query without answer for this long frees its place in the lookup, though its answer still
    /// counts: `max(p10 + 100 ms, p90)` within the configured bounds.
    pub(crate) fn stall_timeout(&self, config: &Config) -> Duration {
        if self.total < ENOUGH {
            return config.stall_initial;
        }
        let stall = Duration::from_millis(self.stall_ms.into());
        stall.max(config.stall_min).min(config.query_timeout)
    }

    /// The upper edges of the bins that hold two percentiles, the lower first, in milliseconds.
    fn percentiles(&self, [low, high]: [u32; 2]) -> [u16; 2] {
        let wanted = |percent: u32| u32::from(self.total) * percent / 100;
        let (low, high) = (wanted(low), wanted(high));
        let (mut seen, mut first) = (0, BINS - 1);
        for (bin, &count) in self.bins.iter().enumerate() {
            seen += u32::from(count);
            if seen > low {
                first = first.min(bin);
            }
            if seen > high {
                return [upper_edge(first), upper_edge(bin)];
            }
        }
        [upper_edge(first), upper_edge(BINS - 1)]
    }
}

/// Bin 2i holds `[2^i, 1.5 * 2^i)` ms, bin 2i+1 the rest of the octave; bin 0 also what is shorter.
fn bin_of(rtt: Duration) -> usize {
    let ms = u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX).max(1);
    let octave = ms.ilog2();
    let upper_half = octave > 0 && ms & (1 << (octave - 1)) != 0;
    (2 * octave as usize + usize::from(upper_half)).min(BINS - 1)
}

/// Where a bin ends, in milliseconds.
fn upper_edge(bin: usize) -> u16 {
    let octave_ms = 1_u16 << (bin / 2);
    (if bin.is_multiple_of(2) { octave_ms / 2 * 3 } else { octave_ms * 2 }).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn every_rtt_lies_below_the_upper_edge_of_its_bin() {
        for rtt in 0..11_000 {
            let bin = bin_of(ms(rtt));
            let edge = |bin| ms(upper_edge(bin).into());
            assert!(ms(rtt) < edge(bin), "{rtt} in {bin}");
            assert!(bin == 0 || ms(rtt) >= edge(bin - 1) || bin <= 2, "{rtt} in {bin}");
        }
        assert_eq!(bin_of(Duration::MAX), BINS - 1);
    }

    /// mldht TimeoutFilterStatsTest.testStatisticalProperties
    #[test]
    fn the_stall_timeout_covers_nine_tenths_of_the_answers() {
        let config = Config::default();
        let mut rtts = RttHistogram::new();
        assert_eq!(rtts.stall_timeout(&config), config.stall_initial);
        for i in 0..200 {
            rtts.record(ms(if i % 10 == 0 { 900 } else { 60 }));
        }
        let stall = rtts.stall_timeout(&config);
        assert!(stall >= ms(160) && stall <= ms(1100), "{stall:?}");
        let mut quick = RttHistogram::new();
        (0..50).for_each(|_| quick.record(ms(1)));
        assert!(quick.stall_timeout(&config) >= config.stall_min);
        assert!(quick.stall_timeout(&config) < ms(120));
    }

    /// mldht TimeoutFilterStatsTest.testCorrectnessUnderDecay
    #[test]
    fn old_samples_fade() {
        let config = Config::default();
        let mut rtts = RttHistogram::new();
        (0..5_000).for_each(|_| rtts.record(ms(2_000)));
        (0..2_000).for_each(|_| rtts.record(ms(20)));
        assert!(rtts.stall_timeout(&config) < ms(200));
    }
}
