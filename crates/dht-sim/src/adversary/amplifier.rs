//! Somebody who has others flood a victim: small queries with the victim's address as their source,
//! for the largest replies there are.

use std::net::SocketAddr;
use std::sync::Arc;

use dht_proto::id::{InfoHash, NodeId, Target};
use dht_proto::wire::{Body, Method, Query, Want};

use super::{Pace, craft};
use crate::choices::About;
use crate::host::{Actor, Stage};

/// See the module.
#[derive(Debug)]
pub struct Amplifier {
    id: NodeId,
    victim: SocketAddr,
    reflectors: Arc<[SocketAddr]>,
    /// What many peers are stored for, or an item.
    rich: Arc<[Target]>,
    pace: Pace,
}

impl Amplifier {
    /// One that has `reflectors` answer to `victim`, asked for what is stored under `rich`.
    #[must_use]
    pub const fn new(
        id: NodeId,
        victim: SocketAddr,
        reflectors: Arc<[SocketAddr]>,
        rich: Arc<[Target]>,
        pace: Pace,
    ) -> Self {
        Self { id, victim, reflectors, rich, pace }
    }
}

impl Actor for Amplifier {
    fn on_datagram(&mut self, _: &mut Stage<'_>, _: SocketAddr, _: SocketAddr, _: &[u8]) {}

    fn on_wake(&mut self, stage: &mut Stage<'_>) {
        for _ in self.pace.turns(stage) {
            let to = stage.choices.pick(About::Adversary, &self.reflectors).copied();
            let target = stage.choices.pick(About::Adversary, &self.rich).copied();
            let target = target.unwrap_or_else(|| self.id.target());
            let Some(to) = to else { return };
            let info_hash = InfoHash::from_bytes(*target.as_bytes());
            let method = match stage.choices.below(About::Adversary, 4) {
                0 => Method::FindNode { target },
                1 => Method::GetPeers { info_hash, noseed: false, scrape: true },
                2 => Method::Get { target: target.item_id(), seq: None },
                _ => Method::SampleInfohashes { target },
            };
            let want = Want { n4: true, n6: true };
            let query = Body::Query(Query { id: self.id, want, method });
            stage.send(self.victim, to, craft::encode(b"a", query));
        }
    }
}
