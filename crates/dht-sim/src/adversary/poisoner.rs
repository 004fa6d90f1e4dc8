//! A host that wants to be in everybody's table: it queries all nodes it knows, each under an id
//! next to theirs, and answers theirs likewise.

use std::net::SocketAddr;
use std::sync::Arc;

use dht_proto::id::NodeId;
use dht_proto::wire::Method;

use super::sybil::Ring;
use super::{Pace, craft};
use crate::choices::{About, Ratio};
use crate::host::{Actor, Stage};

/// Whom a poisoner asks, and how.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "filled in by whoever makes one")]
pub struct Poison {
    /// Its victims.
    pub victims: Ring,
    /// Whom it names.
    pub friends: Arc<[dht_proto::request::NodeInfo]>,
    /// The bit in which its id differs from its victim's: 159 is the nearest.
    pub bit: u32,
    /// Share of queries that come from addresses where nobody is.
    pub forged: Ratio,
    /// How often it asks.
    pub pace: Pace,
}

/// See the module.
#[derive(Debug)]
pub struct Poisoner(Poison);

impl Poisoner {
    /// One address of a poisoner; several make several of these.
    #[must_use]
    pub const fn new(poison: Poison) -> Self {
        Self(poison)
    }

    fn id_for(&self, victim: NodeId) -> NodeId {
        let mut id = *victim.as_bytes();
        if let Some(byte) = id.get_mut(self.0.bit as usize / 8) {
            *byte ^= 0x80 >> (self.0.bit % 8);
        }
        NodeId::from_bytes(id)
    }
}

impl Actor for Poisoner {
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let Some((tid, query)) = craft::query_in(bytes) else { return };
        let named = self.0.friends.get(..craft::NAMED).unwrap_or(&self.0.friends);
        stage.send(to, from, craft::answer(tid, &query, self.id_for(query.id), named));
    }

    fn on_wake(&mut self, stage: &mut Stage<'_>) {
        for _ in self.0.pace.turns(stage) {
            let victim = stage.choices.pick(About::Adversary, self.0.victims.members());
            let Some(victim) = victim.copied() else { return };
            let Some(me) = stage.addrs.like(&victim.addr) else { return };
            let from = if stage.choices.chance(About::Adversary, self.0.forged) {
                craft::anywhere(&me, stage.choices)
            } else {
                me
            };
            let method = Method::FindNode { target: victim.id.target() };
            stage.send(from, victim.addr, craft::query(self.id_for(victim.id), method));
        }
    }
}
