//! I5: lookups. Each ends exactly once and in time, tells nothing after its end or its
//! cancellation, asks nobody over and over, counts whom it asked, and its results are sorted,
//! different and no more than k.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use dht_proto::addr::Family;
use dht_proto::id::Target;
use dht_proto::request::{Event, Lookup, LookupId, Outcome};
use dht_proto::time::Instant;
use dht_proto::wire::{self, Body, Method};

use super::{Checker, Happening, PerHost, demand};

/// How often one lookup may ask an address: as a seed thrice, if nobody else answers, and once
/// under the id that somebody told. Storing comes on top.
const MAX_ASKED: u32 = 4;

#[derive(Debug)]
struct Run {
    target: Option<Target>,
    /// It does nothing but ask for its target.
    only_asks: bool,
    deadline: Instant,
}

/// What was asked towards one target while lookups for it run.
#[derive(Debug, Default)]
struct Asked {
    running: u32,
    started: u32,
    /// By method, too: a lookup has one, and another to store. The node looks for its own id as well.
    by_addr: BTreeMap<(SocketAddr, &'static str), u32>,
}

impl Asked {
    /// The queries of the only lookup for the target, unless the node looked for it, too.
    fn by_one(&self) -> Option<u32> {
        let alone =
            self.started == 1 && self.by_addr.keys().all(|(_, method)| *method != "find_node");
        alone.then(|| self.by_addr.values().sum())
    }
}

#[derive(Debug, Default)]
struct Node {
    timeout: Duration,
    k: usize,
    latest: Instant,
    running: BTreeMap<LookupId, Run>,
    asked: BTreeMap<Target, Asked>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Lookups {
    nodes: PerHost<Node>,
}

impl Checker for Lookups {
    fn name(&self) -> &'static str {
        "I5 lookups"
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Some(node) = self.nodes.at(what) else { return Ok(()) };
        match what {
            Happening::Born { dht, .. } => {
                if let Some(config) = dht.config() {
                    (node.timeout, node.k) = (config.lookup_timeout, config.k);
                }
                Ok(())
            }
            Happening::Started { local, id, lookup, .. } => node.started(*local, *id, lookup),
            Happening::Cancelled { id, .. } => {
                let was = node.end(*id).is_some();
                demand(was, || format!("{id:?} was cancelled and did not run"))
            }
            Happening::Asked { to, bytes, .. } => node.asked(*to, bytes),
            Happening::Told { event, .. } => node.told(event),
            Happening::Drained { local, .. } => node.drained(*local),
            _ => Ok(()),
        }
    }
}

impl Node {
    fn started(&mut self, local: Instant, id: LookupId, lookup: &Lookup) -> Result<(), String> {
        self.latest = self.latest.max(local);
        let target = target_of(lookup);
        if let Some(target) = target {
            let asked = self.asked.entry(target).or_default();
            asked.running += 1;
            asked.started += 1;
        }
        let only_asks = matches!(
            lookup,
            Lookup::FindNode { .. } | Lookup::GetPeers { .. } | Lookup::GetItem { .. }
        );
        let run = Run { target, only_asks, deadline: self.latest + self.timeout };
        let twice = self.running.insert(id, run).is_some();
        demand(!twice, || format!("{id:?} names two lookups"))
    }

    fn end(&mut self, id: LookupId) -> Option<Run> {
        let run = self.running.remove(&id)?;
        if let Some(target) = run.target
            && let Some(asked) = self.asked.get_mut(&target)
        {
            asked.running -= 1;
            if asked.running == 0 {
                self.asked.remove(&target);
            }
        }
        Some(run)
    }

    fn asked(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        if self.asked.is_empty() {
            return Ok(());
        }
        let Ok(message) = wire::decode(bytes) else { return Ok(()) };
        let Body::Query(query) = message.body else { return Ok(()) };
        let Some((target, method)) = asked_for(&query.method) else { return Ok(()) };
        let Some(asked) = self.asked.get_mut(&target) else { return Ok(()) };
        let times = asked.by_addr.entry((to, method)).or_default();
        *times += 1;
        let (times, limit) = (*times, MAX_ASKED * asked.started);
        demand(times <= limit, || format!("{to} was asked {times} times for {target:?}"))
    }

