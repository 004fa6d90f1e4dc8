//! I11: quiet. What a node sends in a minute is bounded by what its users asked of it and by its
//! upkeep, and of a hundred lookups ninety-nine take few hops.

use std::time::Duration;

use dht_proto::request::Event;
use dht_proto::time::Instant;

use super::{Checker, Happening, PerHost, demand};
use crate::population::FAMILIES;

/// Queries a minute that nobody asked for, on one network: a node that joins pings ten candidates a
/// second.
const PINGS: u32 = 600;
/// The same for each contact of a bucket: a node that begins anew refreshes every bucket at once.
const REFRESHES: u32 = 150;
/// Queries that one lookup of a user may cost, on both networks, stores included.
const PER_LOOKUP: u32 = 600;

const MINUTE: Duration = Duration::from_secs(60);

/// Lookups before anything is said of their hops, and every so often after that.
const LOOKUPS: u32 = 100;
/// Hops that are told apart.
const MAX_HOPS: usize = 64;
/// Hops beyond the logarithm of the number of nodes: whoever names wrong nodes adds to them.
const MORE_HOPS: u32 = 4;

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
    hosts: u32,
    /// Lookups by their hops.
    hops: [u32; MAX_HOPS],
    lookups: u32,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { nodes: PerHost::default(), hosts: 0, hops: [0; MAX_HOPS], lookups: 0 }
    }
}

impl Checker for Traffic {
    fn name(&self) -> &'static str {
        "I11 traffic"
    }

    fn happened(&mut self, now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Some(node) = self.nodes.at(what) else { return Ok(()) };
        match what {
            Happening::Started { .. } => {
                node.turn(now);
                node.lookups[0] += 1;
                Ok(())
            }
            Happening::Born { host, dht, .. } => {
                let families = FAMILIES.into_iter().filter(|family| dht.node_id(*family).is_some());
                let k = dht.config().map_or(0, |config| config.k) as u32;
                node.upkeep = families.count() as u32 * (PINGS + REFRESHES * k);
                self.hosts = self.hosts.max(host.0 + 1);
                Ok(())
            }
            Happening::Asked { .. } => {
                node.turn(now);
                node.sent += 1;
                let (sent, limit) =
                    (node.sent, node.upkeep + PER_LOOKUP * node.lookups.iter().sum::<u32>());
                demand(sent <= limit, || format!("{sent} queries in a minute"))
            }
            Happening::Told { event: Event::Done { outcome, .. }, .. } => {
                self.count_hops(outcome.depth)
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
    fn count_hops(&mut self, depth: u8) -> Result<(), String> {
        if let Some(count) = self.hops.get_mut(usize::from(depth).min(MAX_HOPS - 1)) {
            *count += 1;
        }
        self.lookups += 1;
        if !self.lookups.is_multiple_of(LOOKUPS) {
            return Ok(());
        }
        let limit = self.hosts.max(1).ilog2() + MORE_HOPS;
        let beyond: u32 = self.hops.iter().skip(limit as usize + 1).sum();
        demand(beyond <= self.lookups / 100, || {
            let (all, hosts) = (self.lookups, self.hosts);
            format!("{beyond} of {all} lookups take more than {limit} hops among {hosts} hosts")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::server;
    use crate::world::HostId;
    use dht_proto::request::{Lookup, LookupId, Outcome};

    /// What a node with k = 8 on one network may send in a minute without a user.
    const UPKEEP: u32 = PINGS + 8 * REFRESHES;

    fn born(checker: &mut Traffic, host: u32) {
        let (host, dht) = (HostId(host), &server());
        let local = Instant::ZERO;
        checker.happened(local, &Happening::Born { host, local, dht }).unwrap();
    }

    fn asked(checker: &mut Traffic, host: u32, at: Instant) -> Result<(), String> {
        let (host, to) = (HostId(host), "1.2.3.4:5".parse().unwrap());
        checker.happened(at, &Happening::Asked { host, local: at, to, bytes: &[] })
    }

    fn lookup() -> LookupId {
        let id = dht_proto::id::NodeId::from_bytes([1; 20]);
        server().start(Instant::from_secs(1), &Lookup::FindNode { target: id }).unwrap()
    }

    #[test]
    fn a_node_that_floods_is_caught() {
        let (mut checker, at) = (Traffic::default(), Instant::from_secs(30));
        born(&mut checker, 0);
        let sent = (0..9 * UPKEEP).find(|_| asked(&mut checker, 0, at).is_err());
        assert_eq!(sent, Some(UPKEEP));
        let mut checker = Traffic::default();
        born(&mut checker, 0);
        let spread = |i: u32| Instant::from_millis(u64::from(i) * 100);
        assert!((0..9 * UPKEEP).all(|i| asked(&mut checker, 0, spread(i)).is_ok()));
    }

    #[test]
    fn a_lookup_of_a_user_may_cost_something_and_not_forever() {
        let mut checker = Traffic::default();
        born(&mut checker, 0);
        let (host, local, id) = (HostId(0), Instant::from_secs(30), lookup());
        let lookup = Lookup::FindNode { target: dht_proto::id::NodeId::from_bytes([1; 20]) };
        let what = Happening::Started { host, local, id, lookup: &lookup };
        checker.happened(local, &what).unwrap();
        let mut most = |secs| {
            let at = Instant::from_secs(secs);
            (0..9 * UPKEEP).find(|_| asked(&mut checker, 0, at).is_err())
        };
        assert_eq!(most(30), Some(UPKEEP + PER_LOOKUP));
        assert_eq!(most(150), Some(UPKEEP + PER_LOOKUP));
        assert_eq!(most(210), Some(UPKEEP));
    }

    #[test]
    fn lookups_of_many_hops_are_caught() {
        let id = lookup();
        let done = |depths: &[u8]| {
            let mut checker = Traffic::default();
            (0..64).for_each(|host| born(&mut checker, host));
            (0..LOOKUPS as usize).try_for_each(|i| {
                let mut outcome = Outcome::default();
                outcome.depth = depths.get(i).copied().unwrap_or(3);
                let event = Event::Done { lookup: id, outcome: Box::new(outcome) };
                let what = Happening::Told { host: HostId(1), event: &event };
                checker.happened(Instant::ZERO, &what)
            })
        };
        assert_eq!(done(&[]), Ok(()));
        assert_eq!(done(&[200]), Ok(()), "one of a hundred");
        assert_eq!(done(&[10; 100]), Ok(()));
        assert!(done(&[11, 11]).is_err());
    }
}
