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

/// A fading histogram of round-trip times on a logarithmic scale, 56 bytes.
#[derive(Clone, Debug)]
pub(crate) struct RttHistogram {
    bins: [u8; BINS],
    /// The sum of the bins.
    total: u8,
    p10: Percentile,
    p90: Percentile,
    /// `max(p10 + 100 ms, p90)`: asked for much more often than it changes.
    stall: Duration,
}

/// The bin that holds a percentile, and how many samples are in those before it. A sample moves it by a bin
/// or so, which costs less than looking for it anew.
#[derive(Clone, Copy, Debug, Default)]
struct Percentile {
    bin: u8,
    below: u8,
}

impl Percentile {
    /// Moves to the first bin up to whose end there are more samples than `wanted`.
    fn follow(&mut self, bins: &[u8; BINS], wanted: u8) {
        let count = |bin: u8| bins.get(usize::from(bin)).copied().unwrap_or_default();
        while self.below > wanted {
            self.bin -= 1;
            self.below -= count(self.bin);
        }
        while usize::from(self.bin) < BINS - 1 && count(self.bin) <= wanted - self.below {
            self.below += count(self.bin);
            self.bin += 1;
        }
    }
}

impl RttHistogram {
    pub(crate) const fn new() -> Self {
        let start = Percentile { bin: 0, below: 0 };
        Self { bins: [0; BINS], total: 0, p10: start, p90: start, stall: Duration::ZERO }
    }

    pub(crate) fn record(&mut self, rtt: Duration) {
        if self.total == FULL {
            self.bins.iter_mut().for_each(|count| *count /= 2);
            self.total = self.bins.iter().sum();
            (self.p10, self.p90) = Default::default();
        }
        let bin = bin_of(rtt);
        if let Some(count) = self.bins.get_mut(bin) {
            *count += 1;
            self.total += 1;
        }
        for (percentile, percent) in [(&mut self.p10, 10), (&mut self.p90, 90)] {
            percentile.below += u8::from(bin < usize::from(percentile.bin));
            percentile.follow(&self.bins, (u32::from(self.total) * percent / 100) as u8);
        }
        let [p10, p90] = [self.p10, self.p90].map(|percentile| upper_edge(percentile.bin.into()));
        self.stall = Duration::from_millis((p10 + JITTER_ALLOWANCE_MS).max(p90).into());
    }

    /// A query without answer for this long frees its place in the lookup, though its answer still
    /// counts: `max(p10 + 100 ms, p90)` within the configured bounds.
    pub(crate) fn stall_timeout(&self, config: &Config) -> Duration {
        if self.total < ENOUGH {
            return config.stall_initial;
        }
        self.stall.max(config.stall_min).min(config.query_timeout)
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
    use crate::seed::{Domain, Seed};

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

    #[test]
    fn percentiles_that_follow_the_samples_are_those_that_are_looked_for() {
        let mut stream = Seed::from_bytes([7; 32]).stream(Domain::Jitter);
        let mut rtts = RttHistogram::new();
        for _ in 0..5_000 {
            let longest = 1 << stream.below(15);
            rtts.record(ms(stream.below(longest)));
            for (percentile, percent) in [(rtts.p10, 10), (rtts.p90, 90)] {
                let wanted = u32::from(rtts.total) * percent / 100;
                let up_to = |bin: &usize| rtts.bins[..=*bin].iter().map(|n| u32::from(*n)).sum();
                let first = (0..BINS).find(|bin| wanted < up_to(bin));
                assert_eq!(Some(usize::from(percentile.bin)), first);
            }
        }
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
