//! What a running lookup has found so far.

use core::mem;
use core::net::SocketAddr;
use std::collections::BTreeSet;
use std::time::Instant;

use dht_proto::id::InfoHash;
use dht_proto::request::{Ended, Event, NodeInfo, Outcome};

/// Peers that one lookup remembers in order not to repeat them, at most.
const MAX_REMEMBERED: usize = 100_000;

/// Notes the events of one lookup: which peers are new, and what is known if the time is up before
/// the lookup has ended.
#[derive(Debug)]
pub struct Tally {
    started: Instant,
    partial: Outcome,
    /// Bounded by [`MAX_REMEMBERED`].
    seen: BTreeSet<SocketAddr>,
    /// Those peers of the last event that were new, in reverse order.
    fresh: Vec<SocketAddr>,
}

impl Tally {
    /// The lookup starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            partial: Outcome::default(),
            seen: BTreeSet::new(),
            fresh: Vec::new(),
        }
    }

    /// When the lookup started.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Notes what is new.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Peers { peers, .. } => {
                self.fresh.clear();
                for peer in peers {
                    // Beyond the bound, what was forgotten may repeat.
                    let full = self.seen.len() >= MAX_REMEMBERED;
                    if if full { !self.seen.contains(peer) } else { self.seen.insert(*peer) } {
                        self.fresh.push(*peer);
                    }
                }
                self.fresh.reverse();
                self.partial.peers = self.seen.len() as u32;
            }
            Event::Item { item, .. } => self.partial.item = Some(item.clone()),
            Event::Samples { .. } | _ => {}
        }
        self.partial.first_value.get_or_insert_with(|| self.started.elapsed());
    }

    /// The next peer of the last event that no event before it held.
    pub fn fresh_peer(&mut self) -> Option<SocketAddr> {
        self.fresh.pop()
    }

    /// The outcome of a lookup that was not given the time to end.
    #[must_use]
    pub fn time_up(&mut self) -> Outcome {
        let mut outcome = mem::take(&mut self.partial);
        outcome.ended = Ended::TimedOut;
        outcome.duration = self.started.elapsed();
        outcome
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

/// A sample of a node's infohashes (BEP 51).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Sample {
    /// The infohashes.
    pub samples: Vec<InfoHash>,
    /// How many the node stores in all, if it said so.
    pub total: Option<u64>,
    /// When another sample makes sense, if it said so.
    pub interval: Option<core::time::Duration>,
    /// Nodes near the target, to ask next; nobody has heard from them yet.
    pub nodes: Vec<NodeInfo>,
    /// How it went.
    pub outcome: Outcome,
}

impl Sample {
    /// Takes over what an event tells.
    pub fn note(&mut self, event: Event) {
        if let Event::Samples { samples, total, interval, nodes, .. } = event {
            *self = Self { samples, total, interval, nodes, outcome: mem::take(&mut self.outcome) };
        }
    }
}
