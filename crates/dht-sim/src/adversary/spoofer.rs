//! Somebody who sees no answer and no question, but knows who asks whom: it sends replies from the
//! addresses of those who are asked, under transaction ids that it guesses.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use dht_proto::addr::Addr;
use dht_proto::request::NodeInfo;
use dht_proto::wire::{Body, Reply, Values, write_node};

use super::{Pace, craft};
use crate::choices::About;
use crate::host::{Actor, Stage};

/// What a spoofer knows and wants.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "filled in by whoever makes one")]
pub struct Forgery {
    /// Who asks.
    pub victims: Arc<[SocketAddr]>,
    /// Who is asked, with the ids that the victim expects.
    pub asked: Arc<[NodeInfo]>,
    /// Length of the transaction ids that it guesses, in bytes, at most 4.
    pub tid_len: usize,
    /// The peer and node that it would have believed.
    pub planted: SocketAddrV4,
    /// How often it tries.
    pub pace: Pace,
}

/// See the module.
#[derive(Debug)]
pub struct Spoofer(Forgery);

impl Spoofer {
    /// One with these aims.
    #[must_use]
    pub const fn new(forgery: Forgery) -> Self {
        Self(forgery)
    }
}

impl Actor for Spoofer {
    fn on_datagram(&mut self, _: &mut Stage<'_>, _: SocketAddr, _: SocketAddr, _: &[u8]) {}

    fn on_wake(&mut self, stage: &mut Stage<'_>) {
        for _ in self.0.pace.turns(stage) {
            let victim = stage.choices.pick(About::Adversary, &self.0.victims).copied();
            let asked = stage.choices.pick(About::Adversary, &self.0.asked).copied();
            let (Some(victim), Some(asked)) = (victim, asked) else { return };
            let tid: [u8; 4] = craft::random(stage.choices);
            let tid = tid.get(..self.0.tid_len).unwrap_or(&tid);
            let mut node = [0; SocketAddrV4::NODE_LEN];
            // Close to who is asked, who was asked for being close.
            let id = craft::near(asked.id.as_bytes(), 8, stage.choices);
            let _ = write_node(id, self.0.planted, &mut node);
            let peers = self.0.planted.compact();
            let mut reply = Reply::new(asked.id);
            reply.nodes = Some(&node);
            reply.token = Some(b"spoofed");
            reply.values = Some(Values::of::<SocketAddrV4>(&peers));
            stage.send(asked.addr, victim, craft::encode(tid, Body::Reply(reply)));
        }
    }
}
