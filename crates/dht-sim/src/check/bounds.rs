//! I7: memory. Everything that [`Config::memory_ceiling`](dht_proto::config::Config) adds up stays
//! within its bound, and so do the bytes that a node says it takes up; that it says the truth is
//! measured with a counting allocator, in the tests of the workspace.

use dht_proto::addr::Family;
use dht_proto::config::Config;
use dht_proto::stats::Stats;
use dht_proto::time::Instant;

use super::{Checker, Happening, PerHost, demand};

/// A node is looked at the first time, and then once in so many: what was let in beyond a bound
/// stays for seconds at least.
const EVERY: u32 = 8;

/// See the module.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Bounds {
    drained: PerHost<u32>,
}

impl Checker for Bounds {
    fn name(&self) -> &'static str {
        "I7 memory"
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Some(drained) = self.drained.at(what) else { return Ok(()) };
        let Happening::Drained { dht, .. } = what else { return Ok(()) };
        *drained = drained.wrapping_add(1);
        if *drained % EVERY != 1 {
            return Ok(());
        }
        let Some(config) = dht.config() else { return Ok(()) };
        let families =
            [Family::V4, Family::V6].into_iter().filter(|family| dht.node_id(*family).is_some());
        check_gauges(&dht.stats(), config, families.count() as u64)?;
        check_bytes(dht.memory(), config.memory_ceiling())
    }
}

fn check_bytes(bytes: usize, ceiling: usize) -> Result<(), String> {
    demand(bytes <= ceiling, || format!("{bytes} bytes, at most {ceiling} are allowed"))
}

/// Compares what a node has with what it may have, on this many networks.
fn check_gauges(stats: &Stats, config: &Config, families: u64) -> Result<(), String> {
    let rows = [
        ("candidates", stats.candidates, config.max_candidates),
        ("queries in flight", stats.in_flight, config.max_transactions),
        ("lookups", stats.lookups_running, config.max_lookups),
        ("torrents", stats.torrents, config.max_torrents),
        ("peers", stats.peers, config.max_torrents.saturating_mul(config.max_peers_per_torrent)),
        ("items", stats.items, config.max_items),
    ];
    rows.into_iter().try_for_each(|(name, n, limit)| {
        let limit = families.saturating_mul(limit as u64);
        demand(n <= limit, || format!("{n} {name}, at most {limit} are allowed"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    type Gauge = fn(&mut Stats) -> &mut u64;

    #[test]
    fn one_byte_more_than_the_ceiling_is_caught() {
        assert_eq!(check_bytes(7, 7), Ok(()));
        assert!(check_bytes(8, 7).is_err());
    }

    #[test]
    fn one_more_than_any_bound_is_caught() {
        let mut config = Config::default();
        (config.max_candidates, config.max_transactions, config.max_lookups) = (1, 2, 3);
        (config.max_torrents, config.max_peers_per_torrent, config.max_items) = (4, 5, 6);
        let gauges: [(&str, Gauge, u64); 6] = [
            ("candidates", |stats| &mut stats.candidates, 1),
            ("queries in flight", |stats| &mut stats.in_flight, 2),
            ("lookups", |stats| &mut stats.lookups_running, 3),
            ("torrents", |stats| &mut stats.torrents, 4),
            ("peers", |stats| &mut stats.peers, 20),
            ("items", |stats| &mut stats.items, 6),
        ];
        for (name, gauge, limit) in gauges {
            for families in [1, 2] {
                let mut stats = Stats::default();
                *gauge(&mut stats) = families * limit;
                assert_eq!(check_gauges(&stats, &config, families), Ok(()), "{name}");
                *gauge(&mut stats) += 1;
                let words = check_gauges(&stats, &config, families).unwrap_err();
                assert!(words.contains(name), "{words}");
            }
        }
    }
}
