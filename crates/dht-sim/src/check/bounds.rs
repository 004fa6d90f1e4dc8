//! I7: memory. Everything that [`Config::memory_ceiling`](dht_proto::config::Config) adds up stays
//! within its bound; what the bounds come to in bytes is measured with a counting allocator, in
//! the tests of the workspace.

use dht_proto::addr::Family;
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
        let Happening::Drained { host, dht, .. } = what else { return Ok(()) };
        let drained = self.drained.of(*host);
        *drained = drained.wrapping_add(1);
        if *drained % EVERY != 1 {
            return Ok(());
        }
        let Some(config) = dht.config() else { return Ok(()) };
        let families =
            [Family::V4, Family::V6].into_iter().filter(|family| dht.node_id(*family).is_some());
        let families = families.count() as u64;
        let stats = dht.stats();
        let rows = [
            ("candidates", stats.candidates, config.max_candidates),
            ("queries in flight", stats.in_flight, config.max_transactions),
            ("lookups", stats.lookups_running, config.max_lookups),
            ("torrents", stats.torrents, config.max_torrents),
            ("peers", stats.peers, config.max_torrents * config.max_peers_per_torrent),
            ("items", stats.items, config.max_items),
        ];
        rows.into_iter().try_for_each(|(name, n, limit)| {
            let limit = families * limit as u64;
            demand(n <= limit, || format!("{n} {name}, at most {limit} are allowed"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::server;
    use crate::world::HostId;
    use dht_proto::config::{Config, Mode};
    use dht_proto::id::InfoHash;
    use dht_proto::seed::Seed;
    use dht_proto::wire::{self, Body, Method};
    use dht_proto::{Dht, MAX_DATAGRAM, Networks};
    use std::sync::Arc;

    /// A node that was made to store more than it says it may: the gauges and the limits are read
    /// from nodes with different configurations.
    #[test]
    fn more_than_a_bound_is_caught() {
        let (now, host) = (Instant::from_secs(1), HostId(0));
        let dht = server();
        assert_eq!(
            Bounds::default().happened(now, &Happening::Drained { host, local: now, dht: &dht }),
            Ok(())
        );
        let mut config = Config::default();
        (config.mode, config.max_torrents, config.max_peers_per_torrent) = (Mode::Server, 1, 0);
        let mut dht = Dht::new(Arc::new(config), Networks::V4, &Seed::from_bytes([7; 32]), now);
        let from = "1.2.3.4:5".parse().unwrap();
        let info_hash = InfoHash::from_bytes([3; 20]);
        let ask = |dht: &mut Dht, method| {
            let (query, mut out) = (crate::check::testing::query(b"aa", method), [0; MAX_DATAGRAM]);
            let sent = dht.handle_datagram(now, from, &query, &mut out)?;
            let message = wire::decode(&out[..sent.len]).ok()?;
            let Body::Reply(reply) = message.body else { return None };
            reply.token.map(<[u8]>::to_vec)
        };
        let token = ask(&mut dht, Method::GetPeers { info_hash, noseed: false, scrape: false });
        let (port, implied_port, seed) = (7, false, false);
        if let Some(token) = token {
            let token = &token;
            ask(&mut dht, Method::AnnouncePeer { info_hash, port, implied_port, seed, token });
        }
        let stored = dht.stats().peers > 0;
        let what = Happening::Drained { host, local: now, dht: &dht };
        assert_eq!(Bounds::default().happened(now, &what).is_err(), stored);
    }
}
