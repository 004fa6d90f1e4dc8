//! Keeps time from running backwards, and notices when it leapt.

use core::time::Duration;

use dht_proto::time::Instant;

use crate::stats::IoStats;

/// A wake-up this much later than asked for is a jump, in seconds: no scheduler is this slow.
pub const JUMP: Duration = Duration::from_secs(5);

/// Watches the times at which passes begin and were expected to begin.
#[derive(Debug, Default)]
pub(crate) struct ClockWatch {
    last: Instant,
    /// When the previous pass asked to be woken at the latest.
    expected: Option<Instant>,
}

impl ClockWatch {
    /// The time to use for a pass, given what the clock says.
    pub(crate) fn begin(&mut self, reading: Instant, stats: &mut IoStats) -> Instant {
        if reading < self.last {
            stats.clock_reversals += 1;
        }
        let now = reading.max(self.last);
        if self.expected.take().is_some_and(|expected| now.since(expected) > JUMP) {
            stats.clock_jumps += 1;
        }
        self.last = now;
        now
    }

    /// The pass ends; the next is due at `deadline`.
    pub(crate) fn end(&mut self, deadline: Option<Instant>) {
        self.expected = deadline;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_backwards() {
        let (mut watch, mut stats) = (ClockWatch::default(), IoStats::default());
        assert_eq!(watch.begin(Instant::from_secs(9), &mut stats), Instant::from_secs(9));
        assert_eq!(watch.begin(Instant::from_secs(8), &mut stats), Instant::from_secs(9));
        assert_eq!(watch.begin(Instant::from_secs(10), &mut stats), Instant::from_secs(10));
        assert_eq!(stats.clock_reversals, 1);
    }

    #[test]
    fn a_suspended_machine_is_noticed_and_a_long_sleep_on_purpose_is_not() {
        let (mut watch, mut stats) = (ClockWatch::default(), IoStats::default());
        watch.begin(Instant::from_secs(1), &mut stats);
        watch.end(Some(Instant::from_secs(600)));
        watch.begin(Instant::from_secs(600), &mut stats);
        assert_eq!(stats.clock_jumps, 0);
        watch.end(Some(Instant::from_secs(601)));
        watch.begin(Instant::from_secs(601) + JUMP + Duration::from_secs(1), &mut stats);
        assert_eq!(stats.clock_jumps, 1);
        watch.end(None);
        watch.begin(Instant::from_secs(9_999), &mut stats);
        assert_eq!(stats.clock_jumps, 1);
    }
}
