//! I11: quiet. What a node sends in a minute is bounded by what its users asked of it and by its
//! upkeep, and nodes that were left alone do not send all at the same time.

use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::time::Instant;

use super::{Checker, Happening, PerHost, demand};

/// Queries a minute that nobody asked for, on one network and for each contact of a bucket: a node
/// that joins pings ten candidates a second and refreshes every bucket.
const UPKEEP: u32 = 100;
/// Queries that one lookup of a user may cost, on both networks, stores included.
const PER_LOOKUP: u32 = 600;

const MINUTE: Duration = Duration::from_secs(60);
/// Users, births and deaths count as a disturbance for this long: buckets are refreshed and the
/// own id is looked for within it.
const CALM: Duration = Duration::from_secs(45 * 60);
/// Seconds over which bursts are looked for.
const WINDOW: usize = 300;
/// A second may have this many times the mean of the window, and [`NOISE`] more.
const BURST: u64 = 8;
const NOISE: u64 = 40;

#[derive(Debug, Default)]
struct Node {
    /// Queries a minute that nobody need ask for.
    upkeep: u32,
    minute: u64,
    sent: u32,
    /// Lookups of users in this minute and the two before.
    lookups: [u32; 3],
}

/// See the module.
#[derive(Debug)]
pub struct Traffic {
    nodes: PerHost<Node>,
    disturbed: Instant,
    second: u64,
    /// Queries in each of the last seconds, round and round.
    seconds: [u32; WINDOW],
}

impl Default for Traffic {
    fn default() -> Self {
        let (nodes, disturbed, second) = (PerHost::default(), Instant::ZERO, 0);
        Self { nodes, disturbed, second, seconds: [0; WINDOW] }
    }
}

impl Checker for Traffic {
    fn name(&self) -> &'static str {
        "I11 traffic"
    }

    fn happened(&mut self, now: Instant, what: &Happening<'_>) -> Result<(), String> {
        match what {
            Happening::Started { host, .. } => {
                self.disturbed = now;
                let node = self.nodes.of(*host);
                node.turn(now);
                node.lookups[0] += 1;
                Ok(())
            }
            Happening::Born { host, dht } => {
                self.disturbed = now;
                self.nodes.reset(*host);
                let families = [Family::V4, Family::V6].into_iter();
                let families = families.filter(|family| dht.node_id(*family).is_some()).count();
                let k = dht.config().map_or(0, |config| config.k);
                self.nodes.of(*host).upkeep = UPKEEP * (families * k) as u32;
                Ok(())
            }
            Happening::Died { .. } => {
                self.disturbed = now;
                Ok(())
            }
            Happening::Asked { host, .. } => {
                let node = self.nodes.of(*host);
                node.turn(now);
                node.sent += 1;
                let (sent, limit) =
                    (node.sent, node.upkeep + PER_LOOKUP * node.lookups.iter().sum::<u32>());
                demand(sent <= limit, || format!("{sent} queries in a minute"))?;
                self.count(now)
            }
            _ => Ok(()),
        }
    }
}

impl Node {
    fn turn(&mut self, now: Instant) {
        let minute = now.as_secs() / MINUTE.as_secs();
        while self.minute < minute {
            // A lookup may go on for two minutes more, and a third one begins in between.
            let [now, before, _] = self.lookups;
            self.lookups = [0, now, before];
            self.sent = 0;
            self.minute = if self.lookups == [0; 3] { minute } else { self.minute + 1 };
        }
    }
}

impl Traffic {
    fn count(&mut self, now: Instant) -> Result<(), String> {
        let second = now.as_secs();
        let gap = second.saturating_sub(self.second).min(WINDOW as u64);
        for past in 1..=gap {
            let place = (self.second.max(second - gap) + past) as usize % WINDOW;
            if let Some(count) = self.seconds.get_mut(place) {
                *count = 0;
            }
        }
        self.second = second;
        let mut burst = 0;
        if let Some(count) = self.seconds.get_mut(second as usize % WINDOW) {
            *count += 1;
            burst = u64::from(*count);
        }
        if burst <= NOISE || now < self.disturbed + CALM {
            return Ok(());
        }
        let sum: u64 = self.seconds.iter().map(|count| u64::from(*count)).sum();
        let limit = BURST * sum / WINDOW as u64 + NOISE;
        demand(burst <= limit, || {
            format!("{burst} queries in one second of a calm network, {sum} in {WINDOW}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::server;
    use crate::world::HostId;

    fn born(checker: &mut Traffic, host: u32) {
        let (host, dht) = (HostId(host), &server());
        checker.happened(Instant::ZERO, &Happening::Born { host, dht }).unwrap();
    }

    fn asked(checker: &mut Traffic, host: u32, at: Instant) -> Result<(), String> {
        let (host, to) = (HostId(host), "1.2.3.4:5".parse().unwrap());
        checker.happened(at, &Happening::Asked { host, local: at, to, bytes: &[] })
    }

    #[test]
    fn a_node_that_floods_is_caught() {
        let (mut checker, at) = (Traffic::default(), Instant::from_secs(30));
        born(&mut checker, 0);
        let sent = (0..80 * UPKEEP).find(|_| asked(&mut checker, 0, at).is_err());
        assert_eq!(sent, Some(8 * UPKEEP));
        let mut checker = Traffic::default();
        born(&mut checker, 0);
        let spread = |i: u32| Instant::from_millis(u64::from(i) * 100);
        assert!((0..80 * UPKEEP).all(|i| asked(&mut checker, 0, spread(i)).is_ok()));
    }

    #[test]
    fn nodes_in_step_are_caught_and_nodes_out_of_step_are_not() {
        let hour = 3_600_000;
        // Two hundred nodes, one query each in a minute: spread out, or all within one second.
        let minute = |checker: &mut Traffic, start: u64, apart: u64| {
            (0..200).all(|i| {
                let at = Instant::from_millis(start + u64::from(i) * apart);
                asked(checker, i, at).is_ok()
            })
        };
        let mut checker = Traffic::default();
        (0..200).for_each(|host| born(&mut checker, host));
        assert!((0..10).all(|m| minute(&mut checker, hour + m * 60_000, 300)));
        let mut checker = Traffic::default();
        (0..200).for_each(|host| born(&mut checker, host));
        assert!(!(0..10).all(|m| minute(&mut checker, hour + m * 60_000, 1)));
    }
}
