//! The clock of the loop: monotonic, and on Linux counting the time the machine was suspended.

use core::time::Duration;

use dht_proto::time::Instant;

/// Longest wait that a deadline is computed for; longer means this. About 30 years.
const FOREVER: Duration = Duration::from_secs(1_000_000_000);

/// Maps the system's clock to the core's.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Reading,
}

#[cfg(all(target_os = "linux", not(dht_portable)))]
type Reading = Duration;
#[cfg(any(not(target_os = "linux"), dht_portable))]
type Reading = std::time::Instant;

impl Clock {
    pub(crate) fn new() -> Self {
        Self { origin: read() }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::ZERO + since(read(), self.origin)
    }
}

#[cfg(all(target_os = "linux", not(dht_portable)))]
fn read() -> Reading {
    // CLOCK_BOOTTIME goes on while the machine sleeps, so queries, tokens and stored items are as
    // old after a night in suspend as the rest of the network takes them to be.
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(Duration::ZERO, Duration::from)
}

#[cfg(all(target_os = "linux", not(dht_portable)))]
fn since(reading: Reading, origin: Reading) -> Duration {
    reading.saturating_sub(origin)
}

#[cfg(any(not(target_os = "linux"), dht_portable))]
fn read() -> Reading {
    std::time::Instant::now()
}

#[cfg(any(not(target_os = "linux"), dht_portable))]
fn since(reading: Reading, origin: Reading) -> Duration {
    reading.saturating_duration_since(origin)
}

/// `start + timeout`, for any timeout.
#[must_use]
pub fn after(start: std::time::Instant, timeout: Duration) -> std::time::Instant {
    start.checked_add(timeout.min(FOREVER)).unwrap_or(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_near_zero_and_advances() {
        let clock = Clock::new();
        let first = clock.now();
        assert!(first < Instant::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now().since(first) >= Duration::from_millis(1));
    }

    #[test]
    fn any_timeout_makes_a_deadline() {
        let start = std::time::Instant::now();
        assert!(after(start, Duration::MAX) > start);
        assert_eq!(after(start, Duration::ZERO), start);
    }
}
