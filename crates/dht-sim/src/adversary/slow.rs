//! A node that tells the truth as late as it can: it holds up whoever waits for it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use dht_proto::id::NodeId;
use dht_proto::time::Instant;

use super::craft;
use super::sybil::Ring;
use crate::host::{Actor, Stage};

/// Answers that it owes at most; what is asked beyond them is never answered.
const MAX_OWED: usize = 4_096;

#[derive(Debug)]
struct Owed {
    at: Instant,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Slow {
    id: NodeId,
    after: Duration,
    known: Ring,
    owed: VecDeque<Owed>,
}

impl Slow {
    /// A node that answers `after` so long, with those of the nodes it knows that are closest.
    #[must_use]
    pub const fn new(id: NodeId, after: Duration, known: Ring) -> Self {
        Self { id, after, known, owed: VecDeque::new() }
    }
}

impl Actor for Slow {
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let Some((tid, query)) = craft::query_in(bytes) else { return };
        if self.owed.len() >= MAX_OWED {
            return;
        }
        let named = match craft::target_of(&query.method) {
            Some(target) => self.known.closest(target, craft::NAMED),
            None => Vec::new(),
        };
        let bytes = craft::answer(tid, &query, self.id, &named);
        let at = stage.now + self.after;
        self.owed.push_back(Owed { at, from: to, to: from, bytes });
        stage.wake_at(at);
    }

    fn on_wake(&mut self, stage: &mut Stage<'_>) {
        while let Some(owed) = self.owed.front() {
            if owed.at > stage.now {
                stage.wake_at(owed.at);
                return;
            }
            if let Some(owed) = self.owed.pop_front() {
                stage.send(owed.from, owed.to, owed.bytes);
            }
        }
    }
}