    fn told(&mut self, event: &Event) -> Result<(), String> {
        let Some(id) = event.lookup() else { return Ok(()) };
        let Event::Done { outcome, .. } = event else {
            return demand(self.running.contains_key(&id), || {
                format!("{id:?} tells something and does not run")
            });
        };
        let asked = self.running.get(&id).filter(|run| run.only_asks).and_then(|run| run.target);
        let asked = asked.and_then(|target| self.asked.get(&target)?.by_one());
        let run = self.end(id).ok_or_else(|| format!("{id:?} is done and does not run"))?;
        demand(asked.is_none_or(|asked| asked == outcome.queries), || {
            format!("{id:?} asked {asked:?} times and counts {}", outcome.queries)
        })?;
        run.target.map_or(Ok(()), |target| check_outcome(outcome, target, self.k))
    }

    fn drained(&mut self, local: Instant) -> Result<(), String> {
        self.latest = self.latest.max(local);
        let latest = self.latest;
        let late = self.running.iter().find(|(_, run)| run.deadline < latest);
        late.map_or(Ok(()), |(id, run)| {
            Err(format!("{id:?} should have ended at {:?}, and it is {latest:?}", run.deadline))
        })
    }
}

fn check_outcome(outcome: &Outcome, target: Target, k: usize) -> Result<(), String> {
    for family in [Family::V4, Family::V6] {
        let nodes = outcome.closest.iter().filter(|node| Family::of(&node.addr) == family);
        demand(nodes.clone().count() <= k, || format!("more than {k} closest nodes"))?;
        let sorted = nodes
            .is_sorted_by(|a, b| (a.id.distance(target), a.addr) < (b.id.distance(target), b.addr));
        demand(sorted, || "the closest nodes are out of order, or one is there twice".to_owned())?;
    }
    demand(outcome.replies <= outcome.queries, || {
        format!("{} replies to {} queries", outcome.replies, outcome.queries)
    })
}

fn target_of(lookup: &Lookup) -> Option<Target> {
    match lookup {
        Lookup::FindNode { target } => Some(target.target()),
        Lookup::GetPeers { info_hash, .. } | Lookup::Announce { info_hash, .. } => {
            Some(info_hash.target())
        }
        Lookup::GetItem { target, .. } => Some(target.target()),
        Lookup::PutItem { item, .. } => Some(item.id().target()),
        _ => None,
    }
}

/// What a query is about, and its method.
fn asked_for(method: &Method<'_>) -> Option<(Target, &'static str)> {
    match method {
        Method::FindNode { target } => Some((*target, "find_node")),
        Method::GetPeers { info_hash, .. } => Some((info_hash.target(), "get_peers")),
        Method::AnnouncePeer { info_hash, .. } => Some((info_hash.target(), "announce_peer")),
        Method::Get { target, .. } => Some((target.target(), "get")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{query, server};
    use crate::world::HostId;
    use dht_proto::id::NodeId;
    use dht_proto::request::NodeInfo;

    const NOW: Instant = Instant::from_secs(9);
    const HOST: HostId = HostId(0);

    fn target() -> NodeId {
        NodeId::from_bytes([0; 20])
    }

    /// A checker that has seen a lookup start.
    fn started() -> (Lookups, LookupId) {
        let (mut checker, mut dht) = (Lookups::default(), server());
        checker.happened(NOW, &Happening::Born { host: HOST, local: NOW, dht: &dht }).unwrap();
        let lookup = Lookup::FindNode { target: target() };
        let id = dht.start(NOW, &lookup).unwrap();
        let what = Happening::Started { host: HOST, local: NOW, id, lookup: &lookup };
        checker.happened(NOW, &what).unwrap();
        (checker, id)
    }

    fn done(checker: &mut Lookups, lookup: LookupId, outcome: Outcome) -> Result<(), String> {
        let event = Event::Done { lookup, outcome: Box::new(outcome) };
        checker.happened(NOW, &Happening::Told { host: HOST, event: &event })
    }

    #[test]
    fn a_second_end_is_caught() {
        let (mut checker, id) = started();
        assert_eq!(done(&mut checker, id, Outcome::default()), Ok(()));
        assert!(done(&mut checker, id, Outcome::default()).is_err());
    }

    #[test]
    fn news_after_a_cancellation_are_caught() {
        let (mut checker, id) = started();
        checker.happened(NOW, &Happening::Cancelled { host: HOST, id }).unwrap();
        let from = NodeInfo { id: target(), addr: "1.2.3.4:5".parse().unwrap() };
        let event = Event::Peers { lookup: id, from, peers: Vec::new() };
        assert!(checker.happened(NOW, &Happening::Told { host: HOST, event: &event }).is_err());
        assert!(done(&mut checker, id, Outcome::default()).is_err());
    }

    #[test]
    fn a_lookup_without_end_is_caught() {
        let (mut checker, _) = started();
        let dht = server();
        let mut drained = |at| {
            let local = NOW + Duration::from_secs(at);
            checker.happened(NOW, &Happening::Drained { host: HOST, local, due: None, dht: &dht })
        };
        assert_eq!(drained(120), Ok(()));
        assert!(drained(121).is_err());
    }

    #[test]
    fn asking_one_node_over_and_over_is_caught() {
        let (mut checker, _) = started();
        let bytes = query(b"abcd", Method::FindNode { target: target().target() });
        let mut asked = || {
            let to = "1.2.3.4:5".parse().unwrap();
            let what = Happening::Asked { host: HOST, local: NOW, to, bytes: &bytes };
            checker.happened(NOW, &what)
        };
        assert!((0..4).all(|_| asked().is_ok()) && asked().is_err());
    }

    #[test]
    fn a_lookup_that_starts_twice_or_was_cancelled_twice_is_caught() {
        let (mut checker, id) = started();
        let lookup = Lookup::FindNode { target: target() };
        let what = Happening::Started { host: HOST, local: NOW, id, lookup: &lookup };
        assert!(checker.happened(NOW, &what).is_err());
        let (mut checker, id) = started();
        let what = Happening::Cancelled { host: HOST, id };
        assert_eq!(checker.happened(NOW, &what), Ok(()));
        assert!(checker.happened(NOW, &what).is_err());
    }

    #[test]
    fn more_replies_than_queries_are_caught() {
        let (mut checker, id) = started();
        let mut outcome = Outcome::default();
        (outcome.queries, outcome.replies) = (3, 4);
        assert!(done(&mut checker, id, outcome).is_err());
    }

    #[test]
    fn a_lookup_that_forgets_a_query_is_caught() {
        for (queries, fine) in [(1, false), (2, true), (3, false)] {
            let (mut checker, id) = started();
            let info_hash = dht_proto::id::InfoHash::from_bytes([0; 20]);
            let method = Method::GetPeers { info_hash, noseed: false, scrape: false };
            let bytes = query(b"abcd", method);
            for to in ["1.2.3.4:5", "[2600::1]:5"] {
                let to = to.parse().unwrap();
                let what = Happening::Asked { host: HOST, local: NOW, to, bytes: &bytes };
                checker.happened(NOW, &what).unwrap();
            }
            let mut outcome = Outcome::default();
            outcome.queries = queries;
            assert_eq!(done(&mut checker, id, outcome).is_ok(), fine);
        }
    }

    #[test]
    fn results_out_of_order_are_caught() {
        let node = |first: u8| {
            let mut id = [0; 20];
            id[0] = first;
            let addr = SocketAddr::from(([first, 1, 1, 1], 1));
            NodeInfo { id: NodeId::from_bytes(id), addr }
        };
        for (closest, fine) in [
            (vec![node(1), node(2)], true),
            (vec![node(2), node(1)], false),
            (vec![node(1), node(1)], false),
            ((1..=9).map(node).collect(), false),
        ] {
            let (mut checker, id) = started();
            let mut outcome = Outcome::default();
            outcome.closest = closest;
            assert_eq!(done(&mut checker, id, outcome).is_ok(), fine);
        }
    }
}
