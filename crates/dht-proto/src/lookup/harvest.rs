//! What a lookup collects from the replies: peers, bloom filters, items, samples.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::{SocketAddrV4, SocketAddrV6};
use core::time::Duration;

use crate::addr::{Addr, Scope};
use crate::bloom::Filter;
use crate::config::Config;
use crate::footprint;
use crate::id::{ID_LEN, InfoHash, ItemId, Target};
use crate::item::{Item, Signed, Version};
use crate::outbox::MAX_PEERS_PER_REPLY;
use crate::request::{Event, LookupId, NodeInfo, Outcome, Scrape};
use crate::wire::{self, MAX_INTERVAL_SECS, Reply};

use super::Goal;
use super::walk::MAX_NODES_PER_REPLY;

/// Distinct peers that one lookup reports; a torrent with more is served well enough.
const MAX_PEERS: usize = 5_000;

/// Nodes that are counted as holders of an item; no lookup hears from so many near its target.
const MAX_HOLDERS: usize = 256;

/// jech/dht before 0.25 stored the `port` of announces with `implied_port`, which is 1 from many: no
/// peer of BitTorrent listens below this port.
const MIN_PEER_PORT: u16 = 2;

/// The finds of one lookup.
#[derive(Debug)]
pub(crate) struct Harvest<A> {
    peers: BTreeSet<A>,
    scrape: Option<Box<ScrapeFilters>>,
    item: Option<Box<Item>>,
    /// Nodes that returned it, each once: one may be asked twice, as an address to start from and under
    /// the id that somebody told.
    holders: Vec<A>,
}

#[derive(Debug, Default)]
struct ScrapeFilters {
    answered: bool,
    seeds: Filter,
    downloaders: Filter,
    /// Peers told by nodes that send no filters.
    legacy: BTreeSet<core::net::IpAddr>,
}

impl<A: Addr> Harvest<A> {
    /// The most heap bytes that one lookup's finds can take up.
    pub(crate) const MEMORY_CEILING: usize = footprint::btree::<A, ()>(MAX_PEERS)
        + size_of::<ScrapeFilters>()
        + footprint::btree::<core::net::IpAddr, ()>(MAX_PEERS)
        + Item::MEMORY_CEILING
        + footprint::list::<A>(MAX_HOLDERS);

    /// The bytes of the heap that the finds take up now.
    pub(crate) fn heap_bytes(&self) -> usize {
        let scrape = self.scrape.as_deref().map_or(0, |filters| {
            let legacy = footprint::tree::<core::net::IpAddr, ()>(filters.legacy.len());
            size_of::<ScrapeFilters>() + legacy
        });
        let item = self.item.as_ref().map_or(0, |item| item.memory());
        let holders = footprint::room::<A>(self.holders.capacity());
        footprint::tree::<A, ()>(self.peers.len()) + scrape + item + holders
    }

    pub(crate) fn new(goal: &Goal) -> Self {
        let scrape = matches!(goal, Goal::GetPeers { scrape: true, .. });
        let scrape = scrape.then(Box::default);
        Self { peers: BTreeSet::new(), scrape, item: None, holders: Vec::new() }
    }

    /// Whether a reply carries a stored item, or says which version it has.
    pub(crate) const fn has_item(reply: &Reply<'_>) -> bool {
        reply.v.is_some() || reply.seq.is_some()
    }

    /// Takes what the reply has for this goal; the event tells the user.
    pub(crate) fn take(
        &mut self,
        goal: &Goal,
        target: Target,
        lookup: LookupId,
        from: (NodeInfo, A),
        reply: &Reply<'_>,
        config: &Config,
    ) -> Option<Event> {
        let (from, addr) = from;
        match goal {
            Goal::GetPeers { .. } | Goal::Announce { .. } => {
                let peers = self.take_peers(addr, reply);
                (!peers.is_empty()).then_some(Event::Peers { lookup, from, peers })
            }
            Goal::GetItem { salt, newer_than } => {
                self.take_item(target.item_id(), salt, *newer_than, addr, reply, config)?;
                let item = self.item.clone()?;
                Some(Event::Item { lookup, from, item })
            }
            Goal::PutItem { item, .. } => {
                let salt = item.signed().map_or(&[][..], |signed| &signed.salt);
                self.take_item(target.item_id(), salt, None, addr, reply, config);
                None
            }
            Goal::Sample => samples(lookup, from, addr.scope(), reply),
            Goal::Ping | Goal::FindNode | Goal::Maintenance(_) => None,
        }
    }

    /// The item found so far.
    pub(crate) fn item(&self) -> Option<&Item> {
        self.item.as_deref()
    }

    /// Writes the totals into the outcome.
    pub(crate) fn finish(&mut self, outcome: &mut Outcome) {
        outcome.peers = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        outcome.item = self.item.take();
        outcome.holders = self.holders.len() as u32;
        outcome.scrape = self.scrape.take().and_then(ScrapeFilters::finish);
    }

    /// Peers not told before.
    fn take_peers(&mut self, from: A, reply: &Reply<'_>) -> Vec<core::net::SocketAddr> {
        let values = reply.values.iter().flat_map(|values| values.iter());
        let peers: Vec<A> = values
            .filter_map(A::from_socket_addr)
            .filter(|peer| peer.port() >= MIN_PEER_PORT && peer.is_credible_from(from))
            .take(MAX_PEERS_PER_REPLY)
            .collect();
        if let Some(scrape) = &mut self.scrape {
            scrape.take(reply, &peers);
        }
        let new = peers
            .into_iter()
            .filter(|peer| self.peers.len() < MAX_PEERS && self.peers.insert(*peer));
        new.map(Addr::socket_addr).collect()
    }

    /// Keeps the item if it is authentic and supersedes what we have. The signature is checked last.
    fn take_item(
        &mut self,
        target: ItemId,
        salt: &[u8],
        newer_than: Option<i64>,
        from: A,
        reply: &Reply<'_>,
        config: &Config,
    ) -> Option<()> {
        let v = reply.v?;
        if self.item.as_ref().is_some_and(|known| is_copy(known, v, reply, config)) {
            if self.holders.len() < MAX_HOLDERS && !self.holders.contains(&from) {
                self.holders.push(from);
            }
            return None;
        }
        let Some(public_key) = reply.public_key else {
            // BEP 44: an immutable value is its own proof.
            if self.item.is_some() || ItemId::of_immutable(v) != target {
                return None;
            }
            self.item = Some(Box::new(Item::immutable(v).ok()?));
            self.holders.push(from);
            return Some(());
        };
        let (seq, signature) = (reply.seq?, *reply.signature?);
        if ItemId::of_mutable(public_key, salt) != target || newer_than >= Some(seq) {
            return None;
        }
        if self.item.as_ref().is_some_and(|known| !known.is_superseded_by(Version::new(seq, v))) {
            return None;
        }
        let signed = Signed { public_key: *public_key, salt: salt.to_vec(), seq, signature };
        self.item = Some(Box::new(Item::verified(v, signed, config.verify).ok()?));
        self.holders.clear();
        self.holders.push(from);
        Some(())
    }
}

/// Whether a reply has this very version of an item, and could give it to others: with a signature that
/// is missing or wrong, nobody would take it.
fn is_copy(known: &Item, v: &[u8], reply: &Reply<'_>, config: &Config) -> bool {
    if known.value() != v {
        return false;
    }
    let Some(signed) = known.signed() else { return true };
    if reply.seq != Some(signed.seq) || reply.public_key != Some(&signed.public_key) {
        return false;
    }
    let Some(signature) = reply.signature else { return false };
    // The owner may have signed twice; that is rare, and so is a check.
    *signature == signed.signature
        || Item::verified(v, Signed { signature: *signature, ..signed.clone() }, config.verify)
            .is_ok()
}

impl ScrapeFilters {
    fn take<A: Addr>(&mut self, reply: &Reply<'_>, peers: &[A]) {
        if reply.seeds_filter.is_none() && reply.peers_filter.is_none() {
            // BEP 33, "Handling legacy responses": what only lists values counts as downloaders.
            self.answered |= !peers.is_empty();
            let room = MAX_PEERS.saturating_sub(self.legacy.len());
            self.legacy.extend(peers.iter().take(room).map(|peer| peer.ip()));
            return;
        }
        self.answered = true;
        if let Some(seeds) = reply.seeds_filter {
            self.seeds.merge(&Filter::from_bytes(*seeds));
        }
        if let Some(downloaders) = reply.peers_filter {
            self.downloaders.merge(&Filter::from_bytes(*downloaders));
        }
    }

    fn finish(mut self: Box<Self>) -> Option<Scrape> {
        for ip in &self.legacy {
            if !self.seeds.contains(*ip) {
                self.downloaders.insert(*ip);
            }
        }
        let (seeds, downloaders) = (self.seeds.estimate(), self.downloaders.estimate());
        self.answered.then_some(Scrape { seeds, downloaders })
    }
}

fn samples(lookup: LookupId, from: NodeInfo, scope: Scope, reply: &Reply<'_>) -> Option<Event> {
    let samples = reply.samples?.chunks_exact(ID_LEN).filter_map(InfoHash::from_slice).collect();
    let total = reply.num.and_then(|num| u64::try_from(num).ok());
    let interval = reply
        .interval
        .map(|secs| Duration::from_secs(u64::try_from(secs).unwrap_or(0).min(MAX_INTERVAL_SECS)));
    let mut nodes = Vec::new();
    told::<SocketAddrV4>(reply.nodes, scope, &mut nodes);
    told::<SocketAddrV6>(reply.nodes6, scope, &mut nodes);
    Some(Event::Samples { lookup, from, samples, total, interval, nodes })
}

/// Adds the nodes of one network that a node of this scope may tell of.
fn told<B: Addr>(compact: Option<&[u8]>, scope: Scope, nodes: &mut Vec<NodeInfo>) {
    for (id, addr) in wire::nodes::<B>(compact.unwrap_or_default()).take(MAX_NODES_PER_REPLY) {
        if addr.is_credible_in(scope) {
            nodes.push(NodeInfo { id, addr: addr.socket_addr() });
        }
    }
}
